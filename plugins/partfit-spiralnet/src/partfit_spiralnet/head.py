"""The head `spiral`: a decoder on the mesh of the landmarks, from coarse to fine."""

from __future__ import annotations

import itertools

import attrs
import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from partfit.errors import ConfigError, InputError
from partfit.geometry.decimation import decimation_series
from partfit.landmarks import LandmarkScheme
from partfit.learning.heads import FeatureShape, Head, HeadModule, raw_start
from partfit_spiralnet.spirals import spiral_sequences

#: Standard deviation of the raw numbers about their start, before any training, for features of variance 1.
START_DEVIATION = 0.01


class SpiralHead(Head):
    """The SpiralNet++ decoder of Gong et al. (ICCV workshops 2019), thesis section 3.3.2.

    The mesh of the scheme, its triangles and positions, is halved as many times as there are levels. A linear
    map of the features gives each vertex of the coarsest mesh its channels X. From level to level these are
    interpolated to the finer mesh, U = Q_u X (thesis eq. 3.10), gathered along the spiral around each
    vertex, mapped by one linear map A for all of them (eq. 3.11) and passed through ELU (eq. 3.12):
    x_i = ELU(A [u_j, j in S_i] + b). A last linear map of each landmark's channels, and a bias for each, give
    its raw numbers.
    """

    @attrs.frozen
    class Config:
        """Options.

        Attributes:
            channels: Channels of the vertices, the coarsest level first: what the features are mapped to,
                then what each level puts out. One number more than the mesh is halved.
            length: How many vertices a spiral has, its centre included.
            dilation: The step along spirals: 2 leaves out every other vertex and so reaches further.
        """

        channels: tuple[int, ...] = (32, 32, 32, 16, 16)
        length: int = 9
        dilation: int = 1

        def __attrs_post_init__(self) -> None:
            if not self.channels or min(self.channels) < 1:
                raise ConfigError(
                    f"channels: expected one size or more, all above 0; found {list(self.channels)}."
                )
            for name in ("length", "dilation"):
                if getattr(self, name) < 1:
                    raise ConfigError(
                        f"{name}: expected a whole number above 0, found {getattr(self, name)}."
                    )

    config: Config

    def module(self, features: FeatureShape, scheme: LandmarkScheme, outputs: int) -> SpiralModule:
        """See `Head.module`; a map of features is taken as one long vector.

        Raises:
            InputError: if the scheme has no triangles or no positions, or if its mesh cannot be halved so
                often.
        """
        if scheme.positions is None or not len(scheme.triangles):
            raise InputError(
                f"The head 'spiral' works on the mesh of the landmarks, but scheme {scheme.name!r} lacks "
                "`triangles` or `positions`. Give it both, or take another head, such as 'mlp'."
            )
        return SpiralModule(features.size, scheme.positions, scheme.triangles, outputs, self.config)


