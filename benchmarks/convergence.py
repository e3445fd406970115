"""How often fits that start in closed form reach the minimum, and whether covariances hold.

    python benchmarks/convergence.py [--out FILE] [--problems N] [--subject NAME ...] [--case WORD ...]

Problems are drawn from the priors of the bundled model `anny-head`, with every tenth vertex of face, ears and
irises as landmarks, and of a synthetic model with FLAME's 218 parameters (202 landmarks), seen by 512-pixel
cameras from 0.5 to 1.2 m, turned in the picture by any angle and nodding by 10 degrees (standard deviation).
Landmarks are off by 1.5 px, which is their scale.

`success` is the share of fits whose cost is at most 0.1 % above that of a fit of the same problem that starts
from the truth; `same_place` that of fits whose landmarks are, in the root mean square, within half the noise
of where that other fit has them. `error` is the root mean square distance of projected landmarks, all of
them, from the truth, in units of the noise. The fits are those of a recipe: 10 rigid iterations, then 30 with
identity, expression, jaw or eyes.

`statistics` compares errors with covariances and with the van Trees bound, at several levels of noise, for
twice as many problems of a small synthetic model; see `partfit.testing.drawn`.

FILE (by default convergence.json beside this script) is written after each row, and rows that it has already
are kept. `convergence_page.py` makes a page of it.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import attrs
import numpy as np
import torch

import partfit
from partfit.fitting import FitProblem, FitStatus, LevenbergMarquardt, Stage
from partfit.fitting.problem import KernelName
from partfit.fitting.uncertainty import landmark_covariance, vertex_covariance
from partfit.geometry.camera import Camera
from partfit.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models import SkinnedModel
from partfit.testing.drawn import Drawn, calibration, drawn_problem
from partfit.testing.synthetic import synthetic_embedding, synthetic_model

SIDE, NOISE_PX = 512, 1.5
RIGID = ("global_orient", "transl")
#: Items that are fitted together.
BATCH = 25
#: A cost is that of the minimum when it is no more above it than this share.
TOLERANCE = 1e-3


@attrs.frozen
class Case:
    """What is hard about a problem.

    Attributes:
        yaw: The head's turn to either side, degrees.
        focal: The camera's focal length over the true one.
        joint: Whether the focal length is estimated; the prior's standard deviation of its logarithm is 0.3.
        outliers: Share of landmarks that lie anywhere in the picture.
        missing: Share of landmarks that are missing at random, or `half` for all of one side of the face.
        kernel: Of both stages.
        fitter: Which one.
    """

    yaw: float = 0.0
    focal: float = 1.0
    joint: bool = False
    outliers: float = 0.0
    missing: float | str = 0.0
    kernel: KernelName = "none"
    fitter: str = "lm"


@attrs.frozen(eq=False)
class Subject:
    """A model with its landmarks.

    Attributes:
        model: The model.
        embedding: The landmarks.
        free: The groups that are drawn and fitted, besides the rigid ones.
    """

    model: SkinnedModel
    embedding: LandmarkEmbedding
    free: tuple[str, ...]


HARD = {"yaw": 45.0, "outliers": 0.3}
CASES = {
    "turned": [Case(yaw=yaw) for yaw in (0.0, 15.0, 30.0, 45.0, 60.0, 75.0)],
    "focal length": [
        Case(yaw=30.0, focal=focal, joint=joint) for focal in (0.7, 1.3) for joint in (False, True)
    ],
    "missing": [Case(yaw=60.0, missing=missing) for missing in (0.4, "half")],
    "outliers": [
        Case(yaw=60.0, outliers=0.3, kernel=kernel) for kernel in ("none", "huber", "cauchy", "geman_mcclure")
    ],
    "together": [
        Case(**HARD, missing=0.4, kernel="huber"),
        Case(**HARD, missing=0.4, kernel="geman_mcclure"),
        Case(**HARD, missing="half", kernel="geman_mcclure"),
        Case(**HARD, missing=0.4, focal=0.7, joint=True, kernel="geman_mcclure"),
    ],
    "theseus": [Case(yaw=75.0, fitter="theseus"), Case(**HARD, kernel="huber", fitter="theseus")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("convergence.json"))
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--case", nargs="*", default=list(CASES))
    parser.add_argument("--subject", nargs="*", default=list(SUBJECTS))
    parser.add_argument("--noise", nargs="*", type=float, default=[0.25, 0.5, 2.0, 8.0, 32.0])
    arguments = parser.parse_args()
    report = {"cells": [], "statistics": []}
    if arguments.out.exists():
        report = json.loads(arguments.out.read_text(encoding="utf-8"))
    report["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }

    def keep(rows: list[dict], row: dict) -> None:
        rows.append(row)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(row), flush=True)

    for name in arguments.subject:
        subject = SUBJECTS[name]()
        for topic in arguments.case:
            for case in CASES[topic]:
                key = {"subject": name, "topic": topic, **attrs.asdict(case)}
                if not any(key.items() <= row.items() for row in report["cells"]):
                    keep(report["cells"], {**key, **measured(subject, case, arguments.problems)})
    for noise in arguments.noise:
        for deviation in (0.0, 0.1):
            key = {"noise_px": noise, "focal_deviation": deviation}
            if not any(key.items() <= row.items() for row in report["statistics"]):
                keep(report["statistics"], {**key, **statistics(noise, deviation, 2 * arguments.problems)})


def anny_head() -> Subject:
    """The Anny head with every tenth vertex of face, ears and irises."""
    dense = partfit.create("embedding", "anny-head/anny-face-ears")
    chosen = np.arange(0, len(dense.scheme), 10)
    scheme = LandmarkScheme("anny-face-ears-tenth", [dense.scheme.names[k] for k in chosen])
    embedding = LandmarkEmbedding(scheme, dense.topology, dense.indices[chosen], dense.weights[chosen])
    model = partfit.create("model", "anny-head")
    return Subject(model, embedding, ("betas", "expression", "leye_pose", "reye_pose"))


def flame_sized() -> Subject:
    """A synthetic model with FLAME's numbers of parameters, and 202 landmarks."""
    model = synthetic_model(2000, 100, 100)
    return Subject(model, synthetic_embedding(model, 202), ("betas", "expression", "jaw_pose"))


