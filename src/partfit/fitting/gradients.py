"""Gradients through a fit: how the solution moves with the landmarks, scales, priors and cameras given.

Three ways, named as in Pineda et al., "Theseus: A library for differentiable nonlinear optimization",
NeurIPS 2022:

- implicit: at a minimum the gradient g(x, phi) of the cost is zero, and stays so: dx / dphi = -H^-1 dg / dphi
  with the Hessian H of the cost (the implicit function theorem). Exact, whatever way led to the minimum.
- unrolled: derivatives of a fixed number of Gauss-Newton steps from the start.
- truncated: derivatives of the last few of them, the rest being taken as given.

Parameters held at a limit do not move. Source: thesis section 3.4.1, eqs. 3.32-3.33.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import attrs
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.fitting.contours import with_contour_frozen
from partfit.fitting.objective import Objective, hold
from partfit.fitting.problem import FitProblem, Stage
from partfit.fitting.result import FitResult, FitStatus
from partfit.fitting.steps import bounded_minimum, of_stage

#: Newton steps that bring a fit's solution to where the gradient vanishes, before it is differentiated.
_POLISH = 4
#: Most products with the Hessian for one solution of a linear system.
_MAX_PRODUCTS = 60


@attrs.frozen
class Backward:
    """How gradients pass through a fit.

    Attributes:
        mode: See the module.
        hessian: Of `implicit`: `full`, or `gauss-newton`, J^T J, which is exact where the residuals are zero.
        steps: How many Gauss-Newton steps: of `unrolled`, in each stage; of `truncated`, in the last one.
        damping: Of these steps, as a share of the diagonal of H.
    """

    mode: Literal["implicit", "truncated", "unrolled"] = "implicit"
    hessian: Literal["full", "gauss-newton"] = "full"
    steps: int = attrs.field(default=5, validator=attrs.validators.ge(1))
    damping: float = attrs.field(default=1e-6, validator=attrs.validators.ge(0))


IMPLICIT = Backward()
#: From a problem, its last stages, the state at which they begin, and a rule to where they end.
Mover = Callable[[FitProblem, tuple[Stage, ...], Tensor, Backward], Tensor]


def fit_with_gradients(
    fit: Callable[[FitProblem], FitResult],
    problem: FitProblem,
    backward: Backward,
    moved: Mover | None = None,
) -> FitResult:
    """What `fit` makes of a problem, with x a differentiable function of what the problem was given.

    `cost` and `rms_px` are those at x. Items that fail keep their parameters and have no derivatives.
    `unrolled` takes its steps from the problem's start, which `fit` finds where none is given, and ends with
    the status MAX_ITERATIONS.

    Args:
        fit: Solves problems without derivatives.
        problem: What is fitted.
        backward: How gradients pass through.
        moved: Leads x on through some stages, with derivatives; by default by this module's own ways.
    """
    bare = _detached(problem)
    if backward.mode == "unrolled":
        bare = attrs.evolve(bare, stages=tuple(attrs.evolve(stage, iterations=0) for stage in bare.stages))
    result = fit(bare)
    items = torch.tensor([k for k, status in enumerate(result.status) if status is not FitStatus.FAILED])
    if len(items) == 0 or not problem.stages:
        return result
    own, stages = problem.select(items), problem.stages
    x = own.state(result.x[items], None if result.focal is None else result.focal[items])
    if backward.mode == "unrolled":
        x = x if own.start is None else own.state(own.start)
    else:
        own = _scaled_as(own, result.problem.select(items))
        stages = (attrs.evolve(stages[-1], hidden_scale=1.0),)
    x, focal = own.split((moved or _moved)(own, stages, x, backward))
    ended = _at(result, items, problem.model.canonical(x), focal)
    return _stepped(ended, items, backward.steps * len(stages)) if backward.mode == "unrolled" else ended


def _moved(
    problem: FitProblem, stages: tuple[Stage, ...], x: Float[Tensor, "batch state"], backward: Backward
) -> Float[Tensor, "batch state"]:
    if backward.mode == "implicit":
        return implicit(problem, stages[-1], x, backward)
    return unrolled(problem, stages, x, backward)


def unrolled(
    problem: FitProblem, stages: tuple[Stage, ...], x: Float[Tensor, "batch state"], backward: Backward
) -> Float[Tensor, "batch state"]:
    """The end of `backward.steps` Gauss-Newton steps of each stage from x, within the limits."""
    for stage in stages:
        staged = of_stage(problem, stage, x.detach())
        objective = Objective(with_contour_frozen(staged, x.detach()), stage)
        for _ in range(backward.steps):
            x = _step(objective, x, backward.damping)
    return x


def _step(objective: Objective, x: Tensor, damping: float) -> Tensor:
    """One damped Gauss-Newton step."""
    here = objective.evaluate(x)
    equations = objective.normal_equations(here)
    hessian, values = equations.hessian, x[:, objective.columns]
    damped = hessian + torch.diag_embed(damping * hessian.diagonal(dim1=1, dim2=2))
    room = objective.lower - values, objective.upper - values
    step = bounded_minimum(damped, equations.gradient, *room, objective.held(here, equations))
    return x.index_add(1, objective.columns, step)


def implicit(
    problem: FitProblem, stage: Stage, x: Float[Tensor, "batch state"], backward: Backward
) -> Float[Tensor, "batch state"]:
    """The minimum next to x, as a function of what the problem was given."""
    objective = Objective(with_contour_frozen(problem, x), stage)
    fixed = Objective(with_contour_frozen(_detached(problem), x), stage)
    system = _System(fixed, x, "full")
    for _ in range(_POLISH):
        before, system = system, system.moved()
        if system is before:
            break
    if backward.hessian == "gauss-newton":
        system = _System(fixed, system.x, "gauss-newton")
    gradient = torch.where(system.held, 0, _gradient(objective, system.x.clone().requires_grad_()))
    moved: Tensor = _MinusInverse.apply(gradient, system.solve)  # type: ignore[no-untyped-call]
    return system.x.index_add(1, objective.columns, moved)


class _System:
    """The Hessian of the cost at x, parameters held at limits left out."""

    @torch.no_grad()
    def __init__(self, objective: Objective, x: Tensor, hessian: str) -> None:
        self.objective, self.x, self.hessian = objective, x, hessian
        here = objective.evaluate(x)
        equations = objective.normal_equations(here)
        self.held: Bool[Tensor, "batch columns"] = objective.held(here, equations)
        self.factor, _ = torch.linalg.cholesky_ex(hold(equations.hessian, self.held))
        self._leaf = x.clone().requires_grad_()
        self._history = _gradient(objective, self._leaf)
        self.gradient = self._history.detach()

    def moved(self) -> _System:
        """That after a Newton step, which is taken by the items whose gradient becomes smaller."""
        step = -self.solve(self.gradient)
        values = (self.x[:, self.objective.columns] + step).clamp(self.objective.lower, self.objective.upper)
        there = _System(self.objective, self.x.index_copy(1, self.objective.columns, values), self.hessian)
        better = there._size() < self._size()
        if not bool(better.any()):
            return self
        if bool(better.all()):
            return there
        return _System(self.objective, torch.where(better[:, None], there.x, self.x), self.hessian)

    def _size(self) -> Tensor:
        """(B,) of the gradient, in the units of the residuals."""
        scaled = torch.linalg.solve_triangular(self.factor, self._free(self.gradient)[..., None], upper=False)
        return scaled.norm(dim=(1, 2))

    def solve(self, right: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        """H^-1 right, by conjugate gradients that the Gauss-Newton matrix preconditions.

        NaN for an item that is at no minimum: along some direction the cost bends downwards.
        """
        right = self._free(right)
        if self.hessian == "gauss-newton":
            return self._precondition(right)
        return _conjugate_gradients(self._product, self._precondition, right)

    def _precondition(self, vector: Tensor) -> Tensor:
        return self._free(torch.cholesky_solve(vector[..., None], self.factor)[..., 0])

    def _product(self, vector: Tensor) -> Tensor:
        (along,) = torch.autograd.grad(self._history, self._leaf, vector, retain_graph=True)
        return self._free(along[:, self.objective.columns])

    def _free(self, vector: Tensor) -> Tensor:
        return torch.where(self.held, 0, vector)


class _MinusInverse(torch.autograd.Function):
    """-H^-1 g for g = 0, so that the value is zero; derivatives go through H^-1."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.solve = solve
        return torch.zeros_like(gradient)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.solve(grads[0]), None


