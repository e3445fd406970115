"""What determines pipelines, as written to and read from TOML, and the recipe that fills in the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import attrs
import torch

from partfit.config import from_dict, to_dict
from partfit.errors import ComponentError, ConfigError
from partfit.recipe import FitSettings, Recipe
from partfit.registry import Registry

#: The kinds of components that a pipeline puts together.
COMPONENT_KINDS = ("detector", "landmarker", "model", "fitter")

#: The landmarker that is a trained network of a file; no distribution has this name.
_CHECKPOINT = "checkpoint"


@attrs.frozen
class Choice:
    """A component by name, with options of its `Config`."""

    name: str
    options: dict[str, Any] = attrs.field(factory=dict)

    @options.validator
    def _is_a_table(self, _: Any, value: Any) -> None:
        if not isinstance(value, dict):
            raise ConfigError(
                f"options of {self.name!r}: expected a dict such as {{'path': ...}}, found {value!r}."
            )

    @classmethod
    def of_text(cls, text: str) -> Choice:
        """The component of a name, or the landmarker that `checkpoint:PATH` means: that of a file."""
        name, _, path = text.partition(":")
        return cls(name, {"path": path}) if name == _CHECKPOINT and path else cls(text)

    @property
    def text(self) -> str:
        """What `of_text` makes it of, without the options that a text cannot say."""
        path = self.options.get("path") if self.name == _CHECKPOINT else None
        return self.name if path is None else f"{self.name}:{path}"


@attrs.frozen
class PipelineConfig:
    """All that determines a pipeline, as written to and read from TOML.

    Attributes:
        part: The recipe that fills whatever is None below.
        detector, landmarker, model, fitter: Components.
        embeddings: Files of embeddings that come before those of plugins, see `partfit.embedding_files`.
        preset: A preset of the recipe's fit settings.
        settings: Fit settings in full; not together with `preset`.
        focal: Focal length in pixels; by default from EXIF, else the one that the landmarker's network
            predicts, if it does, else the picture's diagonal.
        field_of_view: Diagonal field of view in radians, instead of `focal`.
        focal_deviation: If given, that focal length is only the middle of a prior, and the last stage
            estimates it, for each part by itself: standard deviation of its logarithm, 0.3 for about 30 %.
        device: A torch device.
        dtype: Of the fit.
    """

    part: str = "face"
    detector: Choice | None = None
    landmarker: Choice | None = None
    model: Choice | None = None
    fitter: Choice | None = None
    embeddings: tuple[str, ...] = ()
    preset: str | None = None
    settings: FitSettings | None = None
    focal: float | None = None
    field_of_view: float | None = None
    focal_deviation: float | None = None
    device: str = attrs.field(default="cpu")
    dtype: Literal["float32", "float64"] = attrs.field(default="float32")

    @device.validator
    def _usable_device(self, _: Any, value: str) -> None:
        try:
            torch.zeros(1, device=value)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            message = f"device: expected a device of this machine, found {value!r}: {reason}"
            raise ConfigError(message) from error

    @dtype.validator
    def _known_dtype(self, _: Any, value: str) -> None:
        if value not in ("float32", "float64"):
            raise ConfigError(f"dtype: expected 'float32' or 'float64', found {value!r}.")

    def __attrs_post_init__(self) -> None:
        if self.preset is not None and self.settings is not None:
            raise ConfigError("Give either `preset` or `settings`, not both.")
        if self.focal is not None and self.field_of_view is not None:
            raise ConfigError("Give either `focal` or `field_of_view`, not both.")
        if self.focal is not None and not (math.isfinite(self.focal) and self.focal > 0):
            raise ConfigError(f"focal: expected a length in pixels > 0, found {self.focal}.")
        if self.field_of_view is not None and not 0 < self.field_of_view < math.pi:
            found = self.field_of_view
            raise ConfigError(f"field_of_view: expected radians between 0 and pi, found {found}.")

        if self.focal_deviation is not None and not 0 < self.focal_deviation < math.inf:
            found = self.focal_deviation
            raise ConfigError(f"focal_deviation: expected a finite number > 0, found {found}.")

    @classmethod
    def from_table(cls, table: dict[str, Any], registry: Registry) -> PipelineConfig:
        """The configuration of a table that need only say what differs from its recipe, or from its preset.

        A component's name or options, and single keys of `settings`, may be left out; a value that is given,
        such as the stages or the prior weights, is taken as a whole.

        Raises:
            ConfigError: for unknown keys and wrong types, with their path.
            ComponentError: if there is no such recipe.
        """
        part, preset, model = table.get("part", cls().part), table.get("preset"), table.get("model")
        name = model.get("name") if isinstance(model, dict) else None
        if not all(isinstance(value, str | None) for value in (part, preset, name)):
            return from_dict(cls, table)  # which says what is wrong
        chosen = cls(part, model=None if name is None else Choice(name), preset=preset)
        base = to_dict(chosen.resolved(registry))
        for key, value in table.items():
            both = isinstance(value, dict) and isinstance(base.get(key), dict)
            base[key] = {**base[key], **value} if both else value
        base.pop("preset", None)  # it is in the settings now
        return from_dict(cls, base)

    def recipe(self, registry: Registry) -> Recipe:
        """The recipe of the part: the one for the model, `part/model`, where there is one.

        Raises:
            ComponentError: if there is no such recipe.
        """
        return recipe_for(registry, self.part, self.model)

    def resolved(self, registry: Registry) -> PipelineConfig:
        """The configuration with all that it leaves to its recipe filled in.

        Raises:
            ComponentError: if there is no such recipe.
        """
        recipe = self.recipe(registry)
        names: dict[str, Any] = {
            kind: getattr(self, kind) or Choice(getattr(recipe, kind)) for kind in COMPONENT_KINDS
        }
        settings = self.settings or recipe.settings_of(self.preset)
        return attrs.evolve(self, **names, settings=settings, preset=None)


@attrs.frozen
class RunConfig:
    """The pipelines of a run over several parts, as written to and read from TOML.

    Attributes:
        pipelines: One a part.
    """

    pipelines: tuple[PipelineConfig, ...]

    def __attrs_post_init__(self) -> None:
        if not self.pipelines:
            raise ConfigError("pipelines: expected a table [[pipelines]] for each part, found none.")
        parts = [config.part for config in self.pipelines]
        if len(set(parts)) < len(parts):
            raise ConfigError(f"pipelines: expected different parts, found {', '.join(parts)}.")


def check_one_camera(configs: Iterable[PipelineConfig]) -> None:
    """Raise ConfigError if pipelines that share pictures see them through different cameras."""
    if len({(config.focal, config.field_of_view) for config in configs}) > 1:
        raise ConfigError("focal, field_of_view: a picture has one camera, found several for its parts.")


def recipe_for(registry: Registry, part: str, model: Any) -> Recipe:
    """The recipe `part/model` of a part for a model, a `Choice` or an object; where there is none, `part`."""
    recipes = [record.name for record in registry.components("recipe")]
    for name in recipes:
        if name.startswith(f"{part}/") and _is_named(registry, model, name.removeprefix(f"{part}/")):
            return registry.create("recipe", name)
    return registry.create("recipe", part)


def _is_named(registry: Registry, model: Any, name: str) -> bool:
    """Whether a `Choice` of a model, or a model, is the component of that name."""
    if isinstance(model, Choice):
        return model.name.rpartition(":")[2] == name
    try:
        return model is not None and registry.resolve("model", name) is type(model)
    except ComponentError:
        return False