SUBJECTS = {"anny-head": anny_head, "synthetic": flame_sized}


def measured(subject: Subject, case: Case, problems: int) -> dict[str, object]:
    """Success and errors of a case."""
    began = time.perf_counter()
    success, same, error, iterations, ended = [], [], [], [], []
    for first in range(0, problems, BATCH):
        problem, truth, exact = posed(subject, case, min(BATCH, problems - first), seed=first)
        fitter = partfit.create("fitter", case.fitter)
        result = fitter.fit(problem)
        best = fitter.fit(attrs.evolve(problem, start=truth))
        success.append(result.cost <= (1 + TOLERANCE) * best.cost)
        same.append(apart(result.projected(), best.projected()) <= 0.5)
        error.append(apart(result.projected(), exact))
        iterations.append(result.iterations)
        ended += result.status
    return {
        "problems": problems,
        "success": torch.cat(success).double().mean().item(),
        "same_place": torch.cat(same).double().mean().item(),
        "error": quantiles(torch.cat(error)),
        "iterations": torch.cat(iterations).double().mean().item(),
        "status": {str(status): ended.count(status) for status in FitStatus if status in ended},
        "seconds": time.perf_counter() - began,
    }


def apart(points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Root mean square distance (B,) of points (B, L, 2), in units of the noise."""
    return (points - others).square().sum(-1).mean(1).sqrt() / NOISE_PX


def quantiles(values: torch.Tensor) -> dict[str, float]:
    middle, high = np.quantile(np.nan_to_num(values.double().numpy(), nan=np.inf), [0.5, 0.95])
    return {"median": float(middle), "95%": float(high)}


def posed(
    subject: Subject, case: Case, batch: int, seed: int
) -> tuple[FitProblem, torch.Tensor, torch.Tensor]:
    """Problems of a case, where a fit of them starts from the truth, and where the landmarks are."""
    rng = np.random.default_rng([seed, int(case.yaw)])
    model, landmarks = subject.model, subject.model.landmarks(subject.embedding, torch.zeros(()))
    drawn = {name: model.group(name).sample(rng, batch) for name in subject.free}
    drawn["global_orient"] = turns(rng, case.yaw, batch)
    x = model.pack({name: torch.as_tensor(value).float() for name, value in drawn.items()}, torch.zeros(()))
    depth = rng.uniform(0.5, 1.2, size=(batch, 1))
    middle = torch.as_tensor(np.concatenate([rng.normal(size=(batch, 2)) * 0.08 * depth, depth], 1)).float()
    x[:, model.slices["transl"]] = middle - landmarks.points(x).mean(1)
    true = Camera.for_images([(SIDE, SIDE)] * batch)
    exact = true.project(landmarks.points(x))
    points = exact + NOISE_PX * torch.as_tensor(rng.normal(size=exact.shape)).float()
    lost = torch.as_tensor(rng.random(points.shape[:2]) < case.outliers)
    anywhere = torch.as_tensor(rng.uniform(0, SIDE, size=points.shape)).float()
    points = torch.where(lost[..., None], anywhere, points)
    points = torch.where(torch.as_tensor(left_out(subject, case, rng, batch))[..., None], torch.nan, points)
    start = x.clone()  # seen with another focal length the head is as much nearer or farther away
    start[:, model.slices["transl"]][:, 2] += (case.focal - 1) * middle[:, 2]
    problem = FitProblem(
        model,
        subject.embedding,
        points,
        torch.full_like(points, NOISE_PX),
        torch.ones_like(points[..., 0]),
        attrs.evolve(true, focal=case.focal * true.focal),
        stages=(
            Stage(RIGID, 10, case.kernel),
            Stage((*subject.free, *RIGID), 30, case.kernel, focal=case.joint),
        ),
        focal_deviation=0.3 if case.joint else 0.0,
    )
    return problem, start, exact


def turns(rng: np.random.Generator, yaw: float, batch: int):
    """Rotation vectors (B, 3) of heads that face the camera, turned to either side, nodding, and rolled."""

    def about(axis: int, degrees):
        return rotvec_to_matrix(torch.as_tensor(np.radians(degrees)[:, None] * np.eye(3)[axis]))

    side = about(1, yaw * rng.choice([-1.0, 1.0], size=batch))
    nod, roll = about(0, 180 + 10 * rng.normal(size=batch)), about(2, rng.uniform(-180, 180, size=batch))
    return matrix_to_rotvec(roll @ nod @ side)


def left_out(subject: Subject, case: Case, rng: np.random.Generator, batch: int):
    """(B, L) landmarks that are missing."""
    if case.missing == "half":
        x = subject.embedding.apply(subject.model.arrays.v_template)[:, 0]
        return x * rng.choice([-1.0, 1.0], size=(batch, 1)) > 0
    return rng.random((batch, len(subject.embedding.scheme))) < case.missing


def statistics(noise_px: float, focal_deviation: float, problems: int) -> dict[str, object]:
    """Errors beside covariances and bound, of a small synthetic model that takes few seconds."""
    model = synthetic_model(120)
    drawn = drawn_problem(
        model, synthetic_embedding(model, 80), problems, noise_px=noise_px, focal_deviation=focal_deviation
    )
    result = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-8)).fit(drawn.problem)
    errors, covariance, bound = drawn.errors(result), result.covariance(), drawn.van_trees_bound()
    rows = {}
    for name, where in drawn.names.items():
        square, least = errors[:, where].square().mean().item(), bound.diagonal()[where].mean().item()
        rows[name] = attrs.asdict(calibration(errors[:, where], covariance[:, where, where]))
        rows[name] |= {"rms_error": square**0.5, "bound": least**0.5, "over_bound": square / least}
    return {"problems": problems, "rows": rows | points(drawn, result)}


def points(drawn: Drawn, result) -> dict[str, dict[str, float]]:
    """The like for vertices, in the camera's and in the model's frame, and for landmarks."""
    model, x, true = drawn.problem.model, result.x, drawn.problem.split(drawn.states)[0]
    shape, true_shape = (model.vertices(model.without_rigid_motion(v)) for v in (x, true))
    pairs = {
        "vertices": (model.vertices(x) - model.vertices(true), vertex_covariance(result)),
        "shape": (shape - true_shape, vertex_covariance(result, frame="model")),
        "landmarks": (result.projected() - drawn.projected(drawn.states), landmark_covariance(result)),
    }
    return {name: attrs.asdict(calibration(*pair)) for name, pair in pairs.items()}


if __name__ == "__main__":
    main()
