"""Fitters compared: the same problems, from the same start, through the same stages.

    python benchmarks/fitters.py [--report FILE] [--problems 3]

Each fitter runs in a process of its own, on one thread. Time is CPU time, so that what else the machine does
hardly counts. Memory is what fits add to the resident memory at their peak, which Linux tells.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import torch
from scipy.optimize import least_squares

import partfit
from partfit.bench import THESIS, machine
from partfit.fitting import FitProblem, LevenbergMarquardt
from partfit.fitting.lm import closed_form_start
from partfit.fitting.objective import Objective
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

ITERATIONS = 20
NOISE_PX = 0.5
TOLERANCE = 1e-4
ADAM = {"rate": 0.01, "steps": (200, 2000)}
#: Fits of one problem, the quickest of which counts; one where a fit takes seconds.
REPEATS = {"theseus-autodiff": 1, "theseus-thesis": 1, "adam": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, help="write the figures here instead of to stdout")
    parser.add_argument("--problems", type=int, default=3)
    parser.add_argument("--landmarks", type=int, default=1609)
    parser.add_argument("--coefficients", type=int, default=200, help="of shape and expression")
    parser.add_argument("--only", choices=FITTERS, help="the figures of one fitter alone")
    arguments = parser.parse_args()
    problems = [
        problem(arguments.landmarks, arguments.coefficients, seed) for seed in range(arguments.problems)
    ]
    if arguments.only:
        print(json.dumps(figures(FITTERS[arguments.only], problems, REPEATS.get(arguments.only, 5))))
        return
    sizes = ("--problems", "--landmarks", "--coefficients")
    options = [f"{name}={getattr(arguments, name[2:])}" for name in sizes]
    report = {
        "machine": machine(),
        "landmarks": arguments.landmarks,
        "parameters": problems[0].model.n_parameters,
        "noise_px": NOISE_PX,
        "iterations": ITERATIONS,
        "tolerance": TOLERANCE,
        "adam": ADAM,
        "fitters": {name: apart(name, options) for name in FITTERS},
    }
    text = json.dumps(report, indent=1) + "\n"
    if arguments.report:
        arguments.report.write_text(text, encoding="utf-8")
    else:
        print(text)


def problem(n_landmarks: int, n_coefficients: int, seed: int) -> FitProblem:
    """One face in float32, with its start in closed form."""
    model = synthetic_model(2 * n_landmarks, n_coefficients // 2, n_coefficients - n_coefficients // 2)
    embedding = synthetic_embedding(model, n_landmarks)
    made, _ = synthetic_problem(model, embedding, seed=seed, noise_px=NOISE_PX, dtype=torch.float32)
    stages = tuple(attrs.evolve(stage, iterations=ITERATIONS) for stage in made.stages)
    return attrs.evolve(made, stages=stages, start=closed_form_start(made))


def apart(name: str, options: list[str]) -> dict[str, object]:
    """The figures of one fitter, from a process of its own on one thread."""
    one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    command = [sys.executable, __file__, "--only", name, *options]
    done = subprocess.run(command, env={**os.environ, **one}, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def figures(fit: "Fit", problems: list[FitProblem], repeats: int) -> dict[str, object]:
    torch.set_num_threads(1)
    fit(problem(20, 4, seed=0))  # imports what the fitter imports
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    found: dict[str, list] = {"cost": [], "iterations": [], "ms": []}
    for one in problems:
        timed = [timed_fit(fit, one) for _ in range(repeats)]
        (x, iterations), _ = timed[0]
        found["cost"].append(cost(one, x))
        found["iterations"].append(iterations)
        found["ms"].append(min(milliseconds for _, milliseconds in timed))
    return {**found, "memory_mb": resident("VmHWM") - before}


def resident(field: str) -> float:
    """Resident memory of this process now (VmRSS) or at its peak (VmHWM), in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1e3
    raise LookupError(field)


