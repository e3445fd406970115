"""The fitter `theseus`: thesis section 3.4 on theseus-ai."""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.errors import ConfigError
from partfit.fitting import Backward, FitProblem, FitResult, FitStatus, Fitter, Stage
from partfit.fitting.contours import with_contour_frozen
from partfit.fitting.gradients import IMPLICIT, fit_with_gradients
from partfit.fitting.lm import closed_form_start
from partfit.fitting.objective import Objective
from partfit.fitting.steps import MESSAGES, of_stage, too_little
from partfit_theseus.install import SPARSE, require_sparse, require_theseus

_SINGULAR = (
    "The normal equations have no solution: landmarks and priors leave a direction undetermined. "
    "Add priors or landmarks, or choose optimizer='levenberg-marquardt', whose damping grows."
)


class TheseusFitter(Fitter):
    """Theseus on partfit's cost; a closed-form start; the fitter `theseus`."""

    @attrs.frozen
    class Config:
        """Options of the fitter `theseus`.

        Attributes:
            cost: Where the landmarks' Jacobian comes from: `closed-form` is the model's own; `autodiff` is
                the thesis' way, reverse mode over all residuals, kept for comparison: far slower.
            optimizer: The method.
            linear_solver: The dense ones are always there. The Jacobian is dense: the sparse ones are here
                for comparison, and gradients through the fit are taken with a dense one all the same.
            damping: Of Levenberg-Marquardt. `scaled`: by the diagonal of J^T J; `additive`: by the identity,
                thesis eq. 3.31. Parameters have different units, so that `scaled` is the default.
            initial_damping: First lambda of each stage. Small, since the closed-form start is near.
            adaptive_damping: Whether lambda follows the success of the steps, by Theseus' rule; else it
                stays, and all steps are taken, good or bad.
            trust_region: First radius of Dogleg, in units of the parameters.
            tolerance: An item has converged when an iteration lowers its cost by a smaller share.

        Raises:
            ConfigError: for damping that `cholmod` cannot do.
        """

        cost: Literal["closed-form", "autodiff"] = "closed-form"
        optimizer: Literal["levenberg-marquardt", "gauss-newton", "dogleg"] = "levenberg-marquardt"
        linear_solver: Literal["cholesky-dense", "lu-dense", "cholmod", "lu-cuda", "baspacho"] = (
            "cholesky-dense"
        )
        damping: Literal["scaled", "additive"] = "scaled"
        initial_damping: float = attrs.field(default=1e-6, validator=attrs.validators.gt(0))
        adaptive_damping: bool = True
        trust_region: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))
        tolerance: float = attrs.field(default=1e-4, validator=attrs.validators.ge(0))

        def __attrs_post_init__(self) -> None:
            damped = self.optimizer == "levenberg-marquardt"
            if (
                self.linear_solver == "cholmod"
                and damped
                and (self.adaptive_damping or self.damping == "scaled")
            ):
                raise ConfigError(
                    "linear_solver='cholmod' can only add the same number to all diagonals: set "
                    "damping='additive' and adaptive_damping=false, or choose another optimizer."
                )

    config: TheseusFitter.Config

    def __init__(self, config: TheseusFitter.Config | None = None) -> None:
        """Check that what the configuration needs is installed.

        Raises:
            ComponentError: if it is not, with the command that installs it.
        """
        super().__init__(config)
        require_theseus()
        if self.config.linear_solver in SPARSE:
            require_sparse(self.config.linear_solver)

    @torch.no_grad()
    def fit(self, problem: FitProblem) -> FitResult:  # noqa: D102 (inherited)
        from partfit_theseus.solve import minimize  # brings Theseus

        landmarks = problem.model.landmarks(problem.embedding, problem.points)
        reasons = too_little(problem)
        x = closed_form_start(problem, landmarks) if problem.start is None else problem.start.clone()
        state = problem.state(x)
        iterations = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        status = [FitStatus.MAX_ITERATIONS] * len(x)
        for stage in problem.stages or (Stage((), iterations=0),):
            staged = of_stage(problem, stage, state)
            frozen = with_contour_frozen(staged, state)
            last = Objective(frozen, stage, landmarks if frozen is staged else None)
            _note(reasons, ~torch.isfinite(last.evaluate(state).cost), MESSAGES[FitStatus.FAILED])
            end = minimize(last, state, _failed(reasons, x), self.config)
            state, iterations = end.state, iterations + end.iterations
            _note(reasons, end.singular, _SINGULAR)
            status = [
                FitStatus.CONVERGED if c else FitStatus.STALLED if s else FitStatus.MAX_ITERATIONS
                for c, s in zip(end.converged.tolist(), end.stalled.tolist(), strict=True)
            ]
        x, focal = problem.split(state)
        x = problem.model.canonical(x)
        state = problem.state(x, focal)
        there = last.evaluate(state)
        cost, rms = there.cost, last.rms_px(there)
        _note(reasons, ~torch.isfinite(cost), MESSAGES[FitStatus.FAILED])
        failed = _failed(reasons, x)
        ends = [s if r is None else FitStatus.FAILED for s, r in zip(status, reasons, strict=True)]
        return FitResult(
            staged,
            x,
            tuple(ends),
            tuple(MESSAGES[s] if r is None else r for s, r in zip(status, reasons, strict=True)),
            torch.where(failed, torch.inf, cost),
            torch.where(failed, torch.nan, rms),
            iterations,
            focal,
        )

    def fit_with_gradients(self, problem: FitProblem, backward: Backward = IMPLICIT) -> FitResult:
        """See `Fitter`.

        `implicit` with the Hessian `gauss-newton`, `truncated` and `unrolled` are Theseus' own backward
        modes; `implicit` with the `full` Hessian, which Theseus has not, is partfit's.
        """
        if backward.mode == "implicit" and backward.hessian == "full":
            return super().fit_with_gradients(problem, backward)
        from partfit_theseus.solve import differentiable  # brings Theseus

        def moved(problem: FitProblem, stages: tuple[Stage, ...], x: Tensor, backward: Backward) -> Tensor:
            for stage in stages:
                x = differentiable(problem, stage, x, self.config, backward)
            return x

        return fit_with_gradients(self.fit, problem, backward, moved)


def _note(reasons: list[str | None], items: Bool[Tensor, " batch"], reason: str) -> None:
    """Give a reason to the items that have none yet."""
    for i in items.nonzero()[:, 0].tolist():
        reasons[i] = reasons[i] or reason


def _failed(reasons: list[str | None], x: Float[Tensor, "batch parameters"]) -> Bool[Tensor, " batch"]:
    return torch.tensor([reason is not None for reason in reasons], device=x.device)
