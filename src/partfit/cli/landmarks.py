"""`partfit landmarks`: the 2D prediction alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partfit.cli import options
from partfit.cli.pipelines import build_pipelines

if TYPE_CHECKING:
    from partfit.errors import InputError
    from partfit.images import Picture
    from partfit.landmarks import Detection
    from partfit.pipeline import Pipeline


@click.command()
@options.inputs
@options.out
@options.components
def landmarks(inputs: tuple[str, ...], out: str, **chosen: Any) -> None:
    """Predict 2D landmarks in pictures.

    INPUT is a picture, a folder or a glob. For picture `stem` this writes `stem-landmarks.json`, which
    `partfit fit --landmarks` reads, and `stem-landmarks.png`, in which the colours of the landmarks tell
    their confidences. A bad input is named on stderr and gives exit code 1; the others finish.
    """
    from partfit.files import ensure_writable_folder
    from partfit.results import landmarks_document, landmarks_image, write_json, write_png

    expanded, failures = options.pictures(inputs)
    folder = ensure_writable_folder(out)
    pipelines = build_pipelines(**chosen)

    def save(path: Path, stem: str, item: tuple[Picture, list[list[Detection]]]) -> list[Path]:
        picture, by_pipeline = item
        detections = [detection for found in by_pipeline for detection in found]
        if not detections:
            options.complain_of_nothing(path, pipelines)
        document, drawing = folder / f"{stem}-landmarks.json", folder / f"{stem}-landmarks.png"
        write_json(document, landmarks_document(detections, picture))
        write_png(drawing, landmarks_image(detections, picture))
        return [document, drawing]

    options.save_each(expanded, _located(pipelines, expanded), save, failures)


def _located(
    pipelines: Sequence[Pipeline], paths: Sequence[Path]
) -> Iterator[tuple[Picture, list[list[Detection]]] | InputError]:
    """Each picture with the landmarks that each pipeline finds, or why it cannot be used."""
    from partfit.images import Picture, load_or_error

    for path in paths:
        picture = load_or_error(path)
        if isinstance(picture, Picture):
            yield picture, [pipeline.locate([picture])[0] for pipeline in pipelines]
        else:
            yield picture
