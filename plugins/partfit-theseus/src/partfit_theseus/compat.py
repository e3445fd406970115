"""Theseus as the fitter needs it: every fault of theseus-ai 0.2.3 is worked around here, and nowhere else.

Importing this module imports Theseus.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.fitting.objective import hold
from partfit.fitting.steps import LIMIT_PASSES
from partfit_theseus.install import require_sparse

with warnings.catch_warnings():
    # It warns that scikit-sparse is missing even where nobody asked for the solver that needs it.
    warnings.filterwarnings("ignore", message="Couldn't import skparse", category=UserWarning)
    import theseus as th

__all__ = [
    "OPTIMIZERS",
    "BoundedVector",
    "LevenbergMarquardt",
    "UnitWeight",
    "linear_solver",
    "release",
    "th",
]

Solved = tuple[Float[Tensor, "batch columns 1"], Bool[Tensor, " batch"]]


class UnitWeight(th.CostWeight):
    """Weight 1. That of Theseus multiplies, and so copies, the Jacobian."""

    def is_zero(self) -> Tensor:  # noqa: D102 (inherited)
        return torch.zeros(1, dtype=torch.bool)

    def weight_error(self, error: Tensor) -> Tensor:  # noqa: D102 (inherited)
        return error

    def weight_jacobians_and_error(  # noqa: D102 (inherited)
        self, jacobians: list[Tensor], error: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        return jacobians, error

    def _copy_impl(self, new_name: str | None = None) -> UnitWeight:
        return UnitWeight(name=new_name)


class BoundedVector(th.Vector):
    """A vector whose steps end at limits; vectors of Theseus have none."""

    def __init__(self, tensor: Tensor, lower: Tensor, upper: Tensor, name: str | None = None) -> None:
        super().__init__(tensor=tensor, name=name)
        self.lower, self.upper = lower, upper

    def _retract_impl(self, delta: Tensor) -> BoundedVector:
        return BoundedVector((self.tensor + delta).clamp(self.lower, self.upper), self.lower, self.upper)

    def _copy_impl(self, new_name: str | None = None) -> BoundedVector:
        return BoundedVector(self.tensor.clone(), self.lower, self.upper, new_name)


class _ItemByItemSolver:
    """Dense solvers of Theseus raise for the whole batch when the system of one item is singular.

    Here that item gets a step of 0 and is marked. Besides, float32 systems are solved in float64, since their
    condition numbers exceed what float32 can tell; and the step is the best one within the limits, which
    Theseus does not know: merely cut off at them, steps are poor where many limits are active.

    Attributes:
        singular: (B,) items whose last system could not be solved.
        step: (B, C) the last step.
    """

    linearization: Any
    singular: Tensor
    step: Tensor

    def _solve_sytem(self, Atb: Tensor, AtA: Tensor) -> Tensor:  # the name is Theseus'
        (free,) = self.linearization.ordering
        room = (free.lower - free.tensor).double(), (free.upper - free.tensor).double()
        step, self.singular = self._within(AtA.double(), Atb[..., 0].double(), *room)
        self.step = step.to(Atb)
        return self.step

    def _within(self, matrix: Tensor, right: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The step within limits by active sets, as `bounded_minimum`, and the items that have none."""
        held, fixed, slope = torch.zeros_like(right, dtype=torch.bool), torch.zeros_like(right), right
        for _ in range(LIMIT_PASSES):
            free, lost = self._sound(hold(matrix, held), torch.where(held, 0, slope))
            step = torch.where(held, fixed, free)
            beyond = ~held & ((step < lower) | (step > upper))
            if not bool(beyond.any()):
                break
            fixed = torch.where(beyond, step.clamp(lower, upper), fixed)
            slope = right - (matrix @ fixed[..., None])[..., 0]
            held = held | beyond
        return torch.where(lost[:, None], 0, step.clamp(lower, upper)), lost

    def _sound(self, matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """The solutions, 0 for items that have none, and which these are."""
        solution, lost = self._solved(matrix, right[..., None])
        if bool(lost.any()):
            eye = torch.eye(matrix.shape[-1]).to(matrix).expand_as(matrix)
            matrix = torch.where(lost[:, None, None], eye, matrix)
            solution, _ = self._solved(matrix, torch.where(lost[:, None], 0, right)[..., None])
        return solution[..., 0], lost

    def _solved(self, matrix: Tensor, right: Tensor) -> Solved:
        raise NotImplementedError


class CholeskyDense(_ItemByItemSolver, th.CholeskyDenseSolver):
    """Cholesky decomposition, item by item."""

    def _solved(self, matrix: Tensor, right: Tensor) -> Solved:
        factor, info = torch.linalg.cholesky_ex(matrix)
        solution = torch.cholesky_solve(right, factor)
        return solution, (info != 0) | ~torch.isfinite(solution).flatten(1).all(1)


class LUDense(_ItemByItemSolver, th.LUDenseSolver):
    """LU decomposition, item by item."""

    def _solved(self, matrix: Tensor, right: Tensor) -> Solved:
        solution, info = torch.linalg.solve_ex(matrix, right)
        return solution, (info != 0) | ~torch.isfinite(solution).flatten(1).all(1)


class _SparseSolver:
    """Sparse solvers raise for the whole batch too, and cannot say for which item: all are marked."""

    linearization: Any
    errors: tuple[type[Exception], ...] = (RuntimeError,)
    singular: Tensor
    step: Tensor

    def solve(self, *args: Any, **kwargs: Any) -> Tensor:
        """The step, 0 where the system could not be solved."""
        b = self.linearization.b
        try:
            self.step = super().solve(*args, **kwargs)  # type: ignore[misc]
        except self.errors:
            self.step = b.new_full((len(b), self.linearization.num_cols), torch.nan)
        lost = ~torch.isfinite(self.step).all(1)
        self.singular, self.step = lost, torch.where(lost[:, None], 0, self.step)
        return self.step


def linear_solver(name: str) -> type[th.LinearSolver]:
    """The class of a linear solver.

    Raises:
        ComponentError: if what a sparse solver needs is missing.
    """
    dense = {"cholesky-dense": CholeskyDense, "lu-dense": LUDense}
    if name in dense:
        return dense[name]
    require_sparse(name)
    if name == "cholmod":
        from sksparse.cholmod import CholmodError

        class Cholmod(_SparseSolver, th.CholmodSparseSolver):
            errors = (CholmodError,)

        return Cholmod
    base = {"lu-cuda": th.LUCudaSparseSolver, "baspacho": th.BaspachoSparseSolver}[name]
    return type(base.__name__, (_SparseSolver, base), {})


class _ItemByItem:
    """The loop of Theseus with a decision of its own for each item.

    What is wrong with the loop of 0.2.3:

    - An item whose step is rejected counts as converged when the step of another is accepted: its error has
      not changed. When all are rejected, all try again without the iteration being counted. So what becomes
      of an item depends on the others.
    - All items have converged when the mean of their errors is small.
    - Comparisons with NaN are false, so that a step to where the error is NaN is accepted.
    - A step that is short because of strong damping or a small trust region counts as convergence.

    Attributes:
        converged: (B,) items whose error no longer decreases.
        stalled: (B,) items for which no step lowers the error.
        singular: (B,) items that have a system without solution and no damping that could grow.
        iterations: (B,) taken by each item.
    """

    objective: Any
    linear_solver: Any
    converged: Tensor
    stalled: Tensor
    singular: Tensor
    iterations: Tensor

    def reset(self, frozen: Tensor, tolerance: float, **kwargs: Any) -> None:
        """Begin.

        Args:
            frozen: (B,) items that stay where they are.
            tolerance: An item has converged when an iteration lowers its error by a smaller share; below 0,
                all iterations are taken.
            kwargs: As Theseus has them.
        """
        super().reset(**kwargs)  # type: ignore[misc]
        self._frozen, self._tolerance = frozen, tolerance
        self.converged, self.stalled, self.singular = (torch.zeros_like(frozen) for _ in range(3))
        self._rejected, self.iterations = (
            torch.zeros_like(frozen),
            torch.zeros_like(frozen, dtype=torch.int64),
        )
        self._predicted = torch.zeros(len(frozen)).to(frozen.device, self.objective.dtype)
        self._full = torch.ones_like(frozen)

    @property
    def _finished(self) -> Tensor:
        return self._frozen | self.converged | self.stalled | self.singular

    def _step(self, *args: Any, **kwargs: Any) -> tuple[Tensor, bool]:
        error, _ = super()._step(*args, **kwargs)  # type: ignore[misc]
        return error, False  # an iteration counts, whether or not all items rejected it

    def _complete_step(self, delta: Tensor, new_err: Tensor, previous_err: Tensor, **kwargs: Any) -> Tensor:
        linearization = self.linear_solver.linearization
        curvature = linearization.Av(delta).square().sum(1)
        self._predicted = (delta * linearization.Atb[..., 0]).sum(1) - 0.5 * curvature
        self._full = self._is_full(delta)
        lost = ~torch.isfinite(new_err) | self.linear_solver.singular
        new_err = torch.where(lost, torch.inf, new_err)
        rejected = super()._complete_step(delta, new_err, previous_err, **kwargs)  # type: ignore[misc]
        self._rejected = lost if rejected is None else lost | rejected
        self.iterations = self.iterations + ~self._finished
        return self._rejected | self._finished

    def _update_info(self, info: Any, current_iter: int, err: Tensor, converged_indices: Tensor) -> None:
        # Theseus' own asks numpy for an array in a way that numpy 2 deprecates. The histories that it also
        # keeps are not asked for here.
        info.converged_iter += ~converged_indices
        finished = self._check_convergence(err, info.last_err)
        info.status[finished.cpu().numpy()] = th.NonlinearOptimizerStatus.CONVERGED

    @torch.no_grad()
    def _check_convergence(self, err: Tensor, last_err: Tensor) -> Tensor:
        moving = ~self._finished
        # a rejected step promised a gain at least; where even that is small, the item has arrived
        gain = torch.where(self._rejected, self._predicted, last_err - err).abs()
        small = (gain <= self._tolerance * last_err) if self._tolerance >= 0 else torch.zeros_like(moving)
        arrived = small & self._full & ~self.linear_solver.singular
        stuck = self._rejected & self._at_end & ~arrived
        self.converged = self.converged | moving & arrived
        self.singular = self.singular | moving & stuck & self.linear_solver.singular
        self.stalled = self.stalled | moving & stuck & ~self.linear_solver.singular
        return self._finished

    def _is_full(self, delta: Tensor) -> Tensor:
        """(B,) whether the step is about Gauss-Newton's: only then does a small gain mean convergence."""
        return torch.ones_like(self._frozen)

    @property
    def _at_end(self) -> Tensor:
        """(B,) whether the step after a rejected one would be no other."""
        return torch.ones_like(self._frozen)


class GaussNewton(_ItemByItem, th.GaussNewton):
    """Gauss-Newton, item by item."""


class LevenbergMarquardt(_ItemByItem, th.LevenbergMarquardt):
    """Levenberg-Marquardt, item by item; damping that adapts, adapts to each item."""

    def _is_full(self, delta: Tensor) -> Tensor:
        return self._damping <= 1 if isinstance(self._damping, Tensor) else super()._is_full(delta)

    @property
    def _at_end(self) -> Tensor:
        adapts = isinstance(self._damping, Tensor)
        return self._damping >= self._MAX_DAMPING if adapts else super()._at_end


class Dogleg(_ItemByItem, th.Dogleg):
    """Dogleg, item by item."""

    #: Smallest radius of the trust region; Theseus' default, which is not to be had from its class.
    _SMALLEST = 1e-5

    def _compute_delta_impl(self) -> Tensor:
        # Gauss-Newton steps inside the trust region come out with a rounding error where another item's lies
        # outside, and without where all lie inside.
        delta = super()._compute_delta_impl()
        newton = self.linear_solver.step
        self._inside = newton.square().sum(1) < self._trust_region[:, 0] ** 2
        return torch.where(self._inside[:, None], newton, delta)

    def _is_full(self, delta: Tensor) -> Tensor:
        return self._inside

    @property
    def _at_end(self) -> Tensor:
        # without a Gauss-Newton step there is no dogleg, however small the region
        return (self._trust_region[:, 0] <= self._SMALLEST) | self.linear_solver.singular


OPTIMIZERS = {"levenberg-marquardt": LevenbergMarquardt, "gauss-newton": GaussNewton, "dogleg": Dogleg}


def release(layer: th.TheseusLayer) -> None:
    """Let go of a layer's tensors.

    An objective of Theseus refers to its own methods, and so to itself: without this, its tensors and their
    history would stay until the garbage collector's next full round.
    """
    vars(layer.objective).clear()
