"""Levenberg-Marquardt over a batch of independent problems.

Each iteration solves (H + lambda D) delta = -g with the Gauss-Newton matrix H (thesis eqs. 3.29-3.31).
Limits are kept by projection: a parameter at its limit whose gradient points outwards is held for the
step, and a step beyond a limit ends on it. The damping follows the ratio of achieved to predicted
decrease (Nielsen, "Damping parameter in Marquardt's method", 1999).
"""

from __future__ import annotations

from typing import Literal

import attrs
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.errors import InputError
from partfit.fitting.alignment import align_to_landmarks, align_to_points, place_before_camera
from partfit.fitting.base import Fitter
from partfit.fitting.contours import with_contour_frozen
from partfit.fitting.objective import Evaluation, NormalEquations, Objective
from partfit.fitting.problem import FitProblem, Stage
from partfit.fitting.result import FitResult, FitStatus
from partfit.fitting.steps import MESSAGES, MIN_LANDMARKS, bounded_minimum, of_stage, too_little
from partfit.fitting.terms import landmark_weights, relative_weights
from partfit.geometry.rotations import matrix_to_rotvec
from partfit.models.base import LandmarkFunction, ParametricModel


class LevenbergMarquardt(Fitter):
    """Batched Levenberg-Marquardt with a closed-form start; the fitter `lm`."""

    @attrs.frozen
    class Config:
        """Options of the fitter `lm`.

        Attributes:
            damping: `scaled`: D = diag(H), Marquardt's choice; `additive`: D = I, thesis eq. 3.31.
            initial_damping: First lambda of each stage. Small, since the closed-form start is near: a large
                one slows down the directions that landmarks hardly tell, such as depth.
            tolerance: An item has converged when an iteration lowers its cost by a smaller share.
            max_damping: An item has stalled when lambda grows beyond this.
        """

        damping: Literal["scaled", "additive"] = "scaled"
        initial_damping: float = attrs.field(default=1e-6, validator=attrs.validators.gt(0))
        tolerance: float = attrs.field(default=1e-4, validator=attrs.validators.ge(0))
        max_damping: float = attrs.field(default=1e8, validator=attrs.validators.gt(0))

    config: LevenbergMarquardt.Config

    @torch.no_grad()
    def fit(self, problem: FitProblem) -> FitResult:  # noqa: D102 (inherited)
        landmarks = problem.model.landmarks(problem.embedding, problem.points)
        reasons = too_little(problem)
        x = closed_form_start(problem, landmarks) if problem.start is None else problem.start.clone()
        enough = torch.tensor([reason is None for reason in reasons], device=x.device)
        state = _State(problem.state(x), enough)
        for stage in problem.stages or (Stage((), iterations=0),):
            staged = of_stage(problem, stage, state.x)
            frozen = with_contour_frozen(staged, state.x)
            last = Objective(frozen, stage, landmarks if frozen is staged else None)
            self._minimize(last, state)
        x, focal = problem.split(state.x)
        x = problem.model.canonical(x)
        end = problem.state(x, focal)
        there = last.evaluate(end)
        state.fail(~torch.isfinite(there.cost))
        cost = torch.where(state.failed, torch.inf, there.cost)
        rms = torch.where(state.failed, torch.nan, last.rms_px(there))
        status = tuple(state.status(i) for i in range(len(x)))
        messages = tuple(reason or MESSAGES[end] for reason, end in zip(reasons, status, strict=True))
        return FitResult(staged, x, status, messages, cost, rms, state.iterations, focal)

    def _minimize(self, objective: Objective, state: _State) -> None:
        state.begin_stage(self.config.initial_damping)
        here = objective.evaluate(state.x)
        state.fail(~torch.isfinite(here.cost))
        equations = None
        for _ in range(objective.stage.iterations):
            if not bool(state.active.any()):
                break
            equations = equations or objective.normal_equations(here)
            step, predicted, mild = self._step(objective, here, equations, state)
            trial = state.x.clone()
            trial[:, objective.columns] += step
            there = objective.evaluate(torch.where(state.active[:, None], trial, state.x))
            decrease = here.cost - there.cost
            accepted = state.active & (decrease > 0) & torch.isfinite(step).all(1)
            everywhere = bool((accepted == state.active).all())
            state.advance(there.x, accepted, decrease, predicted)
            # a rejected step says something only if it promised a gain, up to rounding
            promising = predicted >= -1e-12 * here.cost
            gain = torch.where(accepted, decrease, torch.where(promising, predicted, torch.inf))
            state.finish(mild & (gain <= self.config.tolerance * here.cost), self.config.max_damping)
            if bool(accepted.any()):
                here = there if everywhere else objective.evaluate(state.x)
                equations = None

    def _step(
        self, objective: Objective, here: Evaluation, equations: NormalEquations, state: _State
    ) -> tuple[Float[Tensor, "batch columns"], Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """The damped step within the limits, the decrease that it promises, whether damping is mild.

        Small gains mean convergence only under mild damping: strong damping makes any gain small.
        """
        values = here.x[:, objective.columns]
        hessian, gradient = equations.hessian.double(), equations.gradient.double()
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        scale = diagonal if self.config.damping == "scaled" else torch.ones_like(diagonal)
        damped = hessian.clone()
        damped.diagonal(dim1=1, dim2=2).add_(state.damping[:, None] * scale)
        room = (objective.lower - values).double(), (objective.upper - values).double()
        step = bounded_minimum(damped, gradient, *room, objective.held(here, equations))
        curvature = (step[:, None] @ hessian @ step[..., None])[:, 0, 0]
        predicted = -(gradient * step).sum(1) - 0.5 * curvature
        mild = state.damping * scale.mean(1) <= diagonal.mean(1)
        predicted = torch.where(predicted.isnan(), torch.inf, predicted)
        return step.to(values), predicted.to(values), mild


class _State:
    """Where each item of the batch stands."""

    def __init__(self, x: Tensor, enough: Bool[Tensor, " batch"]) -> None:
        self.x = x
        self.failed = ~enough
        self.iterations = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self.begin_stage(1.0)

    def begin_stage(self, damping: float) -> None:
        self.active = ~self.failed
        self.converged = torch.zeros_like(self.failed)
        self.stalled = torch.zeros_like(self.failed)
        self.damping = torch.full(self.failed.shape, damping, dtype=torch.float64, device=self.x.device)
        self.growth = torch.full_like(self.damping, 2.0)

    def fail(self, items: Tensor) -> None:
        self.failed = self.failed | items
        self.active = self.active & ~self.failed

    def advance(self, trial: Tensor, accepted: Tensor, decrease: Tensor, predicted: Tensor) -> None:
        self.iterations += self.active
        self.x = torch.where(accepted[:, None], trial, self.x)
        ratio = (decrease / predicted).double().nan_to_num(0.0).clamp(0, 1)
        less = self.damping * (1 - (2 * ratio - 1) ** 3).clamp(min=1 / 3)
        self.damping = torch.where(accepted, less, self.damping * self.growth)
        self.growth = torch.where(accepted, 2.0, self.growth * 2)

    def finish(self, converged: Tensor, max_damping: float) -> None:
        self.converged |= self.active & converged
        self.stalled |= self.active & ~converged & (self.damping > max_damping)
        self.active &= ~(self.converged | self.stalled)

    def status(self, item: int) -> FitStatus:
        if self.failed[item]:
            return FitStatus.FAILED
        if self.converged[item]:
            return FitStatus.CONVERGED
        return FitStatus.STALLED if self.stalled[item] else FitStatus.MAX_ITERATIONS


def closed_form_start(
    problem: FitProblem, landmarks: LandmarkFunction | None = None
) -> Float[Tensor, "batch parameters"]:
    """Parameters (B, P) of the prior's mean, within limits, moved onto the landmarks in closed form.

    Where relative 3D points are given, the rotation is the one that meets them: unlike the picture, they tell
    front from back even of a shape that is bent otherwise than the mean. Points so vague that their scale
    exceeds the extent of the shape do not count. Items without enough landmarks get the prior's mean.

    Raises:
        InputError: if the model has no rigid rotation and translation to move it by.
    """
    model, like = problem.model, problem.points
    landmarks = landmarks or model.landmarks(problem.embedding, like)
    rigid = rigid_columns(model)
    mean = [group.prior_mean.clip(group.lower, group.upper) for group in model.groups]
    x = torch.as_tensor(np.concatenate(mean)).to(like).expand(len(like), -1).clone()
    for columns in rigid:
        x[:, columns] = 0
    shape = landmarks.points(x)
    weights = landmark_weights(problem).mean(-1)
    enough = (weights > 0).sum(1) >= MIN_LANDMARKS
    weights = torch.where(enough[:, None], weights, 1.0)
    pixels = torch.where(torch.isfinite(problem.points), problem.points, 0)
    camera = problem.camera.to(like)
    moved = rigidly_moved(landmarks, x, shape, rigid, *align_to_landmarks(shape, pixels, weights, camera))
    if problem.points_3d is not None:
        weights_3d = relative_weights(problem).amin(-1)
        rotation = align_to_points(shape, problem.points_3d.nan_to_num(), weights_3d)
        translation = place_before_camera(shape @ rotation.transpose(1, 2), pixels, weights, camera)
        turned = rigidly_moved(landmarks, x, shape, rigid, rotation, translation)
        telling = (weights_3d * _extent(shape)[:, None] > 1).sum(1) >= MIN_LANDMARKS
        moved = torch.where(telling[:, None], turned, moved)
    sound = enough & torch.isfinite(moved).all(1)
    return torch.where(sound[:, None], moved, x)


def rigidly_moved(
    landmarks: LandmarkFunction,
    x: Tensor,
    shape: Tensor,
    rigid: tuple[slice, slice],
    rotation: Tensor,
    translation: Tensor,
) -> Float[Tensor, "batch parameters"]:
    """The states x (B, P), whose rigid parameters are 0, after a rigid motion of their landmarks `shape`."""
    rotation_columns, translation_columns = rigid
    moved = x.clone()
    moved[:, rotation_columns] = matrix_to_rotvec(rotation)
    # the model turns about its root joint: shift what it then yields to where it should be
    goal = shape @ rotation.transpose(1, 2) + translation[:, None]
    turned = landmarks.points(moved)
    shift = (goal - turned).mean(1)
    shift[:, 2] += _lack_of_depth(turned + shift[:, None])
    moved[:, translation_columns] = shift
    return moved


def _extent(shape: Float[Tensor, "batch landmarks 3"]) -> Float[Tensor, " batch"]:
    """Root mean square distance (B,) from the middle, metres."""
    return (shape - shape.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt()


def _lack_of_depth(points: Float[Tensor, "batch landmarks 3"]) -> Float[Tensor, " batch"]:
    """How far (B,) to move landmarks away until all are before the camera by a tenth of their depth."""
    nearest, farthest = points[..., 2].amin(1), points[..., 2].amax(1)
    return (0.1 * (farthest - nearest) - nearest).clamp(min=0)


def rigid_columns(model: ParametricModel) -> tuple[slice, slice]:
    """Where the rigid rotation and the rigid translation lie in a model's parameter vector.

    Raises:
        InputError: if the model has not one of each.
    """
    rotations = [g.name for g in model.groups if g.rigid and g.kind == "rotvec" and g.size == 3]
    translations = [g.name for g in model.groups if g.rigid and g.kind == "euclidean" and g.size == 3]
    if len(rotations) != 1 or len(translations) != 1:
        raise InputError(
            "The closed-form start needs a model with one rigid rotvec group and one rigid euclidean group "
            f"of size 3; found {rotations} and {translations}. Pass `start` to the FitProblem instead."
        )
    return model.slices[rotations[0]], model.slices[translations[0]]
