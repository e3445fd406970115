"""`partfit fit`: pictures to meshes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partfit.cli import options
from partfit.errors import InputError

if TYPE_CHECKING:
    from partfit.meshes import Frame
    from partfit.pipeline import ImageResult, Pipeline


@click.command()
@options.inputs
@options.out
@options.components
@options.model_components
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, metavar="N")
@click.option("--preset", metavar="NAME", help="Fit settings of the recipe, for example `thesis`.")
@click.option("--focal", type=float, metavar="PIXELS", help="Focal length; default: EXIF, else the diagonal.")
@click.option("--landmarks", metavar="FILE", help="Fit these landmarks, as `partfit landmarks` writes them.")
@click.option(
    "--export-landmarks",
    "schemes",
    multiple=True,
    metavar="NAME",
    help="Add this scheme's points to the JSON.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["obj", "ply", "glb"]),
    default=["obj", "glb"],
    show_default=True,
    help="Mesh format; may be repeated.",
)
@click.option(
    "--frame",
    type=click.Choice(["camera", "model"]),
    default="camera",
    show_default=True,
    help="Frame of the meshes: as seen by the camera, or without the rigid motion.",
)
@click.option("--no-overlay", is_flag=True, help="Draw no overlay pictures.")
@click.pass_context
def fit(
    ctx: click.Context,
    /,
    inputs: tuple[str, ...],
    out: str,
    landmarks: str | None,
    schemes: tuple[str, ...],
    formats: tuple[str, ...],
    frame: Frame,
    no_overlay: bool,
    batch_size: int,
    **chosen: Any,
) -> None:
    """Fit meshes to pictures.

    INPUT is a picture, a folder or a glob. For instance k of picture `stem` this writes `stem-k.obj`,
    `stem-k.glb` and `stem-k.json`, and for each picture `stem-overlay.png`; the resolved configuration
    goes to `partfit.toml`. A bad input is named on stderr and gives exit code 1; the others finish.
    """
    from partfit.config import write_toml
    from partfit.files import ensure_writable_folder
    from partfit.images import expand_inputs
    from partfit.results import SaveOptions, save_result, unique_stems

    expanded = expand_inputs(inputs)
    folder = ensure_writable_folder(out)
    pipeline = options.pipeline(**chosen)
    for scheme in schemes:
        pipeline.find_embedding(scheme)
    save = SaveOptions(formats, frame, schemes, not no_overlay)
    write_toml(pipeline.to_config(), folder / "partfit.toml")
    stems = unique_stems(expanded)
    results = (
        _given_landmarks(pipeline, expanded, landmarks)
        if landmarks
        else pipeline.stream(expanded, batch_size)
    )
    failures = 0
    for path, stem, result in options.progress(zip(expanded, stems, results, strict=True), len(expanded)):
        failures += _report(path, result, pipeline)
        if result.error is None:
            written = save_result(result, stem, folder, pipeline, save)
            if written:
                click.echo(f"{path}: wrote " + ", ".join(str(p) for p in written))
    if failures:
        ctx.exit(1)


def _given_landmarks(pipeline: Pipeline, paths: Sequence[Path], file: str) -> Iterator[ImageResult]:
    from partfit.images import load_picture
    from partfit.pipeline import ImageResult
    from partfit.results import read_landmarks

    if len(paths) != 1:
        raise InputError(f"--landmarks goes with one picture, found {len(paths)}.")
    picture = load_picture(paths[0])
    detections = read_landmarks(file, pipeline.landmarker.scheme)
    yield ImageResult(picture, tuple(pipeline.fit([picture], [detections])[0]))


def _report(path: Path, result: ImageResult, pipeline: Pipeline) -> int:
    """Say what went wrong with a picture; returns 1 if the picture could not be used."""
    from partfit.fitting import FitStatus

    if result.error is not None:
        options.complain(f"error: {result.error}")
        return 1
    if not result.instances:
        options.complain(f"warning: {path}: no {pipeline.recipe.part} found.")
    for k, instance in enumerate(result.instances):
        if instance.status is FitStatus.FAILED:
            options.complain(
                f"warning: {path}: {pipeline.recipe.part} {k} was not fitted: {instance.message}"
            )
    return 0