@torch.enable_grad()
def _gradient(objective: Objective, leaf: Tensor) -> Float[Tensor, "batch columns"]:
    """Gradient of the cost by the free parameters at a leaf of the graph, with its history."""
    (gradient,) = torch.autograd.grad(objective.evaluate(leaf).cost.sum(), leaf, create_graph=True)
    return gradient[:, objective.columns]


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor], precondition: Callable[[Tensor], Tensor], right: Tensor
) -> Tensor:
    """Solutions of a batch of positive definite systems, to the precision of the dtype.

    Source: Nocedal & Wright, "Numerical Optimization", algorithm 5.3.
    """
    goal = 4 * torch.finfo(right.dtype).eps
    solution, residual = torch.zeros_like(right), right
    preconditioned = precondition(residual)
    direction = preconditioned
    size = first = (residual * preconditioned).sum(1)
    bends_down = torch.zeros_like(size, dtype=torch.bool)
    for _ in range(_MAX_PRODUCTS):
        active = (size > goal**2 * first) & ~bends_down
        if not bool(active.any()):
            break
        along = product(direction)
        curvature = (direction * along).sum(1)
        bends_down |= active & (curvature <= 0)
        length = torch.where(active & (curvature > 0), size / curvature, 0)[:, None]
        solution, residual = solution + length * direction, residual - length * along
        preconditioned = precondition(residual)
        before, size = size, (residual * preconditioned).sum(1)
        direction = preconditioned + (size / before).nan_to_num(0)[:, None] * direction
    return torch.where(bends_down[:, None], torch.nan, solution)


