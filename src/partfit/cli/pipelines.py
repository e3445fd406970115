"""The pipelines that a command line asks for: a configuration file, and the options that override it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from partfit.errors import ConfigError

if TYPE_CHECKING:
    from partfit.pipeline import Pipeline
    from partfit.pipeline_config import Choice, PipelineConfig

#: Keys that have an option of their own; they decide what the other keys mean.
_OWN_OPTION = ("part", "preset", "detector", "landmarker", "model", "fitter")


def build_pipelines(
    config: str | None = None, part: Sequence[str] = (), settings: Sequence[str] = (), **chosen: Any
) -> list[Pipeline]:
    """The pipeline of each part of a configuration file, overridden by the options that were given.

    Args:
        config: TOML file of a `PipelineConfig` or a `RunConfig`.
        part: Names of recipes, each entry one or several separated by commas.
        settings: Single keys, as `KEY=VALUE` (`--set`).
        chosen: Fields of `PipelineConfig`, components by name, and `model_path`, the model's option `path`.
            None where not given.

    Raises:
        ConfigError: for a repeated part, for several parts together with an option that only one can have,
            and as `Pipeline.from_config`.
    """
    from partfit.pipeline import Pipeline
    from partfit.pipeline_config import COMPONENT_KINDS, PipelineConfig, check_one_camera

    configs = _read_configs(config, chosen.get("model")) if config else (PipelineConfig(),)
    if part:
        configs = tuple(_config_of_part(name, configs) for name in _part_names(part))
    given = {name: value for name, value in chosen.items() if value not in (None, ())}
    single = [name for name in (*COMPONENT_KINDS, "model_path", "embeddings", "preset") if name in given]
    if len(configs) > 1 and single:
        option = single[0].replace("_", "-").removesuffix("s")
        raise ConfigError(
            f"--{option} goes with one part, found {', '.join(c.part for c in configs)}. Write a "
            "configuration with a table [[pipelines]] for each part, and give it as --config."
        )
    by_part = _settings_of_parts(settings, [base.part for base in configs])
    built = [
        Pipeline.from_config(_with_absolute_paths(_with_keys(_overridden(base, given), own)))
        for base, own in zip(configs, by_part, strict=True)
    ]
    check_one_camera([pipeline.config for pipeline in built])
    for pipeline in built:
        _doubt_model(pipeline.config)
    return built


def _doubt_model(config: PipelineConfig) -> None:
    """Warn of a model that has recipes for other parts only: a forgotten --part is easily overlooked."""
    from partfit.cli.options import complain
    from partfit.registry import default_registry

    if config.model is None:
        return
    name, part = config.model.name.rpartition(":")[2], config.part.partition("/")[0]
    recipes = [record.name.partition("/") for record in default_registry().components("recipe")]
    others = sorted({other for other, _, model in recipes if model == name})
    if others and part not in others:
        complain(
            f"warning: the model {name!r} is fitted to {' or '.join(others)} by a recipe of its own, and to "
            f"{part!r} by none: is --part {others[0]} meant?"
        )


def _settings_of_parts(settings: Sequence[str], parts: Sequence[str]) -> list[list[str]]:
    """The settings of each part: all for a single one, else those that begin with its name."""
    if len(parts) == 1:
        return [list(settings)]
    bare = [part.partition("/")[0] for part in parts]  # face/flame answers to face too
    prefixes = [(f"{part}.", f"{name}.") for part, name in zip(parts, bare, strict=True)]
    for setting in settings:
        if not setting.startswith(tuple(prefix for both in prefixes for prefix in both)):
            raise ConfigError(
                f"--set {setting}: of several parts a key begins with one, as in {bare[-1]}.{setting}."
            )
    return [
        [s.removeprefix(part).removeprefix(name) for s in settings if s.startswith((part, name))]
        for part, name in prefixes
    ]


def _part_names(part: Sequence[str]) -> list[str]:
    names = [name.strip() for entry in part for name in entry.split(",")]
    if "" in names or len(set(names)) < len(names):
        found = ",".join(part)
        raise ConfigError(f"--part: expected different names, separated by commas, found {found!r}.")
    return names


def _read_configs(file: str, model: str | None) -> tuple[PipelineConfig, ...]:
    """The configurations of a file, each laid over its recipe: that of a model that was chosen, if any."""
    from partfit.config import from_dict, read_table
    from partfit.errors import ComponentError
    from partfit.pipeline_config import PipelineConfig, RunConfig
    from partfit.registry import default_registry

    table, registry = read_table(file), default_registry()
    try:
        if "pipelines" not in table:
            return (PipelineConfig.from_table(_with_model(table, model), registry),)
        tables = table["pipelines"]
        if isinstance(tables, list) and all(isinstance(one, dict) for one in tables):
            configs = [PipelineConfig.from_table(_with_model(one, model), registry) for one in tables]
            table["pipelines"] = configs
        return from_dict(RunConfig, table).pipelines
    except (ConfigError, ComponentError) as error:
        raise ConfigError(f"{file}: {error}") from error


def _with_model(table: dict[str, Any], model: str | None) -> dict[str, Any]:
    """A configuration with a model in place of its own, whose options go with it."""
    own = table.get("model")
    if model is None or (isinstance(own, dict) and own.get("name") == model):
        return table
    return {**table, "model": {"name": model}}


def _config_of_part(part: str, configs: Sequence[PipelineConfig]) -> PipelineConfig:
    """The configuration of a part; where there is none, what the first says of camera and machine."""
    from partfit.pipeline_config import PipelineConfig

    for config in configs:
        if config.part == part:
            return config
    first = configs[0]
    return PipelineConfig(
        part,
        focal=first.focal,
        field_of_view=first.field_of_view,
        focal_deviation=first.focal_deviation,
        device=first.device,
        dtype=first.dtype,
    )


def _overridden(base: PipelineConfig, given: dict[str, Any]) -> PipelineConfig:
    import attrs

    from partfit.pipeline_config import COMPONENT_KINDS, Choice
    from partfit.registry import default_registry

    values: dict[str, Any] = {
        name: Choice.of_text(value) if name in COMPONENT_KINDS else value for name, value in given.items()
    }
    if "model" in values and base.model is not None and base.model.name == values["model"].name:
        values["model"] = base.model  # with its options
    if "model_path" in values:
        model = values.get("model") or base.model or Choice(base.recipe(default_registry()).model)
        values["model"] = _with_path(model, values.pop("model_path"))
    for name, rival in (("preset", "settings"), ("focal", "field_of_view"), ("field_of_view", "focal")):
        if name in values:
            values.setdefault(rival, None)  # the file's, which the option takes the place of
    return attrs.evolve(base, **values)


def _with_path(model: Choice, path: str) -> Choice:
    """A model with the file that it is to read.

    Raises:
        ConfigError: if it reads none.
    """
    import attrs

    from partfit.registry import default_registry

    config = getattr(default_registry().resolve("model", model.name), "Config", None)
    if config is None or "path" not in attrs.fields_dict(config):
        raise ConfigError(f"--model-path: the model {model.name!r} reads no file. Leave it out.")
    return attrs.evolve(model, options={**model.options, "path": absolute(path)})


def absolute(path: str) -> str:
    """A path that means the same from every folder: the configuration of a run is kept with its results."""
    from pathlib import Path

    return str(Path(path).expanduser().absolute())


def _with_absolute_paths(config: PipelineConfig) -> PipelineConfig:
    """The configuration with its embeddings, and the paths among its components' options, made absolute."""
    import attrs

    from partfit.pipeline_config import COMPONENT_KINDS

    changed: dict[str, Any] = {"embeddings": tuple(map(absolute, config.embeddings))}
    for kind in COMPONENT_KINDS:
        choice = getattr(config, kind)
        if choice is not None:
            changed[kind] = absolute_options(kind, choice)
    return attrs.evolve(config, **changed)


