"""Heads: from a backbone's features to the raw numbers of each landmark."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal

import attrs
import torch
from jaxtyping import Float
from torch import Tensor, nn

from partfit.component import Component
from partfit.errors import ConfigError
from partfit.landmarks import LandmarkScheme

#: Raw number of a scale before any training: exp(-3) = 0.050 and sigmoid(-3) = 0.047 of the crop.
RAW_SCALE = -3.0

#: Raw number of the visibility before any training: a probability of 0.73.
RAW_VISIBILITY = 1.0

#: Spread of the outputs before any training, for features of variance 1: crop units, or logits.
_SMALL = 0.01

#: Spread of the coordinates along given directions before any training, standard deviations of the data.
_SMALL_COORDINATE = 0.1


@attrs.frozen
class FeatureShape:
    """The shape of a backbone's features of one picture.

    Attributes:
        channels: C.
        height, width: Of the feature map; 1 and 1 for a vector of features.
    """

    channels: int
    height: int = 1
    width: int = 1

    @property
    def size(self) -> int:
        """How many numbers that is."""
        return self.channels * self.height * self.width


class HeadModule(nn.Module, ABC):
    """A head for one scheme and one shape of features.

    Attributes:
        n_directions: How many of the directions that `initialise` is given it can use, at most.
    """

    n_directions: int = 0

    @abstractmethod
    def forward(self, features: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch L D"]:
        """D raw numbers for each of the L landmarks: x, y, two of scale and, if asked for, visibility.

        x and y are crop units as they are; a `Likelihood` makes scales of the next two.
        """

    @abstractmethod
    def initialise(
        self, mean: Float[Tensor, "landmarks 2"], directions: Float[Tensor, "directions landmarks 2"]
    ) -> None:
        """Start from the shape of the data, so that training need not find it.

        Before any training the head is then to put out about `mean`, whatever the features.

        Args:
            mean: Mean position of each landmark, crop units.
            directions: Principal directions of the training shapes times their standard deviations, the
                largest first: `n_directions`, or fewer where the data have no more. A head may use them,
                some of them, or none.
        """


class Head(Component):
    """A head, from which `module` makes the trainable part."""

    kind = "head"

    @abstractmethod
    def module(self, features: FeatureShape, scheme: LandmarkScheme, outputs: int) -> HeadModule:
        """The head for features of a shape and landmarks of a scheme, with `outputs` numbers a landmark.

        It is also built on torch's device `meta`, where tensors have shapes but no values.

        Raises:
            InputError: if the scheme lacks what the head needs, such as triangles.
        """


def raw_start(outputs: int) -> Float[Tensor, " outputs"]:
    """What a head is to put out for each landmark before any training.

    That is the middle of the crop, twice `RAW_SCALE`, and `RAW_VISIBILITY` for what comes after these.
    """
    start = torch.full((outputs,), RAW_VISIBILITY)
    start[:2], start[2:4] = 0.0, RAW_SCALE
    return start


def _check_rank(rank: int | None) -> None:
    if rank is not None and rank < 1:
        raise ConfigError(f"rank: expected a whole number above 0, or none; found {rank}.")


class LinearHead(Head):
    """All raw numbers as one affine map of all features."""

    @attrs.frozen
    class Config:
        """Options.

        Attributes:
            rank: If given, positions, scales and visibility are each a map of so many numbers, which are a
                map of the features: far fewer weights than one map of everything where landmarks are many,
                and positions start as sums of the directions in which the data varies most.
        """

        rank: int | None = None

        def __attrs_post_init__(self) -> None:
            _check_rank(self.rank)

    config: Config

    def module(self, features: FeatureShape, scheme: LandmarkScheme, outputs: int) -> HeadModule:
        """See `Head.module`."""
        last = _OutputLayer(features.size, len(scheme), outputs, self.config.rank)
        return _SequentialHead([nn.Flatten()], last)


_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class MLPHead(Head):
    """A multi-layer perceptron of all features."""

    @attrs.frozen
    class Config:
        """Options.

        Attributes:
            hidden: Sizes of the hidden layers, the first first; none are fine.
            activation: What follows each of them, and the squeeze: `relu`, `gelu` or `silu`.
            dropout: Share of each hidden layer that is left out in training, in [0, 1).
            squeeze: If given, spatial features are first reduced to so many channels, each place by itself
                (a 1 x 1 convolution): it keeps where things are at the cost of a small first layer.
            rank: As that of the linear head, of the last layer.
        """

        hidden: tuple[int, ...] = (512,)
        activation: Literal["relu", "gelu", "silu"] = "relu"
        dropout: float = 0.0
        squeeze: int | None = None
        rank: int | None = None

        def __attrs_post_init__(self) -> None:
            _check_rank(self.rank)
            if any(size < 1 for size in self.hidden):
                raise ConfigError(f"hidden: expected sizes above 0, found {list(self.hidden)}.")
            if not 0 <= self.dropout < 1:
                raise ConfigError(f"dropout: expected a number in [0, 1), found {self.dropout}.")
            if self.squeeze is not None and self.squeeze < 1:
                raise ConfigError(f"squeeze: expected a whole number above 0, or none; found {self.squeeze}.")

    config: Config

    def module(self, features: FeatureShape, scheme: LandmarkScheme, outputs: int) -> HeadModule:
        """See `Head.module`."""
        activation = _ACTIVATIONS[self.config.activation]
        layers: list[nn.Module] = []
        if self.config.squeeze is not None:
            layers += [nn.Conv2d(features.channels, self.config.squeeze, 1), activation()]
            features = attrs.evolve(features, channels=self.config.squeeze)
        layers.append(nn.Flatten())
        sizes = (features.size, *self.config.hidden)
        for size, following in itertools.pairwise(sizes):
            layers += [nn.Linear(size, following), activation()]
            layers += [nn.Dropout(self.config.dropout)] if self.config.dropout else []
        last = _OutputLayer(sizes[-1], len(scheme), outputs, self.config.rank)
        return _SequentialHead(layers, last)


class _SequentialHead(HeadModule):
    """Layers, the last of which is an output layer."""

    def __init__(self, layers: Iterable[nn.Module], last: _OutputLayer) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers, last)
        self.n_directions = last.rank or 0

    def forward(self, features: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch L D"]:
        raw: Tensor = self.layers(features)
        return raw

    def initialise(
        self, mean: Float[Tensor, "landmarks 2"], directions: Float[Tensor, "directions landmarks 2"]
    ) -> None:
        last = self.layers[-1]
        assert isinstance(last, _OutputLayer)
        last.initialise(mean, directions)


class _OutputLayer(nn.Module):
    """Numbers (B, F) to raw numbers (B, L, D): an affine map each for positions, scales and visibility."""

    def __init__(self, features: int, landmarks: int, outputs: int, rank: int | None) -> None:
        super().__init__()
        self.rank, self._landmarks = rank, landmarks
        start = raw_start(outputs).split([2, 2, outputs - 4] if outputs > 4 else [2, 2])
        self.maps = nn.ModuleList(_Affine(features, values.repeat(landmarks), rank) for values in start)

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch L D"]:
        parts = [part(features).unflatten(1, (self._landmarks, -1)) for part in self.maps]
        return torch.cat(parts, dim=2)

    @torch.no_grad()
    def initialise(
        self, mean: Float[Tensor, "landmarks 2"], directions: Float[Tensor, "directions landmarks 2"]
    ) -> None:
        positions = self.maps[0]
        assert isinstance(positions, _Affine)
        positions.initialise(mean.flatten(), directions.flatten(1))


class _Affine(nn.Module):
    """An affine map that puts out about the same for all features at first; through a bottleneck if asked."""

    def __init__(self, features: int, start: Float[Tensor, " outputs"], rank: int | None) -> None:
        super().__init__()
        self.reduce = None if rank is None else nn.Linear(features, rank)
        self.out = nn.Linear(features if rank is None else rank, len(start))
        if self.reduce is not None:
            _set(self.reduce, 1.0, torch.zeros(rank or 0))
        _set(self.out, _SMALL, start)

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch outputs"]:
        if self.reduce is not None:
            features = self.reduce(features)
        result: Tensor = self.out(features)
        return result

    @torch.no_grad()
    def initialise(
        self, mean: Float[Tensor, " outputs"], directions: Float[Tensor, "directions outputs"]
    ) -> None:
        """Start from a mean; with a bottleneck, its numbers become coordinates along the directions."""
        self.out.bias.copy_(mean)
        if self.reduce is None:
            return
        used = min(len(directions), self.out.in_features)
        self.out.weight[:, :used] = directions[:used].T.to(self.out.weight)
        _set(self.reduce, _SMALL_COORDINATE, torch.zeros(self.reduce.out_features))


@torch.no_grad()
def _set(layer: nn.Linear, spread: float, bias: Float[Tensor, " outputs"]) -> None:
    """Random weights that give outputs of a spread for features of variance 1, about a bias."""
    nn.init.normal_(layer.weight, std=spread / layer.in_features**0.5)
    layer.bias.copy_(bias)
