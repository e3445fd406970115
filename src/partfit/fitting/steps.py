"""What fitters share: what a fit needs, what a stage sees, steps within limits, and how a fit ended."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from partfit.fitting.objective import hold
from partfit.fitting.problem import FitProblem, Stage
from partfit.fitting.result import FitStatus
from partfit.fitting.terms import Reprojection

#: A rigid motion seen by a camera needs at least this many landmarks.
MIN_LANDMARKS = 4
#: Landmarks must extend over this many pixels: coinciding ones are met from infinitely far away.
MIN_SPREAD = 1.0
#: Why an item ended as it did. One whose landmarks do not suffice has a reason of its own, see `too_little`.
MESSAGES = {
    FitStatus.FAILED: "The cost is infinite where the fit starts: landmarks of the model lie behind the "
    "camera, or numbers overflow. Check the landmarks, the focal length and the start.",
    FitStatus.CONVERGED: "The cost no longer decreases.",
    FitStatus.MAX_ITERATIONS: "The iteration limit was reached while the cost still decreased.",
    FitStatus.STALLED: "No step lowers the cost, though its gradient is not zero.",
}
#: Times that a step within limits is solved again without the parameters that met a limit.
LIMIT_PASSES = 6


def too_little(problem: FitProblem) -> list[str | None]:
    """For each item why its landmarks do not suffice for a fit, or None where they do."""
    usable = Reprojection(problem).usable
    low = torch.where(usable[..., None], problem.points, torch.inf).amin(1)
    high = torch.where(usable[..., None], problem.points, -torch.inf).amax(1)
    reasons: list[str | None] = []
    for count, extent in zip(usable.sum(1).tolist(), (high - low).amax(1).tolist(), strict=True):
        reason = None
        if count < MIN_LANDMARKS:
            reason = (
                f"{count} of {usable.shape[1]} landmarks are usable (finite, with a finite scale and enough "
                f"confidence); a fit needs {MIN_LANDMARKS}."
            )
        elif extent < MIN_SPREAD:
            reason = (
                f"The landmarks coincide: they extend over {extent:.2g} pixels, a fit needs {MIN_SPREAD}."
            )
        reasons.append(reason)
    return reasons


def of_stage(problem: FitProblem, stage: Stage, state: Float[Tensor, "batch state"]) -> FitProblem:
    """The problem as a stage that begins in a state sees it."""
    if stage.hidden_scale == 1:
        return problem
    from partfit.fitting.visibility import with_hidden_scaled  # brings open3d

    return with_hidden_scaled(problem, state, stage.hidden_scale)


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
