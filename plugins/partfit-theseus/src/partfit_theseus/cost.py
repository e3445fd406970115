"""The cost of a stage as a cost function of Theseus: half the squared length of its error is partfit's cost.

The rows of the error are those of the landmarks, of the priors, and one row a free parameter that is 0. The
last ones hold parameters: the column of a parameter at a limit beyond which the cost would go on falling is
set to 0 in all rows but its own, where it is 1, so that no step moves it.

As in Theseus' own robust cost functions, the error of a landmark is r sqrt(rho(s) / s), s = |r|^2, and what
is linearised is r sqrt(rho'(s)): so the gradient is that of the robust cost.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.fitting.kernels import robustify
from partfit.fitting.objective import Objective
from partfit.fitting.problem import FitProblem
from partfit.fitting.terms import landmark_weights, relative_weights
from partfit.geometry.camera import project_points
from partfit.models.base import LandmarkFunction
from partfit_theseus.compat import BoundedVector, UnitWeight, th

CostKind = Literal["closed-form", "autodiff"]


class FitCost(th.CostFunction):
    """The cost of one stage around a state, see `FitProblem`.

    Attributes:
        free: The optimisation variable: (B, C) free parameters.
    """

    def __init__(
        self, objective: Objective, state: Float[Tensor, "batch state"], frozen: Tensor, kind: CostKind
    ) -> None:
        """Put the cost together.

        Args:
            objective: Of the stage. Where its tensors have a history, derivatives reach it.
            state: (B, S) where the stage begins; what is not free stays so.
            frozen: (B,) items none of whose parameters may move.
            kind: Where the landmarks' Jacobian comes from.
        """
        super().__init__(UnitWeight(), name="fit")
        self._objective, self._start, self._frozen = objective, state, frozen
        lower, upper = objective.lower, objective.upper
        self.free = BoundedVector(state[:, objective.columns], lower, upper, name="free")
        self.register_optim_vars(["free"])
        self._place = _places(state, objective.columns)
        self._prior = _prior_root(objective.problem, state)
        self._limited = bool(torch.isfinite(torch.stack([lower, upper])).any())
        autodiff = kind == "autodiff"
        self._autodiff = _autodiff_cost(objective, state, self.free, self._place) if autodiff else None
        per_landmark = sum(2 if term is objective.reprojection else 3 for term in objective.terms)
        self._dim = per_landmark * objective.usable.shape[1] + len(self._prior) + len(objective.columns)

    def dim(self) -> int:
        """Number of rows of the error."""
        return self._dim

    def state(self) -> Float[Tensor, "batch state"]:
        """The state with the free parameters as they are now."""
        return torch.cat([self._start, self.free.tensor], dim=1)[:, self._place]

    def error(self) -> Float[Tensor, "batch rows"]:
        """The error, half whose squared length is the cost; NaN where that is infinite."""
        x = self.state()
        stage, rows = self._objective.stage, []
        for residual in self._objective.evaluate(x).residuals:
            square = (residual**2).sum(-1)
            rho, _ = robustify(square, stage.kernel, stage.kernel_scale)
            share = torch.where(square > 0, rho / square.where(square > 0, 1), 1)
            rows.append((residual * share.sqrt()[..., None]).flatten(1))
        return torch.cat([*rows, self._prior_error(x), torch.zeros_like(self.free.tensor)], dim=1)

    def jacobians(self) -> tuple[list[Tensor], Tensor]:
        """The Jacobian (B, rows, C) of what is linearised, and that (B, rows)."""
        x, columns = self.state(), self._objective.columns
        jacobians, error = self._landmark_rows(x)
        jacobians.append(self._prior[:, columns].expand(len(x), -1, -1))
        error = torch.cat([error, self._prior_error(x)], dim=1)
        held = self._held(jacobians, error)
        if bool(held.any()):
            jacobians = [torch.where(held[:, None], 0, jacobian) for jacobian in jacobians]
            error = torch.where(self._frozen[:, None], 0, error)
        jacobians.append(torch.diag_embed(held.to(error)))
        return [torch.cat(jacobians, dim=1)], torch.cat([error, error.new_zeros(held.shape)], dim=1)

    def _landmark_rows(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The blocks of the Jacobian, and all of the error."""
        objective = self._objective
        here = objective.evaluate(x)
        roots = [slope.sqrt() for slope in here.slopes]
        pairs = list(zip(here.residuals, roots, strict=True))
        error = torch.cat([(residual * root[..., None]).flatten(1) for residual, root in pairs], dim=1)
        if self._autodiff is not None:
            weights = [root[..., None].expand_as(residual).flatten(1) for residual, root in pairs]
            (jacobian,), _ = self._autodiff.jacobians()
            return [jacobian * torch.cat(weights, dim=1)[..., None]], error
        blocks = [
            objective.jacobian(term, here, root) for term, root in zip(objective.terms, roots, strict=True)
        ]
        return blocks, error

    def _prior_error(self, x: Tensor) -> Float[Tensor, "batch rows"]:
        return (x - self._objective.mean) @ self._prior.T

    @torch.no_grad()
    def _held(self, jacobians: list[Tensor], error: Tensor) -> Bool[Tensor, "batch columns"]:
        values = self.free.tensor
        held = self._frozen[:, None].expand_as(values)
        if not self._limited:
            return held
        errors = error.split([jacobian.shape[1] for jacobian in jacobians], dim=1)
        gradient = sum((e[:, None] @ j)[:, 0] for e, j in zip(errors, jacobians, strict=True))
        lower, upper = self._objective.lower, self._objective.upper
        return held | (values <= lower) & (gradient > 0) | (values >= upper) & (gradient < 0)

    def _copy_impl(self, new_name: str | None = None) -> FitCost:
        kind: CostKind = "closed-form" if self._autodiff is None else "autodiff"
        copy = FitCost(self._objective, self._start, self._frozen, kind)
        copy.free.update(self.free.tensor)
        copy.name = new_name or self.name
        return copy