def _scaled_as(problem: FitProblem, fitted: FitProblem) -> FitProblem:
    """The problem with the scales that its last stage had, their history kept."""
    changes = {}
    for name in ("scale", "scale_3d"):
        own, last = getattr(problem, name), getattr(fitted, name)
        if own is not None:
            changes[name] = own * (last / own.detach()).nan_to_num(1.0)
    return attrs.evolve(problem, **changes)


def _at(result: FitResult, items: Tensor, x: Tensor, focal: Tensor | None) -> FitResult:
    """The result with some items at x and their focal lengths, and their figures there."""
    problem = result.problem.select(items)
    if focal is not None:
        assert result.focal is not None
        result = attrs.evolve(result, focal=result.focal.index_copy(0, items, focal))
    with torch.no_grad():
        here = problem.state(x, focal).detach()
        objective = Objective(with_contour_frozen(problem, here), problem.stages[-1])
        there = objective.evaluate(here)
        cost, rms = there.cost, objective.rms_px(there)
    return attrs.evolve(
        result,
        x=result.x.index_copy(0, items, x),
        cost=result.cost.index_copy(0, items, cost),
        rms_px=result.rms_px.index_copy(0, items, rms),
    )


def _stepped(result: FitResult, items: Tensor, steps: int) -> FitResult:
    """The result of items that have taken a fixed number of steps."""
    status, messages = list(result.status), list(result.messages)
    for item in items.tolist():
        lost = not bool(torch.isfinite(result.cost[item]))
        status[item] = FitStatus.FAILED if lost else FitStatus.MAX_ITERATIONS
        messages[item] = (
            f"The cost is infinite after {steps} steps: damp them, or start nearer."
            if lost
            else f"A fixed number of steps, {steps}, was taken."
        )
    iterations = result.iterations.index_fill(0, items, steps)
    return attrs.evolve(result, status=tuple(status), messages=tuple(messages), iterations=iterations)


def _detached(problem: FitProblem) -> FitProblem:
    """The problem without the history of its tensors."""

    def bare(value: Any) -> Any:
        return value.detach() if isinstance(value, Tensor) else value

    changes: dict[str, Any] = {
        name: bare(getattr(problem, name))
        for name in ("points", "scale", "confidence", "start", "points_3d", "scale_3d")
    }
    camera = attrs.evolve(
        problem.camera,
        **{name: bare(getattr(problem.camera, name)) for name in ("focal", "principal", "size")},
    )
    weights = {name: bare(weight) for name, weight in problem.prior_weights.items()}
    return attrs.evolve(problem, **changes, camera=camera, prior_weights=weights)
