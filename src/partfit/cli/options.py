"""Options and habits that the commands on pictures share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from partfit.errors import PartfitError

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
            click.option(
                "--part",
                multiple=True,
                metavar="PART",
                help="Recipe; several as face,hand or by repetition.  [default: face]",
            ),
            click.option("--detector", metavar="NAME", help="Detector; default: the recipe's."),
            click.option(
                "--landmarker",
                metavar="NAME",
                help="Landmarker, or checkpoint:PATH, a trained network; default: the recipe's.",
            ),
            click.option("--config", metavar="FILE", help="TOML file; options given here override it."),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="KEY=VALUE",
                help="Override one key of the resolved configuration, in TOML's words; may be repeated: "
                "landmarker.options.looks=8; of one of several parts: hand.landmarker.options.looks=8.",
            ),
            click.option("--device", metavar="DEVICE", help="Torch device.  [default: cpu]"),
        ]
    ):
        command = option(command)
    return command


def model(command: Command) -> Command:
    """Options that choose the model."""
    name = click.option("--model", metavar="NAME", help="Model; default: the recipe's.")
    path = click.option("--model-path", metavar="PATH", help="File of a model that reads one: its `path`.")
    return name(path(command))


def pictures(inputs: Sequence[str]) -> tuple[list[Path], int]:
    """The pictures that the inputs stand for, and how many inputs stand for none: these are named on stderr.

    Raises:
        InputError: of the first input, if none stands for a picture.
    """
    from partfit.errors import InputError
    from partfit.images import expand_inputs

    found: list[Path] = []
    errors = []
    for given in inputs:
        try:
            found += expand_inputs([given])
        except InputError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    for reason in errors:
        complain(f"error: {reason}")
    return expand_inputs(found), len(errors)  # each once


def complain_of_nothing(path: Path, pipelines: Sequence[Pipeline]) -> None:
    """Say that none of the parts was found in a picture."""
    parts = " or ".join(pipeline.recipe.part for pipeline in pipelines)
    complain(f"warning: {path}: no {parts} found.")


def save_each(
    paths: Sequence[Path],
    items: Iterable[T | PartfitError],
    save: Callable[[Path, str, T], Iterable[Path]],
    failures: int = 0,
) -> None:
    """Save what was made of each picture, under a stem of its own, and say what was written.

    An item that is an error, or an error while an item is saved, is named on stderr; the others finish.
    The command then ends with exit code 1.

    Args:
        paths: The pictures.
        items: What was made of each picture, or why nothing could be.
        save: Writes an item, given its picture's path and stem; returns the files.
        failures: How many there were before.
    """
    from partfit.results import unique_stems

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


def progress(items: Iterable[T], total: int, unit: str = "picture") -> Iterator[T]:
    """The items, with rate and remaining time on stderr where there are several and someone looks."""
    from tqdm import tqdm

    hidden = total < 2 or not sys.stderr.isatty()
    yield from tqdm(items, total=total, unit=unit, disable=hidden, file=sys.stderr)


def complain(message: str) -> None:
    """A line on stderr that does not tear the progress bar."""
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)
