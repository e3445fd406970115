"""Where a landmark scheme lies on a model: embeddings given, of the model itself, of plugins, transferred."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from partfit.embedding_files import cached_embedding_path, read_embedding
from partfit.errors import InputError, NoEmbeddingError, OutputError
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.models.base import ParametricModel
from partfit.registry import Registry
from partfit.text import closest


class EmbeddingFinder:
    """Finds embeddings, and keeps those that it has found.

    Attributes:
        given: The embeddings that come before all others.
    """

    def __init__(self, registry: Registry, given: Sequence[str | Path | LandmarkEmbedding] = ()) -> None:
        """Read the embeddings that are given as files.

        Raises:
            InputError: if a file cannot be used.
        """
        self._registry = registry
        self.given = tuple(
            one if isinstance(one, LandmarkEmbedding) else read_embedding(one) for one in given
        )
        self._found: dict[tuple[str, str], LandmarkEmbedding] = {}

    def find(
        self, scheme: str, model: ParametricModel, landmarks: LandmarkScheme | None = None
    ) -> LandmarkEmbedding:
        """The embedding of a landmark scheme on a model.

        Args:
            scheme: Name of the scheme.
            model: The model.
            landmarks: The scheme itself, where it is known: a transferred embedding of another version is
                then passed over.

        Raises:
            NoEmbeddingError: if there is none.
            InputError: if one does not fit the model.
        """
        key = (model.topology.name, scheme)
        if key not in self._found:
            embedding = self._look_up(scheme, model, landmarks)
            model.check_embedding(embedding)
            self._found[key] = embedding
        return self._found[key]

    def add(self, embedding: LandmarkEmbedding) -> None:
        """Take an embedding where there was none."""
        self._found[embedding.topology, embedding.scheme.name] = embedding

    def known_schemes(self, model: ParametricModel) -> list[str]:
        """The schemes that lie on a model, the transferred ones apart."""
        topology = model.topology.name
        names = [record.name.partition("/") for record in self._registry.components("embedding")]
        known = [given.scheme.name for given in self.given if given.topology == topology]
        return [*known, *model.embedding_names, *(scheme for on, _, scheme in names if on == topology)]

    def _look_up(
        self, scheme: str, model: ParametricModel, landmarks: LandmarkScheme | None
    ) -> LandmarkEmbedding:
        topology, known = model.topology.name, self.known_schemes(model)
        for given in self.given:
            if (given.scheme.name, given.topology) == (scheme, topology):
                return given
        if scheme in model.embedding_names:
            return model.embedding(scheme)
        if scheme in known:
            return self._registry.create("embedding", f"{topology}/{scheme}")
        transferred = _transferred(scheme, model)
        if transferred and (landmarks is None or transferred.scheme.hash == landmarks.hash):
            return transferred
        match = closest(scheme, known)
        hint = f" Did you mean {match!r}?" if match else ""
        raise NoEmbeddingError(
            f"No embedding of the landmark scheme {scheme!r} on the topology {topology!r}; it has "
            f"{', '.join(known) or 'none'}.{hint}"
        )


def _transferred(scheme: str, model: ParametricModel) -> LandmarkEmbedding | None:
    """The embedding of the cache; None where there is none, or none that can be used."""
    try:
        return read_embedding(cached_embedding_path(model, scheme))
    except (InputError, OutputError):
        return None
