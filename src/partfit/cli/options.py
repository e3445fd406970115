"""Options and habits that the commands on pictures share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from partfit.pipeline import Pipeline

T = TypeVar("T")
Command = Callable[..., Any]

inputs = click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
out = click.option("--out", required=True, metavar="DIR", help="Folder for the results; made if missing.")


def components(command: Command) -> Command:
    """Options that choose the recipe and its landmarks."""
    for option in reversed(
        [
            click.option("--part", metavar="PART", help="Recipe.  [default: face]"),
            click.option("--detector", metavar="NAME", help="Detector; default: the recipe's."),
            click.option("--landmarker", metavar="NAME", help="Landmarker; default: the recipe's."),
            click.option("--config", metavar="FILE", help="TOML file; options given here override it."),
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


def pipeline(config: str | None = None, **chosen: Any) -> Pipeline:
    """The pipeline of a configuration file, overridden by the options that were given."""
    import attrs

    from partfit.config import read_toml
    from partfit.pipeline import Choice, Pipeline, PipelineConfig

    base = read_toml(config, PipelineConfig) if config else PipelineConfig()
    given = {name: value for name, value in chosen.items() if value is not None}
    for kind in ("detector", "landmarker", "model", "fitter"):
        if kind in given:
            given[kind] = Choice(given[kind])
    if "preset" in given:
        given["fit"] = None
    return Pipeline.from_config(attrs.evolve(base, **given))


def progress(items: Iterable[T], total: int) -> Iterator[T]:
    """The items, with rate and remaining time on stderr where there are several and someone looks."""
    from tqdm import tqdm

    hidden = total < 2 or not sys.stderr.isatty()
    yield from tqdm(items, total=total, unit="picture", disable=hidden, file=sys.stderr)


def complain(message: str) -> None:
    """A line on stderr that does not tear the progress bar."""
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)
