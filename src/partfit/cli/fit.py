"""`partfit fit`: pictures to meshes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from partfit.cli import options
from partfit.cli.pipelines import build_pipelines
from partfit.cli.transfer import transfer_missing
from partfit.errors import ComponentError, InputError
from partfit.files import RESULT_FORMATS, ResultFormat

if TYPE_CHECKING:
    from partfit.images import Picture
    from partfit.landmarks import Detection
    from partfit.meshes import Frame
    from partfit.pipeline import ImageResult, Instance, Pipeline


def _radians(ctx: click.Context, parameter: click.Parameter, degrees: float | None) -> float | None:
    return None if degrees is None else math.radians(degrees)


@click.command()
@options.inputs
@options.out
@options.components
@options.model
@click.option("--fitter", metavar="NAME", help="Fitter; default: the recipe's.")
@click.option(
    "--embedding",
    "embeddings",
    multiple=True,
    metavar="FILE",
    help="Where landmarks lie on the model, as `partfit transfer-landmarks` writes it; may be repeated.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, metavar="N")
@click.option("--preset", metavar="NAME", help="Fit settings of the recipe, for example `thesis`.")
@click.option("--focal", type=float, metavar="PIXELS", help="Focal length; default: EXIF, else the diagonal.")
@click.option(
    "--field-of-view",
    type=click.FloatRange(0, 180, min_open=True, max_open=True),
    callback=_radians,
    metavar="DEGREES",
    help="Diagonal field of view instead of --focal. Degrees here, radians in files and in Python.",
)
@click.option(
    "--focal-deviation",
    type=click.FloatRange(0, min_open=True),
    metavar="D",
    help="Estimate the focal length, too: it is known up to a factor of about exp(D), for example 0.3.",
)
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), help="Precision of the fit.  [default: float32]"
)
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
    type=click.Choice(RESULT_FORMATS),
    default=["obj", "glb"],
    show_default=True,
    help="What to write; may be repeated. glb: a rig; npz: arrays; csv: named coefficients.",
)
@click.option(
    "--frame",
    type=click.Choice(["camera", "model"]),
    default="camera",
    show_default=True,
    help="Frame of the meshes: as seen by the camera, or without the rigid motion.",
)
@click.option("--no-overlay", is_flag=True, help="Draw no overlay pictures.")
@click.option("--panel", is_flag=True, help="Draw photograph, overlay, front and side view of each instance.")
@click.option("--uncertainty", is_flag=True, help="Draw meshes in the colours of their standard deviations.")
def fit(
    inputs: tuple[str, ...],
    out: str,
    landmarks: str | None,
    schemes: tuple[str, ...],
    formats: tuple[ResultFormat, ...],
    frame: Frame,
    no_overlay: bool,
    panel: bool,
    uncertainty: bool,
    batch_size: int,
    **chosen: Any,
) -> None:
    """Fit meshes to pictures.

    INPUT is a picture, a folder or a glob. For instance k of picture `stem` this writes `stem-k.obj`,
    `stem-k.glb` and `stem-k.json`, and for each picture `stem-overlay.png`, with --panel `stem-panel.png`,
    with --uncertainty `stem-uncertainty.png`; the resolved configuration goes to `partfit.toml`. What an
    earlier fit of the picture left there is removed. A bad input is named on stderr and gives exit code 1;
    the others finish.
    Where nobody knows how the landmarks lie on the model, they are transferred first, once, as by
    `partfit transfer-landmarks`.
    """
    from partfit import rendering
    from partfit.config import write_toml
    from partfit.files import ensure_writable_folder
    from partfit.pipeline import stream
    from partfit.pipeline_config import RunConfig
    from partfit.results import SaveOptions, save_result

    if panel or uncertainty or not no_overlay:
        # before the work: an interrupt during this long import would be lost; a failure is told per picture
        with contextlib.suppress(ComponentError):
            rendering.prepare()
    expanded, failures = options.pictures(inputs)
    folder = ensure_writable_folder(out)
    pipelines = build_pipelines(**chosen)
    _check_schemes(pipelines, schemes)
    if uncertainty:
        _check_scales(pipelines)
    given = _given_landmarks(pipelines, expanded, landmarks) if landmarks else None
    for pipeline in pipelines:
        transfer_missing(pipeline)
    save_options = SaveOptions(formats, frame, schemes, not no_overlay, panel, uncertainty)
    configs = tuple(pipeline.to_config() for pipeline in pipelines)
    write_toml(configs[0] if len(configs) == 1 else RunConfig(configs), folder / "partfit.toml")
    results = stream(pipelines, expanded, batch_size) if given is None else _fit_given(pipelines, *given)

    def save(path: Path, stem: str, result: ImageResult) -> list[Path]:
        _warn(path, result, pipelines)
        try:
            written, removed = save_result(result, stem, folder, save_options)
        except ComponentError as error:  # of drawing: the schemes were looked up before
            raise ComponentError(
                f"{error} To draw nothing, use --no-overlay, no --panel and no --uncertainty."
            ) from error
        if removed:
            names = ", ".join(file.name for file in removed)
            options.complain(f"{path}: removed from an earlier fit: {names}")
        return written

    options.save_each(expanded, (result.error or result for result in results), save, failures)


def _check_schemes(pipelines: Sequence[Pipeline], schemes: Sequence[str]) -> None:
    """Refuse a scheme to export that lies on no model; the landmarkers' own may yet be transferred."""
    for scheme in schemes:
        own = any(pipeline.landmarker.scheme.name == scheme for pipeline in pipelines)
        if not own and not any(pipeline.has_embedding(scheme) for pipeline in pipelines):
            pipelines[0].find_embedding(scheme)  # which says what there is


def _check_scales(pipelines: Sequence[Pipeline]) -> None:
    """Refuse uncertainties of fits whose residuals have no unit of probability."""
    for pipeline in pipelines:
        if pipeline.settings.weighting != "inverse_scale":
            raise InputError(
                "--uncertainty needs landmarks that are weighted by their scales: set settings.weighting to "
                f"'inverse_scale', found {pipeline.settings.weighting!r}."
            )


def _given_landmarks(
    pipelines: Sequence[Pipeline], paths: Sequence[Path], file: str
) -> tuple[Picture, list[Detection]]:
    """The picture and its landmarks of a file."""
    from partfit.images import load_picture
    from partfit.results import read_landmarks

    if len(paths) != 1:
        raise InputError(f"--landmarks goes with one picture, found {len(paths)}.")
    picture = load_picture(paths[0])
    schemes = [pipeline.landmarker.scheme for pipeline in pipelines]
    return picture, read_landmarks(file, schemes, picture.size)


def _fit_given(
    pipelines: Sequence[Pipeline], picture: Picture, detections: Sequence[Detection]
) -> Iterator[ImageResult]:
    from partfit.pipeline import ImageResult

    instances: list[Instance] = []
    for pipeline in pipelines:
        name = pipeline.landmarker.scheme.name
        own = [detection for detection in detections if detection.scheme.name == name]
        instances += pipeline.fit([picture], [own])[0]
    yield ImageResult(picture, tuple(instances))


def _warn(path: Path, result: ImageResult, pipelines: Sequence[Pipeline]) -> None:
    """Say which parts were not found or not fitted."""
    from partfit.fitting import FitStatus

    if not result.instances:
        options.complain_of_nothing(path, pipelines)
    for k, instance in enumerate(result.instances):
        if instance.status is FitStatus.FAILED:
            options.complain(f"warning: {path}: {instance.part} {k} was not fitted: {instance.message}")
