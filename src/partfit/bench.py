"""Speed figures: the fit at several sizes and batch sizes, the whole way from a photograph, start-up.

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

from partfit import __version__
from partfit.fitting import LevenbergMarquardt
from partfit.fitting.lm import closed_form_start
from partfit.fitting.objective import Objective
from partfit.images import load_picture
from partfit.pipeline import Pipeline
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

#: Landmarks, rows' support, betas, expressions: a face mesh on the default model, dense sets on a large one.
SIZES = ((101, 1, 100, 100), (403, 1, 100, 100), (468, 3, 80, 52), (805, 1, 100, 100), (1609, 1, 100, 100))
BATCHES = (1, 2, 4, 8, 16)
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

    `jacobian` is that of the projected landmarks by all parameters, with the landmarks themselves.
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
    result = fitter.fit(problem)
    return {
        "landmarks": n_landmarks,
        "parameters": model.n_parameters,
        "batch": batch,
        "iterations": result.iterations.double().mean().item(),
        "ms_an_item": {
            "start": _best_ms(lambda: closed_form_start(problem), repeats) / batch,
            "jacobian": _best_ms(lambda: landmarks.linearize(x).jacobian(projection, groups), repeats)
            / batch,
            "evaluate": _best_ms(lambda: objective.evaluate(x), repeats) / batch,
            "normal_equations": _best_ms(lambda: objective.normal_equations(here), repeats) / batch,
            "rigid_stage": _best_ms(lambda: fitter.fit(rigid), repeats) / batch,
            "both_stages": _best_ms(lambda: fitter.fit(problem), repeats) / batch,
        },
    }


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
