"""Speed figures: the fit at several sizes and batches, fitters, the whole way from a photograph, start-up.

Machines differ, so that a matrix product is timed in the same run: judge by ratios to it.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from PIL import Image

from partfit import __version__, create, default_registry
from partfit.fitting import FitProblem, FitResult, Fitter, LevenbergMarquardt, Stage
from partfit.fitting.lm import closed_form_start
from partfit.fitting.objective import Objective
from partfit.images import load_picture
from partfit.models import SkinnedModel
from partfit.pipeline import Pipeline
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

#: Landmarks, rows' support, betas, expressions: a face mesh on the default model, dense sets on a large one.
SIZES = ((101, 1, 100, 100), (403, 1, 100, 100), (468, 3, 80, 52), (805, 1, 100, 100), (1609, 1, 100, 100))
BATCHES = (1, 2, 4, 8, 16)
#: Of the comparison of fitters: a dense set on a large model, and the thesis' iterations of each stage.
FITTERS_SIZE = (1609, 1, 100, 100)
FITTERS_ITERATIONS = 20
#: As the thesis ran Theseus: a fixed damping, added to the diagonal, until the cost stands still.
THESIS = {"damping": "additive", "initial_damping": 1e-3, "adaptive_damping": False, "tolerance": 1e-8}
GEMM_SIDE = 1024
#: Longer side of the photograph for the whole way.
PICTURE_SIDE = 1000


def run_benchmarks(
    *, threads: int | None = None, repeats: int = 5, picture: str | None = None
) -> dict[str, Any]:
    """All figures, ready for JSON.

    Args:
        threads: Torch threads; by default torch's own choice.
        repeats: Each figure is the best of so many.
        picture: Photograph for the whole way; left out for None.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    report = {
        "machine": machine(),
        "gemm_before": _gemm(repeats),
        "import_cpu_s": _import_seconds(repeats),
        "fit": [_fit_figures(size, batch, repeats) for size in SIZES for batch in BATCHES],
    }
    if any(record.name == "theseus" for record in default_registry().components("fitter")):
        report["fitters"] = _fitters_figures(repeats)
    if picture is not None:
        report["picture"] = _picture_figures(picture, repeats)
    return {**report, "gemm_after": _gemm(repeats)}


def _best_ms(function: Callable[[], Any], repeats: int) -> float:
    """Milliseconds of the fastest of some calls, after one to warm up."""
    function()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def machine() -> dict[str, Any]:
    """On what figures were taken: processor, cores, threads, versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "partfit": __version__,
    }


def _processor() -> str:
    """The processor's name, where the system tells it."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gemm(repeats: int) -> dict[str, float]:
    """The reference: a float32 product of two square matrices."""
    matrix = torch.randn(GEMM_SIDE, GEMM_SIDE, generator=torch.Generator().manual_seed(0))
    milliseconds = _best_ms(lambda: matrix @ matrix, max(repeats, 5))
    return {"side": GEMM_SIDE, "ms": milliseconds, "gflops": 2e-6 * GEMM_SIDE**3 / milliseconds}


def _import_seconds(repeats: int) -> float:
    """CPU seconds that `import partfit` adds to a bare interpreter."""

    def seconds(code: str) -> float:
        best = float("inf")
        for _ in range(repeats):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return best

    return seconds("import partfit") - seconds("pass")


def _fit_figures(size: tuple[int, int, int, int], batch: int, repeats: int) -> dict[str, Any]:
    """One size and batch: the parts of an iteration, and a whole fit of both stages, per item.

    `jacobian` is that of the projected landmarks by all parameters, with the landmarks themselves;
    `products` is what `_products` takes, once for each iteration of each stage, and `over_products` the whole
    fit of both stages over that.
    """
    n_landmarks, support, n_betas, n_expression = size
    model = synthetic_model(max(2 * n_landmarks, 500), n_betas, n_expression)
    embedding = synthetic_embedding(model, n_landmarks, support)
    problem, _ = synthetic_problem(model, embedding, batch, noise_px=0.5, dtype=torch.float32)
    fitter = LevenbergMarquardt()
    objective = Objective(problem, problem.stages[-1])
    rigid = attrs.evolve(problem, stages=problem.stages[:1])
    x = closed_form_start(problem)
    here = objective.evaluate(x)
    landmarks, projection = objective.landmarks, torch.ones(*here.landmarks.points.shape[:2], 2, 3)
    groups = tuple(model.slices)
    iterations = fitter.fit(problem).iterations
    rigid_iterations = fitter.fit(rigid).iterations
    # a batch goes on until its last item has ended
    counts = (int(rigid_iterations.max()), int((iterations - rigid_iterations).max()))
    products = sum(
        count * _best_ms(_products(problem, stage), repeats) / batch
        for count, stage in zip(counts, problem.stages, strict=True)
    )
    both_stages = _best_ms(lambda: fitter.fit(problem), repeats) / batch
    return {
        "landmarks": n_landmarks,
        "parameters": model.n_parameters,
        "batch": batch,
        "iterations": iterations.double().mean().item(),
        "over_products": both_stages / products,
        "ms_an_item": {
            "start": _best_ms(lambda: closed_form_start(problem), repeats) / batch,
            "jacobian": _best_ms(lambda: landmarks.linearize(x).jacobian(projection, groups), repeats)
            / batch,
            "evaluate": _best_ms(lambda: objective.evaluate(x), repeats) / batch,
            "normal_equations": _best_ms(lambda: objective.normal_equations(here), repeats) / batch,
            "rigid_stage": _best_ms(lambda: fitter.fit(rigid), repeats) / batch,
            "both_stages": both_stages,
            "products": products,
        },
    }


