"""How far gradients through a fit are from those of the minimum, and what they cost.

    python benchmarks/gradients.py > benchmarks/gradients.json

A loss on the vertices of fits is differentiated by landmarks and scales, in every mode of `Backward`, through
`lm`, and for one of the noises through `theseus`. What counts as true is `implicit` with the full Hessian
through `lm`, brought to the minimum as far as float64 goes; `finite_differences` is how far that is from
differences of refitted losses along a random direction of the landmarks. For each problem the noise of the
landmarks varies; the scales say what it is. Errors are |g - true| / |true| of each item; `error` is their
median, `worst` their maximum, `cosine` the least of the cosines between the two. Items that fail, or whose
gradient is not finite, count as `failed`. `float32` is the same for some modes in that precision.

`cost` is what the loss and its gradient take beside the same fitter's fit alone: processor time on one
thread, the best of several runs in turn, and the peak of the memory of tensors.
"""

import argparse
import json
import time
import weakref
from collections.abc import Callable
from functools import partial

import attrs
import numpy as np
import torch
from heads import FREE, RIGID, face_landmarks, placed, random_heads
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

import partfit
from partfit.fitting import Backward, FitLayer, FitProblem, FitStatus, LevenbergMarquardt, Stage
from partfit.geometry.camera import Camera
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

