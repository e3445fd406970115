"""Speed of the model `flame` on a made-up file of full size, as JSON: `python benchmarks/models.py`.

Loading: the model from the official form (a pickle with chumpy arrays), and from what `partfit convert` makes
of it. Jacobian: landmarks of 1609 vertices and their derivative in the picture, float32, milliseconds an
item, by 100 shape and 100 expression coefficients (200), and by root, neck, jaw, eyes and translation as well
(218). Best of several.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import partfit
from partfit.fitting.objective import Objective
from partfit.model_files import read_model_file, write_model_file
from partfit.testing.official.flame import flame_content, write_flame
from partfit.testing.synthetic import synthetic_problem

N_LANDMARKS = 1609


def best(function: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(repeats + 1):  # one to warm up
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def jacobian_figures(path: Path, folder: Path, batch: int, repeats: int) -> dict[str, Any]:
    """Milliseconds an item of the landmarks and their derivative, alone and as a step of a fit."""
    front = folder / "face.npy"
    v_template = read_model_file(path).reals("v_template", (None, 3))
    np.save(front, np.argsort(-v_template[:, 2], kind="stable")[:N_LANDMARKS])
    model = partfit.create(
        "model", "flame", path=str(path), n_betas=100, n_expression=100, regions={"front": str(front)}
    )
    embedding = model.embedding("flame-front")
    problem, x = synthetic_problem(model, embedding, batch, noise_px=0.5, dtype=torch.float32)
    objective = Objective(problem, problem.stages[-1])
    function = model.landmarks(embedding, x)
    projection = torch.randn(batch, N_LANDMARKS, 2, 3, generator=torch.Generator().manual_seed(0))
    coefficients, all_groups = ("betas", "expression"), tuple(model.slices)
    here = objective.evaluate(x)
    timed = {
        "landmarks": lambda: function.points(x),
        "landmarks_and_jacobian_200": lambda: function.linearize(x).jacobian(projection, coefficients),
        "landmarks_and_jacobian_218": lambda: function.linearize(x).jacobian(projection, all_groups),
        "normal_equations": lambda: objective.normal_equations(here),
    }
    return {
        "landmarks": N_LANDMARKS,
        "batch": batch,
        "ms_an_item": {name: best(run, repeats) * 1e3 / batch for name, run in timed.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = write_flame(folder / "generic_model.pkl", flame_content().entries)
        converted = folder / "flame.safetensors"
        write_model_file(converted, read_model_file(raw).entries, {})
        loading = {
            path.name: best(lambda path=path: partfit.create("model", "flame", path=str(path)), 3)
            for path in (raw, converted)
        }
        jacobian = jacobian_figures(converted, folder, chosen.batch, chosen.repeats)
    matrix = torch.randn(1024, 1024)
    gemm = best(lambda: matrix @ matrix, chosen.repeats) * 1e3
    report = {
        "threads": chosen.threads,
        "gemm_1024_ms": gemm,
        "loading_s": loading,
        **jacobian,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
