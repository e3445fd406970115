"""The suite of heads."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partfit.landmarks import LandmarkScheme
from partfit.learning.heads import FeatureShape, Head, HeadModule
from partfit.testing.conformance.base import ConfiguredSuite

#: A vector of features, and a map of them.
FEATURES = (FeatureShape(24), FeatureShape(6, 3, 4))
#: Numbers of a landmark without and with its visibility.
OUTPUTS = (4, 5)


class HeadConformance(ConfiguredSuite):
    """A head: raw numbers of every landmark for every shape of features, that training can change.

    Attributes:
        start_deviation: How far, root mean square, a coordinate may lie from the mean shape before any
            training, crop units.
    """

    start_deviation: float = 0.05

    @abstractmethod
    def make(self) -> Head:
        """The head under test."""

    def make_scheme(self) -> LandmarkScheme:
        """A scheme for it: by default a sheet of 70 landmarks with names, triangles and positions."""
        return _sheet(10, 7)

    def test_each_landmark_gets_its_numbers(self) -> None:
        scheme = self.make_scheme()
        for features, outputs, module in self._modules(scheme):
            for batch in (1, 3):
                raw = module(_random(features, batch))
                assert raw.shape == (batch, len(scheme), outputs), f"for {features}: {tuple(raw.shape)}"
                assert raw.dtype == torch.float32
                assert torch.isfinite(raw).all()

    def test_it_starts_from_the_mean_shape(self) -> None:
        """Whatever the features; and what it says besides positions is finite."""
        scheme = self.make_scheme()
        mean, directions = _shapes(len(scheme))
        for features, _, module in self._modules(scheme):
            module.initialise(mean, directions)
            for x in (torch.zeros_like(_random(features, 4)), _random(features, 4)):
                raw = module(x)
                assert torch.isfinite(raw).all()
                away = (raw[..., :2] - mean).square().mean().sqrt().item()
                assert away <= self.start_deviation, (
                    f"for {features} the positions lie {away:.3f} crop units from the mean shape at first; "
                    "if they are meant to, set `start_deviation`"
                )

    def test_training_reaches_every_parameter(self) -> None:
        scheme = self.make_scheme()
        mean, directions = _shapes(len(scheme))
        for features, _, module in self._modules(scheme):
            module.initialise(mean, directions)
            before = copy.deepcopy(dict(module.named_parameters()))
            _train(module, _random(features, 8), steps=3)
            stuck = [name for name, p in module.named_parameters() if torch.equal(p, before[name])]
            assert not stuck, f"for {features} training leaves {', '.join(stuck)} as they are"

    def test_it_learns(self) -> None:
        """Shapes that are a linear function of the features: a third of the variance goes in 200 steps."""
        scheme = self.make_scheme()
        mean, directions = _shapes(len(scheme))
        for features, _, module in self._modules(scheme):
            module.initialise(mean, directions)
            x = _random(features, 8)
            shapes = mean + torch.einsum("bd,dlc->blc", x.flatten(1)[:, : len(directions)], directions)
            losses = _train(module, x, steps=200, target=shapes)
            assert losses[-1] < 0.67 * losses[0], (
                f"for {features} 200 steps bring the squared error from {losses[0]:.2g} to {losses[-1]:.2g}"
            )

    def test_every_feature_counts(self) -> None:
        scheme = self.make_scheme()
        for features, _, module in self._modules(scheme):
            x = _random(features, 4).requires_grad_()
            module.eval()(x).square().sum().backward()
            assert x.grad is not None
            unused = (x.grad == 0).all(dim=0)
            assert not unused.any(), f"{int(unused.sum())} numbers of {features} change nothing"

    def test_items_do_not_influence_one_another(self) -> None:
        """When it is not being trained."""
        scheme = self.make_scheme()
        for features, _, module in self._modules(scheme):
            x = _random(features, 5)
            module.eval()
            alone = torch.cat([module(x[i, None]) for i in range(len(x))])
            torch.testing.assert_close(module(x), alone, rtol=1e-4, atol=1e-5)

    def test_equal_seeds_give_equal_heads(self) -> None:
        """And equal features equal numbers."""
        scheme, (features, *_) = self.make_scheme(), FEATURES
        x = _random(features, 2)
        one, other = (self._module(features, scheme, 4, seed=3).eval() for _ in range(2))
        assert torch.equal(one(x), other(x)), "two heads of one seed differ"
        assert torch.equal(one(x), one(x)), "one head says two things about equal features"

    def test_its_state_round_trips(self) -> None:
        """A head of another seed, given the state, is the same; so is a copy, such as of averaged weights."""
        scheme = self.make_scheme()
        mean, directions = _shapes(len(scheme))
        for features, outputs, module in self._modules(scheme):
            module.initialise(mean, directions)
            _train(module, _random(features, 4), steps=2)
            other = self._module(features, scheme, outputs, seed=1)
            other.load_state_dict(copy.deepcopy(module.state_dict()))
            x = _random(features, 2)
            raw = module.eval()(x)
            assert torch.equal(other.eval()(x), raw), "what it says is not all in its state"
            assert torch.equal(copy.deepcopy(module)(x), raw)

    def test_half_precision_is_finite(self) -> None:
        """Under bfloat16 autocast, forwards and backwards, and near what float32 gives."""
        scheme = self.make_scheme()
        for features, _, module in self._modules(scheme):
            x = _random(features, 4)
            exact = module.eval()(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                raw = module(x)
            raw.float().square().sum().backward()
            torch.testing.assert_close(raw.float(), exact, rtol=0.05, atol=0.05)
            assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None), (
                "a gradient is not finite"
            )

    def _modules(self, scheme: LandmarkScheme) -> Iterator[tuple[FeatureShape, int, HeadModule]]:
        """One head for each shape of features and number of outputs."""
        for features in FEATURES:
            for outputs in OUTPUTS:
                yield features, outputs, self._module(features, scheme, outputs)

    def _module(
        self, features: FeatureShape, scheme: LandmarkScheme, outputs: int, seed: int = 0
    ) -> HeadModule:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make().module(features, scheme, outputs)


def _sheet(n_columns: int, n_rows: int) -> LandmarkScheme:
    """A bent sheet, 1 cm between its landmarks."""
    x, y = np.meshgrid(np.arange(n_columns), np.arange(n_rows))
    a = (x[:-1, :-1] + n_columns * y[:-1, :-1]).ravel()
    b, c, d = a + 1, a + n_columns, a + n_columns + 1
    positions = 0.01 * np.stack([x, y, np.sin(x) + 0.5 * np.cos(y)], axis=-1).reshape(-1, 3)
    triangles = np.concatenate([np.stack([a, b, d], axis=1), np.stack([a, d, c], axis=1)])
    names = [f"p{i:02d}" for i in range(x.size)]
    return LandmarkScheme("conformance-sheet", names, triangles=triangles, positions=positions)


def _random(features: FeatureShape, batch: int) -> Float[Tensor, "batch channels height width"]:
    """Features of variance 1, always the same."""
    shape = (batch, features.channels, features.height, features.width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(batch))


def _shapes(n: int) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "3 n 2"]]:
    """A mean shape and three directions of variation: along x, along y and in size."""
    mean = torch.rand((n, 2), generator=torch.Generator().manual_seed(0)) - 0.5
    along_x, along_y = torch.eye(2).expand(n, 2, 2).unbind(dim=1)
    return mean, torch.stack([0.1 * along_x, 0.05 * along_y, 0.1 * mean])


def _train(
    module: HeadModule,
    x: Float[Tensor, "batch channels height width"],
    steps: int,
    target: Float[Tensor, "batch landmarks 2"] | None = None,
) -> list[float]:
    """The squared error of each step; of all outputs from 1, or of the positions from a target."""
    optimizer = torch.optim.Adam(module.train().parameters(), lr=1e-3)
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of dropout
        for _ in range(steps):
            raw = module(x)
            error = raw - 1 if target is None else raw[..., :2] - target
            loss = error.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses
