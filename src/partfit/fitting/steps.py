"""What the iterations of a fit share: the problem as a stage sees it, and steps within limits."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from partfit.fitting.objective import hold
from partfit.fitting.problem import FitProblem, Stage

#: Times that a step within limits is solved again without the parameters that met a limit.
LIMIT_PASSES = 6


def of_stage(problem: FitProblem, stage: Stage, x: Tensor) -> FitProblem:
    """The problem as a stage that begins at x sees it."""
    if stage.hidden_scale == 1:
        return problem
    from partfit.fitting.visibility import with_hidden_scaled  # brings open3d

    return with_hidden_scaled(problem, x, stage.hidden_scale)


def bounded_minimum(
    matrix: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor, held: Tensor
) -> Float[Tensor, "batch columns"]:
    """The d with lower <= d <= upper that minimises 1/2 d^T matrix d + gradient^T d, by active sets.

    Parameters that the minimum pushes beyond a limit are set to it, and the others are solved for again.
    Limits are not released, so that after `LIMIT_PASSES` the result is feasible rather than optimal; the
    next iteration starts afresh. NaN where the matrix is not positive definite.
    """
    fixed, slope = torch.zeros_like(gradient), gradient
    for _ in range(LIMIT_PASSES):
        factor, info = torch.linalg.cholesky_ex(hold(matrix, held))
        free = -torch.cholesky_solve(torch.where(held, 0.0, slope)[..., None], factor)[..., 0]
        step = torch.where(held, fixed, free)
        beyond = ~held & ((step < lower) | (step > upper))
        if not bool(beyond.any()):
            break
        fixed = torch.where(beyond, step.clamp(lower, upper), fixed)
        slope = gradient + (matrix @ fixed[..., None])[..., 0]
        held = held | beyond
    return torch.where((info == 0)[:, None], step.clamp(lower, upper), torch.nan)