def absolute_options(kind: str, choice: Choice) -> Choice:
    """A component whose options of the type `Path` are absolute; as it is where its options are at fault.

    So are those of components among its options, as of a data set's `model`.
    """
    from pathlib import Path

    import attrs

    from partfit.config import from_dict
    from partfit.errors import PartfitError
    from partfit.pipeline_config import Choice
    from partfit.plugins import KINDS
    from partfit.registry import default_registry

    try:
        target = default_registry().resolve(kind, choice.name)
        made = from_dict(target.Config, choice.options)
    except (PartfitError, AttributeError):
        return choice  # building it says what is wrong
    options = dict(choice.options)
    for key in options:
        value = getattr(made, key)
        if isinstance(value, Path):
            options[key] = absolute(str(value))
        elif isinstance(value, dict) and value and all(isinstance(one, Path) for one in value.values()):
            options[key] = {name: absolute(str(one)) for name, one in value.items()}
        elif isinstance(value, Choice) and value.options and key in KINDS:
            options[key] = {"name": value.name, "options": absolute_options(key, value).options}
    return attrs.evolve(choice, options=options)


def _with_keys(config: PipelineConfig, settings: Sequence[str]) -> PipelineConfig:
    """The configuration with single keys set in what its recipe has filled in."""
    from partfit.config import to_dict
    from partfit.pipeline_config import PipelineConfig
    from partfit.registry import default_registry

    if not settings:
        return config
    table = to_dict(config.resolved(default_registry()))
    for setting in settings:
        key, value = key_and_value(setting)
        if key in _OWN_OPTION:
            raise ConfigError(
                f"--set {setting}: this key has an option of its own. Use --{key} {value}, or, for one of "
                "several parts, a configuration file."
            )
        *parents, last = key.split(".")
        place: Any = table
        for parent in parents:
            at = _position(place, parent, setting)
            place = place.setdefault(at, {}) if isinstance(place, dict) else place[at]
        place[_position(place, last, setting)] = value
    return PipelineConfig.from_table(table, default_registry())


def _position(place: Any, key: str, setting: str) -> Any:
    """The key of a table, or the number, from 0, of an entry of a list."""
    if isinstance(place, dict):
        return key
    if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
        return int(key)
    raise ConfigError(
        f"--set {setting}: there is nothing that {key!r} could name. Expected a key such as "
        "landmarker.options.looks or settings.stages.0.iterations."
    )


def key_and_value(setting: str) -> tuple[str, Any]:
    """The two sides of `KEY=VALUE`, the value in TOML's words; a bare word is a string.

    Raises:
        ConfigError: if the setting has another form.
    """
    import tomllib

    key, equals, value = (text.strip() for text in setting.partition("="))
    if not equals or not key:
        raise ConfigError(f"--set {setting}: expected KEY=VALUE.")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
