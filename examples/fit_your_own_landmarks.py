"""Fit a model to landmarks that come from anywhere: here 68 points, as other detectors give them.

The points are those of a random head of the default model, so that the answer is known.

python examples/fit_your_own_landmarks.py
"""

import torch

import partfit
from partfit.fitting import FitProblem, LevenbergMarquardt, Stage
from partfit.geometry.camera import Camera


def main() -> None:
    model = partfit.create("model", "anny-head", n_betas=30)
    embedding = partfit.create("embedding", "anny-head/ibug68")
    camera = Camera.for_images([(640, 480)])
    generator = torch.Generator().manual_seed(0)
    truth = model.pack(
        {
            "betas": torch.randn(1, 30, generator=generator),
            "global_orient": torch.tensor([[2.9, 0.2, 0.5]]),  # facing the camera: y down, z forward
            "transl": torch.tensor([[0.0, 0.1, 0.7]]),
        },
        like=torch.zeros(()),
    )
    points = camera.project(model.landmarks(embedding, truth).points(truth))
    problem = FitProblem(
        model,
        embedding,
        points,
        scale=torch.full_like(points, 0.5),  # pixels
        confidence=torch.ones(1, 68),
        camera=camera,
        stages=(
            Stage(("global_orient", "transl")),
            Stage(("betas", "expression", "global_orient", "transl")),
        ),
    )
    result = LevenbergMarquardt().fit(problem)
    # one picture cannot tell a large head far away from a small one near by: compare sizes apart
    found, true = result.vertices(), model.vertices(truth)
    found = found * (true.norm(dim=-1).mean() / found.norm(dim=-1).mean())
    error = (found - true).norm(dim=-1).mean()
    print(f"{result.status[0]} after {result.iterations[0]} iterations: {result.messages[0]}")
    print(f"{result.rms_px[0]:.2f} pixels from the landmarks,", f"{1000 * error:.1f} mm from the true head")


if __name__ == "__main__":
    main()