def _places(x: Tensor, columns: Tensor) -> Tensor:
    """Where each parameter lies in a row of all and, behind them, the free ones, (P,)."""
    places = torch.arange(x.shape[1], device=x.device)
    places[columns] = x.shape[1] + torch.arange(len(columns), device=x.device)
    return places


def _prior_root(problem: FitProblem, like: Tensor) -> Float[Tensor, "rows parameters"]:
    """L, times the roots of the priors' weights: the rows of all groups that have a prior."""
    blocks = []
    for group in problem.model.groups:
        root = group.sqrt_information
        rows = np.diag(root) if root.ndim == 1 else root
        rows = rows[rows.any(axis=1)]
        weight = torch.as_tensor(problem.prior_weights.get(group.name, 1.0)).to(like).reshape(())
        # the root has no derivative at 0
        factor = torch.where(weight > 0, weight.where(weight > 0, 1).sqrt(), 0)
        blocks.append(torch.as_tensor(rows).to(like) * factor)
    if problem.focal_deviation > 0:
        blocks.append(like.new_full((1, 1), 1 / problem.focal_deviation))
    return torch.block_diag(*blocks)


def _autodiff_cost(
    objective: Objective, state: Tensor, free: BoundedVector, places: Tensor
) -> th.AutoDiffCostFunction:
    """The landmarks' residuals, without kernel, as the thesis has them: Theseus differentiates them.

    Each item is evaluated by itself under vmap, so that what belongs to it must be a variable of Theseus.
    """
    problem = objective.problem
    per_item = {
        "state": state,
        "pixels": torch.where(objective.usable[..., None], problem.points, 0),
        "pixel_weights": landmark_weights(problem),
        "focal": problem.camera.focal.to(state)[:, None],
        "principal": problem.camera.principal.to(state),
    }
    rows = 2 * objective.usable.shape[1]
    if problem.points_3d is not None:
        weights = relative_weights(problem)
        per_item |= {"metres": torch.where(weights > 0, problem.points_3d, 0), "metre_weights": weights}
        rows += 3 * objective.usable.shape[1]

    def error(optim_vars: tuple[th.Variable, ...], aux_vars: tuple[th.Variable, ...]) -> Tensor:
        known = {name: variable.tensor for name, variable in zip(per_item, aux_vars, strict=True)}
        state = torch.cat([known["state"], optim_vars[0].tensor], dim=1)[:, places]
        focal = known["focal"][:, 0]
        if problem.focal_deviation > 0:
            state, focal = state[:, :-1], focal * state[:, -1].exp()
        return _residuals(objective.landmarks, state, focal, known)

    variables = [th.Variable(tensor, name=name) for name, tensor in per_item.items()]
    return th.AutoDiffCostFunction([free], error, rows, UnitWeight(), variables, name="landmarks")


def _residuals(
    landmarks: LandmarkFunction, x: Tensor, focal: Tensor, known: dict[str, Tensor]
) -> Float[Tensor, "one rows"]:
    """Residuals of the landmarks of one item; see `Reprojection` and `RelativePoints` for what they are."""
    points, weights = landmarks.points(x), known["pixel_weights"]
    neutral = torch.tensor([0.0, 0.0, 1.0]).to(points)
    seen = torch.where((weights > 0).any(-1, keepdim=True), points, neutral)
    projected = project_points(seen, focal, known["principal"])
    rows = [weights * (projected - known["pixels"])]
    if "metres" in known:
        weights = known["metre_weights"]
        share = weights**2 / (weights**2).sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        difference = points - known["metres"]
        rows.append(weights * (difference - (share * difference).sum(1, keepdim=True)))
    return torch.cat([row.flatten(1) for row in rows], dim=1)