#: Standard deviations of the noise, pixels; where there is none the scales are those of `synthetic_problem`.
NOISE = (0.0, 0.5, 1.5, 3.0)
#: A further problem: this noise, a share of landmarks that are off by so many scales, and a robust kernel.
OUTLIERS = {"noise_px": 1.5, "share": 0.1, "scales": 15.0, "kernel": "huber"}
TRUNCATED = (1, 2, 3, 4, 6)
UNROLLED = (2, 4, 6, 10)
MODES = (
    Backward(),
    Backward(hessian="gauss-newton"),
    *(Backward("truncated", steps=steps) for steps in TRUNCATED),
    *(Backward("unrolled", steps=steps) for steps in UNROLLED),
)
#: Those that are compared in float32, too.
SINGLE = (Backward(), Backward("truncated", steps=4), Backward("unrolled", steps=10))
#: Those whose cost is measured.
COSTED = (
    Backward(),
    Backward(hessian="gauss-newton"),
    Backward("truncated", steps=2),
    Backward("truncated", steps=6),
    Backward("unrolled", steps=6),
    Backward("unrolled", steps=10),
)
#: Noise, pixels, at which the cost is measured, and what takes another fitter or float32.
TYPICAL = 1.5
ITEMS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2, help="of timed runs")
    parser.add_argument("--problem", choices=tuple(MAKERS), help="by default all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = [arguments.problem] if arguments.problem else list(MAKERS)
    report = {
        "items": ITEMS,
        "torch": torch.__version__,
        "problems": [problem_report(name, MAKERS[name], arguments.repeats) for name in names],
    }
    print(json.dumps(report, indent=1))


def synthetic(noise_px: float) -> tuple[FitProblem, torch.Tensor]:
    """A made-up model with few landmarks, and its states."""
    model = synthetic_model()
    return synthetic_problem(model, synthetic_embedding(model, 60), ITEMS, noise_px=noise_px)


def anny(noise_px: float) -> tuple[FitProblem, torch.Tensor]:
    """Anny heads, 0.6 m away, in pictures of 256 pixels, seen by every sixteenth of the dense landmarks."""
    rng = np.random.default_rng(1)
    model, embedding = partfit.create("model", "anny-head"), face_landmarks(every=16)
    middle = torch.as_tensor(rng.normal(size=(ITEMS, 3)) * [0.02, 0.02, 0.05] + [0, 0, 0.6])
    truth = placed(model, embedding, random_heads(model, ITEMS, 0.5, rng), middle)
    camera = Camera.for_images([(256, 256)] * ITEMS, [450.0] * ITEMS, dtype=torch.float64)
    points = camera.project(model.landmarks(embedding, truth).points(truth))
    points = points + noise_px * torch.as_tensor(rng.normal(size=points.shape))
    problem = FitProblem(
        model,
        embedding,
        points,
        torch.full_like(points, noise_px or 0.1),
        torch.ones_like(points[..., 0]),
        camera,
        (Stage(RIGID, 10), Stage(FREE, 40)),
    )
    return problem, truth


def with_outliers(problem: FitProblem) -> FitProblem:
    """The problem with some landmarks far off, and the kernel for them."""
    rng = np.random.default_rng(2)
    wild = torch.as_tensor(rng.random(problem.points.shape[:2]) < OUTLIERS["share"])[..., None]
    away = OUTLIERS["scales"] * problem.scale * torch.as_tensor(rng.normal(size=problem.points.shape))
    stages = tuple(attrs.evolve(stage, kernel=OUTLIERS["kernel"]) for stage in problem.stages)
    return attrs.evolve(
        problem, points=torch.where(wild, problem.points + away, problem.points), stages=stages
    )


MAKERS = {"synthetic": synthetic, "anny-head": anny}
Loss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def loss_through(problem: FitProblem, truth: torch.Tensor, fitter, backward: Backward) -> Loss:
    """The loss of landmarks and scales, summed over the items, and which items failed.

    It is the mean squared distance, mm^2, of the fitted vertices from those of the mean shape in the true
    pose: one whose gradient does not vanish with the noise.
    """
    model = problem.model
    layer = FitLayer(model, problem.embedding, problem.stages, fitter, backward, problem.weighting)
    mean = truth.clone()
    for name in model.slices:
        if not model.group(name).rigid:
            mean[:, model.slices[name]] = torch.as_tensor(model.group(name).prior_mean.copy())
    target = model.vertices(mean)

    def loss(points: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        result = layer(points, scale, problem.camera)
        failed = torch.tensor([status is FitStatus.FAILED for status in result.status])
        square = (1e3 * (result.vertices() - target)).square().sum(-1).mean(1)
        return square[~failed].sum(), failed

    return loss


def gradients(problem: FitProblem, loss: Loss) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Of the loss, by landmarks and scales, (B, L, 2) each; which items failed."""
    leaves = {name: getattr(problem, name).clone().requires_grad_() for name in ("points", "scale")}
    value, failed = loss(**leaves)
    if not bool(failed.all()):
        value.backward()
    return {name: leaf.grad for name, leaf in leaves.items()}, failed


def problem_report(name: str, make, repeats: int) -> dict[str, object]:
    cases = [({"noise_px": noise, "kernel": "none"}, *make(noise)) for noise in NOISE]
    wild, truth = make(OUTLIERS["noise_px"])
    cases.append((OUTLIERS, with_outliers(wild), truth))
    first = cases[0][1]
    fitters = {"lm": LevenbergMarquardt(), "theseus": partfit.create("fitter", "theseus")}
    return {
        "model": name,
        "landmarks": len(first.embedding.scheme),
        "parameters": len(first.model.columns(first.stages[-1].free)),
        "cases": [{**case, **errors(case, problem, truth, fitters)} for case, problem, truth in cases],
        "cost": costs(*make(TYPICAL), fitters, repeats),
    }


def errors(case: dict[str, object], problem: FitProblem, truth: torch.Tensor, fitters) -> dict[str, object]:
    exact = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-12))
    loss = loss_through(problem, truth, exact, Backward())
    true, failed = gradients(problem, loss)
    assert not bool(failed.any())
    figures: dict[str, object] = {"finite_differences": difference(problem, loss, true["points"])}
    typical = case == {"noise_px": TYPICAL, "kernel": "none"}
    for name, fitter in fitters.items():
        if name == "lm" or typical:
            figures[name] = [
                {**words(mode), **deviations(problem, truth, fitter, mode, true)} for mode in MODES
            ]
    if typical:
        single, lm = in_float32(problem), fitters["lm"]
        figures["float32"] = [
            {**words(mode), **deviations(single, truth.float(), lm, mode, true)} for mode in SINGLE
        ]
    return figures


def in_float32(problem: FitProblem) -> FitProblem:
    values = {name: getattr(problem, name).float() for name in ("points", "scale", "confidence")}
    return attrs.evolve(problem, **values, camera=problem.camera.to(values["points"]))


def words(mode: Backward) -> dict[str, object]:
    own = {"hessian": mode.hessian} if mode.mode == "implicit" else {"steps": mode.steps}
    return {"mode": mode.mode, **own}


def difference(problem: FitProblem, loss: Loss, gradient: torch.Tensor) -> float:
    """Relative difference of a directional derivative and central differences of the loss."""
    direction = torch.as_tensor(np.random.default_rng(3).normal(size=gradient.shape))
    h = 1e-5  # so small that no parameter meets a limit in between
    with torch.no_grad():
        ahead, behind = (loss(problem.points + s * h * direction, problem.scale)[0] for s in (1, -1))
    numeric = ((ahead - behind) / (2 * h)).item()
    return abs((gradient * direction).sum().item() / numeric - 1)


def deviations(problem: FitProblem, truth, fitter, mode: Backward, true) -> dict[str, object]:
    found, failed = gradients(problem, loss_through(problem, truth, fitter, mode))
    finite = [torch.isfinite(gradient).all(dim=(1, 2)) for gradient in found.values()]
    kept = torch.stack([~failed, *finite]).all(dim=0)
    figures: dict[str, object] = {"failed": int((~kept).sum())}
    for name, reference in true.items():
        if not bool(kept.any()):
            continue
        g, t = found[name][kept].double().flatten(1), reference[kept].flatten(1)
        error = (g - t).norm(dim=1) / t.norm(dim=1)
        cosine = (g * t).sum(1) / (g.norm(dim=1) * t.norm(dim=1))
        figures[name] = {
            "error": error.median().item(),
            "worst": error.max().item(),
            "cosine": cosine.min().item(),
        }
    return figures


def costs(problem: FitProblem, truth: torch.Tensor, fitters, repeats: int) -> list[dict[str, object]]:
    """Time and memory of the loss and its gradient beside the fit alone."""
    rows = []
    for name, fitter in fitters.items():
        losses = [loss_through(problem, truth, fitter, mode) for mode in COSTED]
        runs = [partial(fitter.fit, problem), *(partial(gradients, problem, loss) for loss in losses)]
        seconds = np.array([[processor_seconds(run) for run in runs] for _ in range(1 + repeats)])[1:].min(0)
        peaks = [peak_bytes(run) for run in runs]
        rows += [
            {
                "fitter": name,
                **words(mode),
                "time": own / seconds[0],
                "memory": peak / peaks[0],
                "memory_mb": peak / 1e6,
            }
            for mode, own, peak in zip(COSTED, seconds[1:], peaks[1:], strict=True)
        ]
    return rows


def processor_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def peak_bytes(run: Callable[[], object]) -> int:
    """Most memory that tensors made during a run hold together, bytes."""
    with _Memory() as memory:
        run()
    return memory.peak


class _Memory(TorchDispatchMode):
    """Counts the storages of all results of operations until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


if __name__ == "__main__":
    main()
