"""`partfit transfer-landmarks`: where a landmarker's points lie on a model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from partfit.cli import options
from partfit.cli.pipelines import build_pipelines
from partfit.errors import ConfigError, InputError, OutputError, PartfitError

if TYPE_CHECKING:
    from partfit.pipeline import Pipeline
    from partfit.transfer import TransferResult

_ANGLE = click.FloatRange(min=0)
#: Beyond this part of the landmarks' extent, the places explain badly what was seen.
_BAD_ERROR = 0.04

_progress = functools.partial(options.progress, unit="render")


@click.command("transfer-landmarks")
@options.components
@options.model
@click.option(
    "--on",
    type=click.Choice(["surface", "joints"]),
    help="Where landmarks lie: on the surface, or at joints.  [default: the recipe's]",
)
@click.option(
    "--renders", type=click.IntRange(min=10), metavar="N", help="Number of renders.  [default: 200]"
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of all that is random.  [default: 0]")
@click.option("--yaw", type=_ANGLE, metavar="RADIANS", help="Views turn so far.  [default: 0.5; joints: pi]")
@click.option("--pitch", type=_ANGLE, metavar="RADIANS", help="Likewise.  [default: 0.3; joints: pi / 2]")
@click.option("--roll", type=_ANGLE, metavar="RADIANS", help="Likewise.  [default: 0.15; joints: pi]")
@click.option(
    "--out", metavar="FILE", help="Embedding to write, .safetensors; default: where fits look for it."
)
def transfer(
    on: Literal["surface", "joints"] | None,
    renders: int | None,
    seed: int | None,
    yaw: float | None,
    pitch: float | None,
    roll: float | None,
    out: str | None,
    part: tuple[str, ...],
    **chosen: Any,
) -> None:
    """Find a landmarker's points on a model.

    Shows the landmarker many renders of the model, and writes where its points lie on it: an embedding
    (.safetensors), beside it a report (.json) and a picture (.png). Without --out they go where `partfit fit`
    with the same model and landmarker looks for them. Without --part, the part is that of the recipe that
    names the landmarker.
    """
    from partfit.embedding_files import cached_embedding_path
    from partfit.files import ensure_writable_file
    from partfit.model_files import check_target, home_path
    from partfit.transfer import TransferSettings, transfer_landmarks

    pipeline = _pipeline(part, chosen)
    given: dict[str, Any] = {"renders": renders, "seed": seed, "yaw": yaw, "pitch": pitch, "roll": roll}
    settings = TransferSettings(
        on or pipeline.recipe.landmarks_on,
        **{name: value for name, value in given.items() if value is not None},
    )
    model, scheme = pipeline.model, pipeline.landmarker.scheme
    path = check_target(home_path(out)) if out else cached_embedding_path(model, scheme.name)
    if out:
        _refuse_to_overwrite(path)
    ensure_writable_file(path)
    result = transfer_landmarks(model, pipeline.detector, pipeline.landmarker, settings, _progress)
    bad = _is_bad(result)
    for written in _save(result, path) if out or not bad else _save_look(result, path):
        click.echo(f"wrote {written}")
    click.echo(_summary(result))
    if bad:
        _complain_of_error(result, bool(out))
    if not out and pipeline.find_embedding(scheme.name).hash != result.embedding.hash:
        options.complain(
            f"warning: fits take the embedding that a plugin or the model's files give for {scheme.name} on "
            f"{model.topology.name}. To take this one, give them --embedding {path}."
        )


def transfer_missing(pipeline: Pipeline) -> None:
    """Transfer a pipeline's landmarks if nobody knows where they lie on its model, and keep the embedding.

    Models with a left and a right are left alone: a picture may show one side only.

    Raises:
        InputError: if the places explain badly what was seen, or too few renders are accepted.
    """
    from partfit.embedding_files import CACHE_VARIABLE, cached_embedding_path
    from partfit.files import ensure_writable_file
    from partfit.transfer import TransferSettings, transfer_landmarks

    scheme = pipeline.landmarker.scheme.name
    if pipeline.sided or pipeline.has_embedding(scheme):
        return
    model, settings = pipeline.model, TransferSettings(pipeline.recipe.landmarks_on)
    options.complain(
        f"note: no embedding of {scheme} on {model.topology.name}: finding one from {settings.renders} "
        "renders of the model"
    )
    result = transfer_landmarks(model, pipeline.detector, pipeline.landmarker, settings, _progress)
    bad, written = _is_bad(result), []
    try:
        path = ensure_writable_file(cached_embedding_path(model, scheme))
        written = _save_look(result, path) if bad else _save(result, path)
    except OutputError as error:
        options.complain(
            f"warning: the embedding cannot be kept: {error} Name another folder in {CACHE_VARIABLE}."
        )
    if bad:
        look = f" Look at {written[-1]}." if written else ""
        raise InputError(f"{_summary(result)}: too much.{look}")
    pipeline.embeddings.add(result.embedding)
    if written:
        options.complain(
            f"note: {_summary(result)}; kept as {written[0]}, look at {written[-1].name} beside it"
        )


def _refuse_to_overwrite(path: Path) -> None:
    """Raise InputError if a file is there that is no embedding."""
    from partfit.embedding_files import read_embedding

    if not path.exists():
        return
    try:
        read_embedding(path)
    except InputError as error:
        raise InputError(
            f"{path}: this file is no embedding, and is not overwritten. Choose another name."
        ) from error


def _is_bad(result: TransferResult) -> bool:
    """Whether the places explain badly what was seen."""
    return result.report["summary"]["held_out_mm"]["median"] > _BAD_ERROR * result.report["extent_mm"]


def _pipeline(part: tuple[str, ...], chosen: dict[str, Any]) -> Pipeline:
    if not part and not chosen["config"] and chosen["landmarker"]:
        part = (_part_of(chosen["landmarker"]),)
    pipelines = build_pipelines(part=part, **chosen)
    if len(pipelines) > 1:
        raise ConfigError(
            f"Landmarks are transferred for one part at a time, found {len(pipelines)}: give one --part."
        )
    return pipelines[0]


def _part_of(landmarker: str) -> str:
    """The part whose recipes name a landmarker.

    Raises:
        ConfigError: if there is none, or there are several.
    """
    from partfit.registry import default_registry

    registry, parts = default_registry(), set()
    for record in registry.components("recipe"):
        try:
            recipe = registry.create("recipe", record.qualified_name)
        except PartfitError:
            continue  # `partfit check` says why
        if recipe.landmarker == landmarker.rpartition(":")[2]:
            parts.add(recipe.part)
    if len(parts) != 1:
        found = ", ".join(sorted(parts)) or "none"
        raise ConfigError(
            f"--landmarker {landmarker}: expected one part whose recipe names it, found {found}. "
            "Give --part, whose detector is used."
        )
    return parts.pop()


def _save(result: TransferResult, path: Path) -> list[Path]:
    """Write embedding, report and picture; returns their paths."""
    from partfit.embedding_files import write_embedding

    write_embedding(result.embedding, path)
    return [path, *_save_look(result, path)]


def _save_look(result: TransferResult, path: Path) -> list[Path]:
    """Write the report and the picture that go beside an embedding; returns their paths."""
    from partfit.results import write_json, write_png

    report, picture = (path.with_name(f"{path.stem}-transfer{suffix}") for suffix in (".json", ".png"))
    write_json(report, result.report)
    write_png(picture, result.picture)
    return [report, picture]


def _summary(result: TransferResult) -> str:
    renders, error = result.report["renders"], result.report["summary"]["held_out_mm"]["median"]
    return (
        f"{result.embedding.scheme.name} on {result.embedding.topology}: {renders['accepted']} of "
        f"{renders['made']} renders accepted, median error on held-out renders {error:.1f} mm"
    )


def _complain_of_error(result: TransferResult, kept: bool) -> None:
    """Say that the places explain badly what was seen, and end with exit code 1 if they were not kept."""
    options.complain(
        f"{'warning' if kept else 'error'}: that is much for landmarks that cover "
        f"{result.report['extent_mm']:.0f} mm. Look at the picture; landmarks at joints need --on joints."
        f"{'' if kept else ' The embedding was not written; to have it in spite of that, use --out FILE.'}"
    )
    if not kept:
        click.get_current_context().exit(1)
