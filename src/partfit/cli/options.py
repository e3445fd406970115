"""Options and habits that the commands on pictures share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from partfit.errors import PartfitError

if TYPE_CHECKING:
    from partfit.pipeline import Pipeline, PipelineConfig

T = TypeVar("T")
Command = Callable[..., Any]

inputs = click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
out = click.option("--out", required=True, metavar="DIR", help="Folder for the results; made if missing.")


def components(command: Command) -> Command:
    """Options that choose the recipe and its landmarks."""
    for option in reversed(
        [
            click.option("--part", metavar="PART", help="Recipe, or several: face,hand.  [default: face]"),
            click.option("--detector", metavar="NAME", help="Detector; default: the recipe's."),
            click.option("--landmarker", metavar="NAME", help="Landmarker; default: the recipe's."),
            click.option("--config", metavar="FILE", help="TOML file; options given here override it."),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="KEY=VALUE",
                help="Override one key of the resolved configuration, in TOML's words; may be repeated: "
                "landmarker.options.looks=8, settings.min_confidence=0.5.",
            ),
            click.option("--device", metavar="DEVICE", help="Torch device.  [default: cpu]"),
        ]
    ):
        command = option(command)
    return command


def model_components(command: Command) -> Command:
    """Options that choose what is fitted and how."""
    model = click.option("--model", metavar="NAME", help="Model; default: the recipe's.")
    fitter = click.option("--fitter", metavar="NAME", help="Fitter; default: the recipe's.")
    return model(fitter(command))


def pipelines(
    config: str | None = None, part: str | None = None, settings: Sequence[str] = (), **chosen: Any
) -> list[Pipeline]:
    """The pipeline of each part of a configuration file, overridden by the options that were given.

    Raises:
        ConfigError: if several parts are asked for together with an option that only one can have.
    """
    from partfit.errors import ConfigError
    from partfit.pipeline import Pipeline, PipelineConfig

    configs = _read_configs(config) if config else (PipelineConfig(),)
    if part is not None:
        configs = tuple(_config_of_part(name.strip(), configs) for name in part.split(","))
    given = {name: value for name, value in chosen.items() if value is not None}
    single = sorted({*given, *(["set"] if settings else [])} & _OF_ONE_PART)
    if len(configs) > 1 and single:
        raise ConfigError(
            f"--{single[0]} goes with one part, found {', '.join(c.part for c in configs)}. Write a "
            "configuration with a table [[pipelines]] for each part, and give it as --config."
        )
    built = [Pipeline.from_config(_overridden(base, given)) for base in configs]
    return [Pipeline.from_config(_with_keys(built[0].to_config(), settings))] if settings else built


def _with_keys(config: PipelineConfig, settings: Sequence[str]) -> dict[str, Any]:
    """The configuration as a table, with dotted keys set to values in TOML's words."""
    import tomllib

    from partfit.config import to_dict
    from partfit.errors import ConfigError

    table = to_dict(config)
    for setting in settings:
        key, equals, value = setting.partition("=")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value  # a bare word is a string
        *parents, last = key.strip().split(".")
        place = table
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {setting}: {parent!r} is no table. Expected a key such as a.b=1.")
        if not equals:
            raise ConfigError(f"--set {setting}: expected KEY=VALUE.")
        place[last] = parsed
    return table


#: Options that mean a component or a preset of one recipe.
_OF_ONE_PART = {"detector", "landmarker", "model", "fitter", "preset", "set"}


def _read_configs(file: str) -> tuple[PipelineConfig, ...]:
    from partfit.config import read_table, read_toml
    from partfit.pipeline import PipelineConfig, RunConfig

    if "pipelines" in read_table(file):
        return read_toml(file, RunConfig).pipelines
    return (read_toml(file, PipelineConfig),)


def _config_of_part(part: str, configs: Sequence[PipelineConfig]) -> PipelineConfig:
    """The configuration of a part; where there is none, what the first says of camera and machine."""
    from partfit.pipeline import PipelineConfig

    for config in configs:
        if config.part == part:
            return config
    first = configs[0]
    return PipelineConfig(
        part,
        focal=first.focal,
        field_of_view=first.field_of_view,
        device=first.device,
        dtype=first.dtype,
    )


def _overridden(base: PipelineConfig, given: dict[str, Any]) -> PipelineConfig:
    import attrs

    from partfit.pipeline import Choice

    given = dict(given)
    for kind in ("detector", "landmarker", "model", "fitter"):
        if kind in given:
            given[kind] = Choice(given[kind])
    for name, rival in (("preset", "settings"), ("focal", "field_of_view"), ("field_of_view", "focal")):
        if name in given:
            given.setdefault(rival, None)  # the file's, which the option takes the place of
    return attrs.evolve(base, **given)


def save_each(
    paths: Sequence[Path], items: Iterable[T | PartfitError], save: Callable[[Path, str, T], Iterable[Path]]
) -> None:
    """Save what was made of each picture, under a stem of its own, and say what was written.

    An item that is an error, or an error while an item is saved, is named on stderr; the others finish.
    The command then ends with exit code 1.

    Args:
        paths: The pictures.
        items: What was made of each picture, or why nothing could be.
        save: Writes an item, given its picture's path and stem; returns the files.
    """
    from partfit.results import unique_stems

    failures = 0
    triples = zip(paths, unique_stems(paths), items, strict=True)
    for path, stem, item in progress(triples, len(paths)):
        if isinstance(item, PartfitError):
            complain(f"error: {item}")
            failures += 1
            continue
        try:
            written = ", ".join(str(file) for file in save(path, stem, item))
        except PartfitError as error:
            complain(f"error: {path}: {error}")
            failures += 1
            continue
        if written:
            click.echo(f"{path}: wrote {written}")
    if failures:
        click.get_current_context().exit(1)


def progress(items: Iterable[T], total: int) -> Iterator[T]:
    """The items, with rate and remaining time on stderr where there are several and someone looks."""
    from tqdm import tqdm

    hidden = total < 2 or not sys.stderr.isatty()
    yield from tqdm(items, total=total, unit="picture", disable=hidden, file=sys.stderr)


def complain(message: str) -> None:
    """A line on stderr that does not tear the progress bar."""
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)
