"""The suite of losses."""

from __future__ import annotations

import copy
from abc import abstractmethod

import attrs
import numpy as np
import torch
from torch import Tensor

from partfit.landmarks import LandmarkScheme
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit.learning.losses import Likelihood, Loss, LossModule
from partfit.testing.conformance.base import ConfiguredSuite

#: Items of a batch.
BATCH = 3


class LossConformance(ConfiguredSuite):
    """A loss: finite whatever comes in, blind to landmarks without weight, with true gradients.

    It is asked with parameters, if it has any, that differ from those it begins with.
    """

    @abstractmethod
    def make(self) -> Loss:
        """The loss under test."""

    def make_scheme(self) -> LandmarkScheme:
        """A scheme for it: by default a sheet of 20 landmarks with triangles and edges."""
        return _sheet(5, 4)

    def test_it_is_a_number_that_learns(self) -> None:
        """A scalar of at least float32, with a finite gradient of what is predicted that is not all 0."""
        module, outputs, targets = self._case()
        loss = _loss(module, outputs, targets)
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        gradient = _gradient(loss, outputs)
        assert torch.isfinite(gradient).all()
        assert gradient.any(), "the loss does not depend on what is predicted"

    def test_landmarks_without_weight_do_not_matter(self) -> None:
        """Neither wherever they are predicted, nor what their targets hold."""
        module, outputs, targets = self._case()
        weight = targets.weight.clone()
        weight[:, ::3] = 0
        masked = attrs.evolve(targets, weight=weight)
        points, moved = targets.points.clone(), outputs.detach().clone()
        points[:, ::3] = torch.nan
        moved[:, ::3] += 7
        other = attrs.evolve(masked, points=points)
        moved.requires_grad_()
        loss = _loss(module, moved, other)
        torch.testing.assert_close(loss, _loss(module, outputs, masked))
        gradient = _gradient(loss, moved)
        assert torch.isfinite(gradient).all()
        assert not gradient[:, ::3].any(), "landmarks of weight 0 have a gradient"

    def test_a_batch_without_weight_has_the_loss_0(self) -> None:
        """And so has one of which nothing is known, not even who is in sight."""
        module, outputs, targets = self._case()
        for visible in (targets.visible, None):
            nothing = LandmarkTargets(targets.points, torch.zeros_like(targets.weight), visible)
            loss = _loss(module, outputs, nothing)
            assert loss == 0
            if loss.requires_grad:
                assert not _gradient(loss, outputs).any()

    def test_importance_counts(self) -> None:
        """Of landmarks whose positions matter: more weight changes the loss."""
        module, outputs, targets = self._case()
        position = _gradient(_loss(module, outputs, targets), outputs)[..., :2]
        for item, landmark in position.any(dim=-1).nonzero()[::7].tolist():
            weight = targets.weight.clone()
            weight[item, landmark] *= 100
            heavier = _loss(module, outputs, attrs.evolve(targets, weight=weight))
            assert heavier != _loss(module, outputs, targets), f"the weight of landmark {landmark} is ignored"

    def test_the_order_of_items_does_not_matter(self) -> None:
        module, outputs, targets = self._case()
        order = torch.arange(BATCH).roll(1)
        assert targets.visible is not None
        rolled = LandmarkTargets(targets.points[order], targets.weight[order], targets.visible[order])
        torch.testing.assert_close(_loss(module, outputs[order], rolled), _loss(module, outputs, targets))

    def test_gradients_are_true(self) -> None:
        """Of what is predicted and of the loss's own parameters, against central differences in float64."""
        module, outputs, targets = self._case()
        module = module.double()
        exact = outputs.detach().double().requires_grad_()
        assert targets.visible is not None
        precise = LandmarkTargets(*(x.double() for x in (targets.points, targets.weight, targets.visible)))
        inputs = [exact, *module.parameters()]
        loss = _loss(module, exact, precise)
        gradients = torch.autograd.grad(loss, inputs, materialize_grads=True)
        generator = torch.Generator().manual_seed(2)
        for x, gradient in zip(inputs, gradients, strict=True):
            direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            assert gradient.dtype == torch.float64
            step = 1e-6
            with torch.no_grad():
                values = []
                for sign in (1, -1):
                    x += sign * step * direction
                    values.append(_loss(module, exact, precise))
                    x -= sign * step * direction
            expected = (values[0] - values[1]) / (2 * step)
            found = (gradient * direction).sum()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    def test_extreme_numbers_are_finite(self) -> None:
        """Raw numbers of +-1e4, positions off by 1e6, scales of 1e-8 and 1e8: loss and all gradients."""
        module, outputs, targets = self._case()
        for position in (0.0, 1e6, -1e6):
            for raw in (-1e4, -20.0, 0.0, 20.0, 1e4):
                extreme = outputs.detach().clone()
                extreme[:, ::2, :2] += position
                extreme[:, ::2, 2:4] = raw
                extreme[:, ::2, 4] = raw
                _check_finite(module, extreme, targets)

    def test_half_precision_is_finite(self) -> None:
        """Predictions of half precision, and bfloat16 autocast: finite, and near what float32 gives."""
        module, outputs, targets = self._case()
        expected = _loss(module, outputs, targets)
        for dtype in (torch.float16, torch.bfloat16):
            rounded = outputs.detach().to(dtype)
            precise = _loss(module, rounded.float(), targets)
            loss = _check_finite(module, rounded, targets)
            assert loss.dtype == torch.float32, "a loss of half precision has no digits left to add up"
            torch.testing.assert_close(loss, precise, rtol=0.02, atol=0.02)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = _check_finite(module, outputs.detach(), targets)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)

    def test_equal_inputs_give_equal_losses(self) -> None:
        """And stay as they are."""
        module, outputs, targets = self._case()
        given = [x.clone() for x in (outputs, targets.points, targets.weight)]
        assert torch.equal(_loss(module, outputs, targets), _loss(module, outputs, targets))
        after = (outputs, targets.points, targets.weight)
        assert all(torch.equal(*pair) for pair in zip(given, after, strict=True))

    def test_its_state_round_trips(self) -> None:
        """A loss of another seed, given the state, is the same; so is a copy."""
        module, outputs, targets = self._case()
        other = self._module(seed=1)
        other.load_state_dict(copy.deepcopy(module.state_dict()))
        expected = _loss(module, outputs, targets)
        assert torch.equal(_loss(other, outputs, targets), expected), "what it says is not all in its state"
        assert torch.equal(_loss(copy.deepcopy(module), outputs, targets), expected)

    def test_a_likelihood_says_what_its_scales_mean(self) -> None:
        """If it is one: scales grow with the raw numbers, or stay; the deviation is positive and fixed."""
        module, _, _ = self._case()
        if not isinstance(module, Likelihood):
            return
        raw = torch.cat([torch.tensor([-1e4]), torch.linspace(-30, 30, 61), torch.tensor([1e4])])
        log_scale = module.log_scale(raw[:, None].expand(-1, 2))
        assert log_scale.shape == (len(raw), 2)
        assert log_scale.dtype == torch.float32
        assert torch.isfinite(log_scale.exp()).all()
        assert (log_scale.exp() > 0).all()
        assert (log_scale.diff(dim=0) >= 0).all(), "a larger raw number must not mean a smaller scale"
        deviation = module.deviation()
        assert deviation.shape == (2,)
        assert torch.isfinite(deviation).all()
        assert (deviation > 0).all()
        assert not deviation.requires_grad
        assert torch.equal(deviation, module.deviation())

    def test_a_likelihood_prefers_the_truth(self) -> None:
        """If it is one: errors of a hundredth of the crop cost less than errors of a fifth."""
        module, outputs, targets = self._case()
        if isinstance(module, Likelihood):
            near, far = outputs.detach().clone(), outputs.detach().clone()
            near[..., :2], far[..., :2] = targets.points + 0.01, targets.points + 0.2
            near[..., 2:4] = far[..., 2:4] = -3.0
            assert _loss(module, near, targets) < _loss(module, far, targets)

    def _module(self, seed: int = 0) -> LossModule:
        """The loss, its parameters stirred."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = self.make().module(self.make_scheme())
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        return module

    def _case(self) -> tuple[LossModule, Tensor, LandmarkTargets]:
        """The loss, what a head puts out (B, L, 5), and targets: some unknown, of unequal weight."""
        landmarks = len(self.make_scheme())
        generator = torch.Generator().manual_seed(0)
        points = 0.2 * torch.randn(BATCH, landmarks, 2, generator=generator)
        outputs = torch.randn(BATCH, landmarks, 5, generator=generator)
        outputs[..., :2] = points + 0.05 * outputs[..., :2]
        outputs[..., 2:4] = outputs[..., 2:4] - 2
        weight = 0.5 + torch.rand(BATCH, landmarks, generator=generator)
        visible = (torch.rand(BATCH, landmarks, generator=generator) < 0.7).float()
        weight[0, 1] = 0
        points[0, 1] = 0
        visible[1, 2] = torch.nan
        return self._module(), outputs.requires_grad_(), LandmarkTargets(points, weight, visible)


def _distribution(module: LossModule, outputs: Tensor) -> LandmarkDistribution:
    raw = outputs[..., 2:4]
    log_scale = module.log_scale(raw) if isinstance(module, Likelihood) else raw.clamp(-18, 18)
    return LandmarkDistribution(outputs[..., :2], log_scale, outputs[..., 4])


def _loss(module: LossModule, outputs: Tensor, targets: LandmarkTargets) -> Tensor:
    loss: Tensor = module(_distribution(module, outputs), targets)
    return loss


def _gradient(loss: Tensor, outputs: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, outputs, retain_graph=True, materialize_grads=True)
    return gradient


def _check_finite(module: LossModule, outputs: Tensor, targets: LandmarkTargets) -> Tensor:
    """The loss, after a look at it and at all gradients."""
    outputs = outputs.clone().requires_grad_()
    loss = _loss(module, outputs, targets)
    assert torch.isfinite(loss), f"the loss is {loss.item()}"
    assert torch.isfinite(_gradient(loss, outputs)).all(), "a gradient of what is predicted is not finite"
    if parameters := list(module.parameters()):
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        assert all(torch.isfinite(gradient).all() for gradient in gradients), "a gradient is not finite"
    return loss.detach()


def _sheet(width: int, height: int) -> LandmarkScheme:
    """A scheme of points on a grid."""
    index = np.arange(width * height).reshape(height, width)
    upper = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, :-1]], axis=-1).reshape(-1, 3)
    lower = np.stack([index[1:, :-1], index[:-1, 1:], index[1:, 1:]], axis=-1).reshape(-1, 3)
    triangles = np.concatenate([upper, lower])
    names = [f"p{i}" for i in range(index.size)]
    return LandmarkScheme("sheet", names, triangles=triangles, edges=triangles[:, :2])
