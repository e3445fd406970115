"""The start head: from features and landmarks to where the fit of a model may begin.

It puts out numbers that hold for any camera: the coefficients in deviations of their prior, the rotation in
the axes of a camera that looks straight at the part, where the mean of the landmarks lies in the crop, and
the logarithm of the metres that the crop spans at its depth. See `partfit.fitting.starts`.
"""

from __future__ import annotations

import itertools

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from partfit.errors import ConfigError
from partfit.fitting.starts import SeenPose
from partfit.geometry.crops import Crop
from partfit.landmarks import Start
from partfit.learning.heads import FeatureShape
from partfit.models.base import ParameterGroup, ParametricModel

#: Landmarks come into the head as differences from their usual places, in this unit: crop units.
_UNIT = 0.1
#: Spread of the outputs before any training, in the units of `_TOLERANCES`.
_SMALL = 0.1
#: Errors that count as 1 in the loss, and units of the raw numbers: entries of the rotation matrix, crop
#: units, and logarithms of the size and of the focal length. Coefficients have their prior's deviation.
_TOLERANCES = {"rotation": 0.2, "place": 0.03, "log_size": 0.1, "log_focal": 0.2}


@attrs.frozen
class StartGroup:
    """A parameter group that is predicted.

    Attributes:
        name: Of the group.
        size: Its number of coordinates.
    """

    name: str
    size: int


@attrs.frozen
class StartLayout:
    """What a start head predicts: all that determines it beside its weights.

    Attributes:
        topology: Name of the topology of the model that it is for.
        groups: The groups, rigid ones left out: they are the pose.
        focal: Whether it predicts the focal length.
        hidden: Sizes of the hidden layers.
    """

    topology: str
    groups: tuple[StartGroup, ...]
    focal: bool = False
    hidden: tuple[int, ...] = (256, 256)

    def __attrs_post_init__(self) -> None:
        if not self.hidden or any(size < 1 for size in self.hidden):
            raise ConfigError(f"hidden: expected sizes above 0, at least one; found {list(self.hidden)}.")

    @property
    def n_coefficients(self) -> int:
        """How many coefficients there are in all groups."""
        return sum(group.size for group in self.groups)

    @property
    def n_outputs(self) -> int:
        """How many raw numbers the head puts out: coefficients, 6 of rotation, 2 of place, size, focal."""
        return self.n_coefficients + 9 + self.focal


@attrs.frozen(eq=False)
class StartPrediction:
    """What a head says of crops, or the truth about them.

    Attributes:
        coefficients: (B, C) of the groups of the layout, in deviations of their prior from its mean.
        rotation: (B, 3, 3) from the model frame to a camera that looks straight at `place`, the crop upright.
        place: (B, 2) where the mean of the landmarks lies, crop units.
        log_size: (B,) logarithm of the metres that the crop spans at the depth of that mean.
        log_focal: (B,) logarithm of the focal length in sides of the crop; None if not predicted.
    """

    coefficients: Float[Tensor, "batch coefficients"]
    rotation: Float[Tensor, "batch 3 3"]
    place: Float[Tensor, "batch 2"]
    log_size: Float[Tensor, " batch"]
    log_focal: Float[Tensor, " batch"] | None

    @property
    def raw(self) -> Float[Tensor, "batch outputs"]:
        """Raw numbers of a head that mean this; see `StartHead.prediction`."""
        parts = {
            "rotation": self.rotation[:, :, :2].mT.flatten(1),
            "place": self.place,
            "log_size": self.log_size[:, None],
        }
        if self.log_focal is not None:
            parts["log_focal"] = self.log_focal[:, None]
        scaled = [values / _TOLERANCES[name] for name, values in parts.items()]
        return torch.cat([self.coefficients, *scaled], dim=1)

    def pose(self, resolution: int) -> SeenPose:
        """The pose in pixels of crops of a resolution."""
        return SeenPose(
            self.rotation, (self.place + 0.5) * resolution - 0.5, self.log_size.exp() / resolution
        )


