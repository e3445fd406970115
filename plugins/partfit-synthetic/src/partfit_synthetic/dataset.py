"""The data set `synthetic`: pictures of a parametric model, rendered as they are read."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from jaxtyping import Int
from scipy.spatial import cKDTree

import partfit
from partfit.embedding_finder import EmbeddingFinder
from partfit.errors import NoEmbeddingError
from partfit.landmarks import LandmarkScheme
from partfit.learning.datasets import Dataset, Sample
from partfit.pipeline_config import Choice
from partfit.transfer.renders import rest_points
from partfit_synthetic.backgrounds import PictureFolder
from partfit_synthetic.camera import ViewConfig
from partfit_synthetic.render import LookConfig, Subject, render_sample
from partfit_synthetic.states import StateConfig

#: The scheme by which features of faces are found; a model without it is rendered as plain skin.
_FACE_SCHEME = "ibug68"


class SyntheticDataset(Dataset):
    """Random pictures of a model, with exact landmarks.

    Sample i depends on the configuration and i only: it is the same in every process and in any order.
    """

    @attrs.frozen
    class Config:
        """Options of `SyntheticDataset`.

        Attributes:
            model: The model that is pictured.
            scheme: Landmark scheme; an embedding of it must lie on the model.
            box: Landmark scheme next to whose points those landmarks lie that the box encloses; None: all
                landmarks. With points by which a detector goes, such as `ibug51`, boxes lie to its regions
                alike from all sides.
            embeddings: Files of embeddings that come before those of plugins.
            size: Side of the pictures, pixels.
            length: Number of samples.
            seed: Another seed gives other samples.
            backgrounds: Folder of pictures to stand behind the part; None: made-up backgrounds.
            states: How identity, expression and pose spread.
            views: From where the part is seen.
            looks: What is seen with it.
        """

        model: Choice = attrs.field(factory=lambda: Choice("anny-head"))
        scheme: str = "anny-face-dense"
        box: str | None = None
        embeddings: tuple[str, ...] = ()
        size: int = attrs.field(default=128, validator=attrs.validators.ge(16))
        length: int = attrs.field(default=10_000, validator=attrs.validators.ge(1))
        seed: int = attrs.field(default=0, validator=attrs.validators.ge(0))
        backgrounds: Path | None = None
        states: StateConfig = attrs.field(factory=StateConfig)
        views: ViewConfig = attrs.field(factory=ViewConfig)
        looks: LookConfig = attrs.field(factory=LookConfig)

    def __init__(self, config: Any = None) -> None:
        """Check the configuration; the model is built when the scheme or a sample is first asked for.

        Raises:
            InputError: if `backgrounds` is no folder, holds no picture, or one that is tried cannot be read.
        """
        super().__init__(config)
        folder = self.config.backgrounds
        self._backgrounds = None if folder is None else PictureFolder(folder)
        if self._backgrounds is not None:
            self._backgrounds.crop(np.random.default_rng(0), self.config.size)

    @cached_property
    def subject(self) -> Subject:
        """The model with what is needed to picture it.

        Raises:
            ComponentError, NoEmbeddingError: if there is no such model, or no embedding of the scheme on it.
        """
        model = partfit.create("model", self.config.model.name, **self.config.model.options)
        finder = EmbeddingFinder(partfit.default_registry(), self.config.embeddings)
        try:
            face = finder.find(_FACE_SCHEME, model)
        except NoEmbeddingError:
            face = None
        embedding = finder.find(self.config.scheme, model)
        boxed = np.arange(len(embedding.scheme))
        if self.config.box is not None:
            rest = rest_points(model)
            tree = cKDTree(embedding.apply(rest))
            boxed = np.unique(tree.query(finder.find(self.config.box, model).apply(rest))[1])
        return Subject(model, embedding, boxed, face)

    @property
    def scheme(self) -> LandmarkScheme:
        """The scheme of the points of its samples."""
        return self.subject.embedding.scheme

    @property
    def boxed(self) -> Int[np.ndarray, " boxed"] | None:
        """See `Dataset.boxed`."""
        return None if self.config.box is None else self.subject.boxed

    def __len__(self) -> int:
        return self.config.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"expected a sample in 0..{len(self) - 1}, found {index}.")
        config = self.config
        return render_sample(
            self.subject,
            config.size,
            config.states,
            config.views,
            config.looks,
            self._backgrounds,
            np.random.default_rng((config.seed, index)),
            f"{index:08d}",
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without the model: each process builds its own."""
        return {name: value for name, value in vars(self).items() if name != "subject"}