def _products(problem: FitProblem, stage: Stage) -> Callable[[], object]:
    """The products without which no Gauss-Newton iteration of a skinned model can be, and nothing else.

    On random numbers, of the shapes, batch and dtype of a stage: those that form the landmarks' Jacobian J
    (blend shapes, what moving joints carry along, turns of joints), J^T J, J^T r, and Cholesky's
    factorisation and solution, in float64 as the fitter has them.
    """
    model = problem.model
    assert isinstance(model, SkinnedModel)
    batch, n_landmarks = problem.points.shape[:2]
    support, joints = problem.embedding.indices.shape[1], 3 * len(model.arrays.joints)
    rows, columns = 2 * n_landmarks, len(model.columns(stage.free))
    rigid = all(model.group(name).rigid for name in stage.free)

    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=problem.points.dtype)

    through, blendshapes = (
        random(n_landmarks, 2 * batch, 3 * support),
        random(n_landmarks, 3 * support, columns),
    )
    carried, offsets = random(batch, rows, joints), random(batch, joints, columns)
    turned = 3 if rigid else joints
    levers, turns = random(batch, rows, turned), random(batch, turned, turned)
    residual, gradient = random(batch, 1, rows), random(batch, columns, 1).double()
    factor = random(batch, columns, columns).double()
    definite = factor @ factor.transpose(1, 2) + columns * torch.eye(columns, dtype=torch.float64)
    rigid_jacobian = random(batch, rows, columns)

    def products() -> object:
        jacobian = rigid_jacobian
        if not rigid:
            jacobian = torch.bmm(through, blendshapes).view(rows, batch, columns).transpose(0, 1)
            jacobian.baddbmm_(carried, offsets)
        root, _ = torch.linalg.cholesky_ex(definite)
        return (
            levers @ turns,
            jacobian.transpose(1, 2) @ jacobian,
            residual @ jacobian,
            torch.cholesky_solve(gradient, root),
        )

    return products


def _fitters_figures(repeats: int) -> dict[str, Any]:
    """Theseus, with either cost, beside `lm`: one face of a large model, the same start and stages.

    `autodiff_thesis` is the thesis' way in the thesis' settings, see `THESIS`; all others have their
    defaults. Theseus by autodiff is timed once, after one iteration to warm up.
    """
    n_landmarks, support, n_betas, n_expression = FITTERS_SIZE
    model = synthetic_model(max(2 * n_landmarks, 500), n_betas, n_expression)
    embedding = synthetic_embedding(model, n_landmarks, support)
    problem, _ = synthetic_problem(model, embedding, noise_px=0.5, dtype=torch.float32)
    stages = tuple(attrs.evolve(stage, iterations=FITTERS_ITERATIONS) for stage in problem.stages)
    problem = attrs.evolve(problem, stages=stages, start=closed_form_start(problem))
    fitters = {
        "lm": LevenbergMarquardt(),
        "closed_form": create("fitter", "theseus"),
        "autodiff": create("fitter", "theseus", cost="autodiff"),
        "autodiff_thesis": create("fitter", "theseus", cost="autodiff", **THESIS),
    }
    milliseconds, results = {}, {}
    for name, fitter in fitters.items():
        milliseconds[name], results[name] = _timed_fit(fitter, problem, name, repeats)
    return {
        "landmarks": n_landmarks,
        "parameters": model.n_parameters,
        "batch": 1,
        "ms": milliseconds,
        "iterations": {name: int(result.iterations) for name, result in results.items()},
        "cost": {name: float(result.cost) for name, result in results.items()},
        "times_as_fast": {
            base: {name: milliseconds[base] / milliseconds[name] for name in ("closed_form", "lm")}
            for base in ("autodiff", "autodiff_thesis")
        },
    }


def _timed_fit(fitter: Fitter, problem: FitProblem, name: str, repeats: int) -> tuple[float, FitResult]:
    """Milliseconds of a fit, the best of some where it is quick, and its result."""
    if not name.startswith("autodiff"):
        return _best_ms(lambda: fitter.fit(problem), repeats), fitter.fit(problem)
    fitter.fit(attrs.evolve(problem, stages=(attrs.evolve(problem.stages[-1], iterations=1),)))
    start = time.perf_counter()
    result = fitter.fit(problem)
    return (time.perf_counter() - start) * 1e3, result


def _picture_figures(path: str, repeats: int) -> dict[str, Any]:
    """The whole way from a JPEG file of `PICTURE_SIDE` pixels to vertices, warm, without writing files."""
    pipeline = Pipeline()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.jpg"
        picture = Image.fromarray(load_picture(path).pixels)
        zoom = PICTURE_SIDE / max(picture.size)
        picture = picture.resize((round(picture.width * zoom), round(picture.height * zoom)))
        picture.save(file, quality=90)
        best: dict[str, float] = {}
        for _ in range(repeats + 1):
            start = time.perf_counter()
            result = pipeline(file)[0]
            _ = [instance.vertices for instance in result]
            total = (time.perf_counter() - start) * 1e3
            for name, value in {**result.timings_ms, "total": total}.items():
                best[name] = min(best.get(name, float("inf")), value)
    return {"size": list(picture.size), "instances": len(result), "ms": best}