class StartHead(nn.Module):
    """Features and predicted landmarks in, a `StartPrediction` out.

    The landmarks are taken as they are: no gradient goes back to them, so that they stay what the likelihood
    makes of them.

    Attributes:
        layout: What it predicts.
    """

    def __init__(self, layout: StartLayout, features: FeatureShape, landmarks: int) -> None:
        super().__init__()
        self.layout = layout
        sizes = (features.channels + 2 * landmarks, *layout.hidden)
        layers: list[nn.Module] = []
        for size, following in itertools.pairwise(sizes):
            layers += [nn.Linear(size, following), nn.GELU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(sizes[-1], layout.n_outputs)
        nn.init.normal_(self.out.weight, std=_SMALL / sizes[-1] ** 0.5)
        nn.init.zeros_(self.out.bias)
        n = layout.n_coefficients
        self.usual: Tensor
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("usual", torch.zeros(landmarks, 2))
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("deviation", torch.ones(n))

    def forward(
        self,
        features: Float[Tensor, "batch channels height width"],
        points: Float[Tensor, "batch landmarks 2"],
    ) -> Float[Tensor, "batch outputs"]:
        """The raw numbers, see `prediction`."""
        moved = (points.detach() - self.usual) / _UNIT
        raw: Tensor = self.out(self.layers(torch.cat([features.mean(dim=(2, 3)), moved.flatten(1)], dim=1)))
        return raw

    @torch.no_grad()
    def initialise(
        self, model: ParametricModel, points: Float[Tensor, "landmarks 2"], truth: StartPrediction
    ) -> None:
        """Take the prior from the model, and start from the mean of the data.

        Args:
            model: Of the layout.
            points: Usual places of the landmarks, crop units.
            truth: Of samples of the training data; of the coefficients as the model has them.
        """
        self.usual.copy_(points)
        groups = [model.group(group.name) for group in self.layout.groups]
        if groups:
            self.mean.copy_(torch.from_numpy(np.concatenate([group.prior_mean for group in groups])))
            self.deviation.copy_(torch.from_numpy(np.concatenate([_deviation(group) for group in groups])))
        truth = attrs.evolve(truth, coefficients=self.standardised(truth.coefficients))
        self.out.bias.copy_(truth.raw.mean(dim=0))

    def prediction(self, raw: Float[Tensor, "batch outputs"]) -> StartPrediction:
        """What raw numbers mean.

        Two columns of the rotation are made orthonormal by Gram and Schmidt's way. Source: Zhou et al., "On
        the Continuity of Rotation Representations in Neural Networks", CVPR 2019.
        """
        sizes = [self.layout.n_coefficients, 6, 2, 1 + self.layout.focal]
        coefficients, columns, place, rest = raw.split(sizes, dim=1)
        place = place * _TOLERANCES["place"]
        log_size, log_focal = rest[:, 0] * _TOLERANCES["log_size"], None
        if self.layout.focal:
            log_focal = rest[:, 1] * _TOLERANCES["log_focal"]
        first, second = columns.split(3, dim=1)
        first = F.normalize(first, dim=1)
        second = F.normalize(second - (first * second).sum(1, keepdim=True) * first, dim=1)
        rotation = torch.stack([first, second, torch.linalg.cross(first, second)], dim=2)
        return StartPrediction(coefficients, rotation, place, log_size, log_focal)

    def natural(
        self, coefficients: Float[Tensor, "batch coefficients"]
    ) -> Float[Tensor, "batch coefficients"]:
        """Coefficients in deviations of the prior as the model has them."""
        return self.mean + self.deviation * coefficients

    def standardised(
        self, coefficients: Float[Tensor, "batch coefficients"]
    ) -> Float[Tensor, "batch coefficients"]:
        """The inverse of `natural`."""
        return (coefficients - self.mean) / self.deviation

    def starts(self, raw: Float[Tensor, "batch outputs"], crops: list[Crop]) -> list[Start | None]:
        """The starts that raw numbers mean, in pixels of the pictures that the crops are taken from.

        None for a mirrored crop: it shows another part than the model's.
        """
        prediction = self.prediction(raw.to(self.mean))
        natural = self.natural(prediction.coefficients)
        return [self._start(prediction, natural, k, crop) for k, crop in enumerate(crops)]

    def _start(self, prediction: StartPrediction, natural: Tensor, k: int, crop: Crop) -> Start | None:
        if crop.mirror:
            return None
        values = natural[k].double().cpu().split([group.size for group in self.layout.groups])
        c, s = np.cos(crop.angle), np.sin(crop.angle)
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        place = prediction.place[k].double().cpu().numpy()
        focal = None if prediction.log_focal is None else float(prediction.log_focal[k].exp()) * crop.size
        return Start(
            self.layout.topology,
            {group.name: value.numpy() for group, value in zip(self.layout.groups, values, strict=True)},
            turn @ prediction.rotation[k].double().cpu().numpy(),
            crop.to_image((place + 0.5) * crop.resolution - 0.5),
            float(prediction.log_size[k].exp()) / crop.size,
            focal,
        )


def start_layout(
    model: ParametricModel, free: list[str], focal: bool = False, hidden: tuple[int, ...] = (256, 256)
) -> StartLayout:
    """The layout of a head that predicts those groups of a model that a fit frees.

    Args:
        model: The model.
        free: Names of the groups that a fit frees; the others keep their prior's mean.
        focal: See `StartLayout`.
        hidden: See `StartLayout`.
    """
    groups = [StartGroup(g.name, g.size) for g in model.groups if g.name in free and not g.rigid]
    return StartLayout(model.topology.name, tuple(groups), focal, hidden)


def start_loss(predicted: StartPrediction, truth: StartPrediction) -> Float[Tensor, ""]:
    """The sum over coefficients, rotation, place, size and focal length of their mean Huber losses.

    Each error is in its own unit: of coefficients the prior's deviation, of the others see `_TOLERANCES`. The
    squared difference of rotation matrices is 4 (1 - cos(angle between them)).
    """
    terms = [F.huber_loss(predicted.coefficients, truth.coefficients)] if truth.coefficients.numel() else []
    for name, unit in _TOLERANCES.items():
        own, true = getattr(predicted, name), getattr(truth, name)
        if own is not None:
            terms.append(F.huber_loss(own / unit, true / unit))
    return torch.stack(terms).sum()


def _deviation(group: ParameterGroup) -> Float[np.ndarray, " size"]:
    """Standard deviations of the prior; 1 where there is none."""
    variance = np.linalg.pinv(group.information, hermitian=True).diagonal()
    return np.sqrt(np.where(variance > 0, variance, 1.0))