class SpiralModule(HeadModule):
    """The decoder for one scheme.

    Sampling matrices and spirals are part of its state: a network that is read from a file works on the
    meshes that it was trained on, even where rounding would decimate otherwise.

    Attributes:
        start: (landmarks * outputs,) the biases of the raw numbers; in one row, by which optimisers know what
            weight decay is not for.
    """

    def __init__(
        self,
        n_features: int,
        vertices: Float[np.ndarray, "vertices 3"],
        faces: Int[np.ndarray, "faces 3"],
        outputs: int,
        config: SpiralHead.Config,
    ) -> None:
        """See `SpiralHead.module`; the landmarks are the vertices of the mesh."""
        super().__init__()
        levels = _levels(vertices, faces, config)
        n_coarsest = levels[0].n_coarse if levels else len(vertices)
        self.to_vertices = nn.Linear(n_features, n_coarsest * config.channels[0])
        self.levels = nn.Sequential(*levels)
        self.to_landmarks = nn.Linear(config.channels[-1], outputs, bias=False)
        self.start = nn.Parameter(raw_start(outputs).repeat(len(vertices)))
        _keep_variance(self.to_vertices)
        nn.init.normal_(self.to_landmarks.weight, std=START_DEVIATION / config.channels[-1] ** 0.5)
        self._shape = (n_coarsest, config.channels[0])

    def forward(self, features: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch L D"]:
        """See `HeadModule.forward`."""
        x = self.to_vertices(features.flatten(1)).unflatten(1, self._shape)
        raw: Tensor = self.to_landmarks(self.levels(x)) + self._start_rows
        return raw

    @torch.no_grad()
    def initialise(
        self, mean: Float[Tensor, "landmarks 2"], directions: Float[Tensor, "directions landmarks 2"]
    ) -> None:
        """The mean shape becomes the bias of each landmark; the directions are not used.

        All further weights behind the coarsest level are shared by the vertices, so that a mean shape would
        have to come from there. SpiralNet++, too, decodes what is left when the mean is taken away.
        """
        self._start_rows[:, :2] = mean

    @property
    def _start_rows(self) -> Float[Tensor, "landmarks outputs"]:
        return self.start.view(-1, self.to_landmarks.out_features)


class SpiralLevel(nn.Module):
    """From one mesh of n vertices to the next finer one, of V: eq. 3.10 to 3.12.

    Attributes:
        n_coarse: n.
        up_index, up_weight: (3, V) and (3, V, 1), columns and values of the at most three entries of each
            row of Q_u.
        spirals: (V, length) the vertices along the spiral around each.
    """

    up_index: Tensor
    up_weight: Tensor
    spirals: Tensor

    def __init__(
        self,
        up: sparse.csr_array,
        spirals: Int[np.ndarray, "vertices length"],
        channels: tuple[int, int],
    ) -> None:
        """The level of a sampling matrix Q_u (V, n), with numbers of channels in and out."""
        super().__init__()
        self.n_coarse: int = up.shape[1]
        index, weight = _entries(up)
        self.register_buffer("up_index", torch.tensor(index, dtype=torch.int32))
        self.register_buffer("up_weight", torch.tensor(weight, dtype=torch.float32)[..., None])
        self.register_buffer("spirals", torch.tensor(spirals, dtype=torch.int32))
        self.convolution = nn.Linear(spirals.shape[1] * channels[0], channels[1])
        _keep_variance(self.convolution)

    def forward(self, x: Float[Tensor, "batch n channels"]) -> Float[Tensor, "batch V out"]:
        """The channels of the finer mesh."""
        corners = zip(self.up_index, self.up_weight.to(x), strict=True)
        a, b, c = (weight * x.index_select(1, index) for index, weight in corners)
        u = a + b + c
        along = u.index_select(1, self.spirals.flatten()).unflatten(1, self.spirals.shape).flatten(2)
        return nn.functional.elu(self.convolution(along))


def _levels(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"], config: SpiralHead.Config
) -> list[SpiralLevel]:
    """The levels of the decoder on a mesh, the coarsest first."""
    meshes = []
    for decimation in decimation_series(vertices, faces, len(config.channels) - 1):
        spirals = spiral_sequences(vertices, faces, config.length, config.dilation)
        meshes.append((decimation.up, spirals))
        vertices, faces = vertices[decimation.kept], decimation.faces
    steps = itertools.pairwise(config.channels)
    return [SpiralLevel(up, spirals, step) for (up, spirals), step in zip(meshes[::-1], steps, strict=True)]


def _entries(
    up: sparse.csr_array,
) -> tuple[Int[np.ndarray, "3 vertices"], Float[np.ndarray, "3 vertices"]]:
    """Columns and values of a matrix of one to three entries a row; value 0 where there are fewer."""
    first, count = up.indptr[:-1], np.diff(up.indptr)
    entry = np.arange(3)[:, None]
    place = first + np.minimum(entry, count - 1)
    return up.indices[place].astype(np.int64), np.where(entry < count, up.data[place], 0.0)


@torch.no_grad()
def _keep_variance(layer: nn.Linear) -> None:
    """Random weights that give outputs of variance 1 for independent inputs of variance 1, and no bias."""
    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    nn.init.zeros_(layer.bias)
