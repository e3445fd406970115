"""One stage through a TheseusLayer, with or without derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partfit.fitting import Backward, FitProblem, Stage
from partfit.fitting.contours import with_contour_frozen
from partfit.fitting.objective import Objective
from partfit.fitting.steps import of_stage
from partfit_theseus.compat import OPTIMIZERS, LevenbergMarquardt, linear_solver, release, th
from partfit_theseus.cost import FitCost

if TYPE_CHECKING:
    from partfit_theseus.fitter import TheseusFitter

#: Before implicit differentiation, so many iterations at most bring the solution nearer to the minimum, ...
_POLISH = 10
#: ... until one lowers the cost by a smaller share.
_POLISHED = 1e-12
_MODES = {
    "implicit": th.BackwardMode.IMPLICIT,
    "truncated": th.BackwardMode.TRUNCATED,
    "unrolled": th.BackwardMode.UNROLL,
}


@attrs.frozen(eq=False)
class End:
    """Where a stage ended, item by item."""

    state: Float[Tensor, "batch state"]
    iterations: Int[Tensor, " batch"]
    converged: Bool[Tensor, " batch"]
    stalled: Bool[Tensor, " batch"]
    singular: Bool[Tensor, " batch"]


def minimize(
    objective: Objective,
    state: Float[Tensor, "batch state"],
    frozen: Bool[Tensor, " batch"],
    config: TheseusFitter.Config,
) -> End:
    """Minimise the cost of a stage from a state; frozen items stay."""
    if len(objective.columns) == 0 or objective.stage.iterations == 0:
        none = torch.zeros_like(frozen)
        return End(state, none.long(), none, none, none)
    settings = {"frozen": frozen, "tolerance": config.tolerance, **_method(config)}
    optimizer_class = OPTIMIZERS[config.optimizer]
    solver = linear_solver(config.linear_solver)
    iterations = objective.stage.iterations
    return _run(objective, state, frozen, config, optimizer_class, solver, iterations, settings)


def differentiable(
    problem: FitProblem,
    stage: Stage,
    state: Float[Tensor, "batch state"],
    config: TheseusFitter.Config,
    backward: Backward,
) -> Float[Tensor, "batch state"]:
    """The end of the stage from a state, as a function of what the problem was given.

    Source: Pineda et al., "Theseus: A library for differentiable nonlinear optimization", NeurIPS 2022.
    """
    here = state.detach()
    objective = Objective(with_contour_frozen(of_stage(problem, stage, here), here), stage)
    frozen = torch.zeros(len(state), dtype=torch.bool, device=state.device)
    solver = linear_solver("lu-dense" if config.linear_solver == "lu-dense" else "cholesky-dense")
    settings: dict[str, Any] = {"frozen": frozen, "backward_mode": _MODES[backward.mode]}
    if backward.mode == "implicit":
        settings |= {"tolerance": _POLISHED, **_method(config)}
        chosen, iterations = OPTIMIZERS[config.optimizer], _POLISH + 1
    else:
        settings |= {"tolerance": -1.0, "backward_num_iterations": backward.steps}
        settings |= {"damping": backward.damping, "ellipsoidal_damping": True, "damping_eps": 0.0}
        chosen, iterations = LevenbergMarquardt, backward.steps
    return _run(objective, state, frozen, config, chosen, solver, iterations, settings).state


def _method(config: TheseusFitter.Config) -> dict[str, Any]:
    """What the optimizers of Theseus are told; each takes what it knows."""
    if config.optimizer == "dogleg":
        return {"trust_region_init": config.trust_region}
    return {
        "damping": config.initial_damping,
        "adaptive_damping": config.adaptive_damping,
        "ellipsoidal_damping": config.damping == "scaled",
    }


def _run(
    objective: Objective,
    state: Tensor,
    frozen: Tensor,
    config: TheseusFitter.Config,
    optimizer_class: type[Any],
    solver: type[th.LinearSolver],
    iterations: int,
    settings: dict[str, Any],
) -> End:
    cost = FitCost(objective, state, frozen, config.cost)
    whole = th.Objective(dtype=state.dtype)
    whole.add(cost)
    whole.to(device=state.device, dtype=state.dtype)
    optimizer = optimizer_class(whole, linear_solver_cls=solver, max_iterations=iterations)
    layer = th.TheseusLayer(optimizer, vectorize=False)
    layer.forward({"free": state[:, objective.columns]}, settings)
    end = End(cost.state(), optimizer.iterations, optimizer.converged, optimizer.stalled, optimizer.singular)
    release(layer)
    return end