def timed_fit(fit: "Fit", one: FitProblem) -> tuple[tuple[torch.Tensor, int], float]:
    start = time.process_time()
    end = fit(one)
    return end, (time.process_time() - start) * 1e3


def doubled(one: FitProblem) -> FitProblem:
    """The problem in float64."""
    changes = {name: getattr(one, name).double() for name in ("points", "scale", "confidence", "start")}
    return attrs.evolve(one, **changes, camera=one.camera.to(changes["points"]))


@torch.no_grad()
def cost(one: FitProblem, x: torch.Tensor) -> float:
    """The cost of the last stage at x, in float64 for all fitters."""
    one = doubled(one)
    return Objective(one, one.stages[-1]).evaluate(x.double()).cost.item()


#: From a problem of one item to its solution (1, P) and the number of iterations.
Fit = Callable[[FitProblem], tuple[torch.Tensor, int]]


def by_component(name: str, **options: object) -> Fit:
    def fit(one: FitProblem) -> tuple[torch.Tensor, int]:
        fitter = partfit.create("fitter", name, **options) if name != "lm" else LevenbergMarquardt()
        result = fitter.fit(one)
        return result.x, int(result.iterations)

    return fit


@torch.no_grad()
def by_scipy(one: FitProblem) -> tuple[torch.Tensor, int]:
    """MINPACK's Levenberg-Marquardt in float64 with the closed-form Jacobian, stage after stage."""
    one = doubled(one)
    x, iterations = one.start.clone(), 0
    root = torch.as_tensor(np.concatenate([group.sqrt_information for group in one.model.groups]))
    landmarks = one.model.landmarks(one.embedding, one.points)
    for stage in one.stages:
        objective = Objective(one, stage, landmarks)
        columns = objective.columns

        def at(values: np.ndarray, x: torch.Tensor = x, columns: torch.Tensor = columns) -> torch.Tensor:
            return x.index_copy(1, columns, torch.as_tensor(values)[None])

        def residuals(values: np.ndarray, objective: Objective = objective, at: Callable = at) -> np.ndarray:
            here = objective.evaluate(at(values))
            prior = root * (here.x - objective.mean)
            return torch.cat([here.residuals[0].flatten(), prior.flatten()]).numpy()

        def jacobian(values: np.ndarray, objective: Objective = objective, at: Callable = at) -> np.ndarray:
            here = objective.evaluate(at(values))
            own = objective.jacobian(objective.reprojection, here, torch.ones_like(here.slopes[0]))
            return torch.cat([own[0], root.diag()[:, objective.columns]]).numpy()

        start = x[0, columns].numpy()
        found = least_squares(residuals, start, jacobian, method="lm", x_scale="jac", ftol=TOLERANCE)
        x, iterations = at(found.x), iterations + found.njev
    return x, iterations


def by_adam(one: FitProblem) -> tuple[torch.Tensor, int]:
    """Adam on the cost, stage after stage, its rate falling to 0 along half a cosine."""
    x = one.start.clone()
    landmarks = one.model.landmarks(one.embedding, one.points)
    for stage, steps in zip(one.stages, ADAM["steps"], strict=True):
        objective = Objective(one, stage, landmarks)
        free = x[:, objective.columns].requires_grad_()
        optimizer = torch.optim.Adam([free], lr=ADAM["rate"])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            objective.evaluate(x.index_copy(1, objective.columns, free)).cost.sum().backward()
            optimizer.step()
            schedule.step()
        x = x.index_copy(1, objective.columns, free.detach())
    return x, sum(ADAM["steps"])


FITTERS: dict[str, Fit] = {
    "lm": by_component("lm"),
    "theseus-closed-form": by_component("theseus"),
    "theseus-autodiff": by_component("theseus", cost="autodiff"),
    "theseus-thesis": by_component("theseus", cost="autodiff", **THESIS),
    "scipy": by_scipy,
    "adam": by_adam,
}

if __name__ == "__main__":
    main()
