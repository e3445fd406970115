"""`partfit transfer-landmarks`: where a landmarker's points lie on a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from partfit.cli import options
from partfit.cli.pipelines import build_pipelines
from partfit.errors import ConfigError, InputError, PartfitError

if TYPE_CHECKING:
    from partfit.pipeline import Pipeline
    from partfit.transfer import TransferResult

_ANGLE = click.FloatRange(min=0)
#: Beyond this part of the landmarks' extent, the places explain badly what was seen.
_BAD_ERROR = 0.04


@click.command("transfer-landmarks")
@options.components
@options.model
@click.option(
    "--on",
    type=click.Choice(["surface", "joints"]),
    default="surface",
    show_default=True,
    help="Where landmarks lie: on the skin, or, as the joints of a hand, inside.",
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
    on: Literal["surface", "joints"],
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
    from partfit.transfer import TransferSettings, transfer_landmarks

    given: dict[str, Any] = {"renders": renders, "seed": seed, "yaw": yaw, "pitch": pitch, "roll": roll}
    settings = TransferSettings(on, **{name: value for name, value in given.items() if value is not None})
    pipeline = _pipeline(part, chosen)
    model, scheme = pipeline.model, pipeline.landmarker.scheme
    path = Path(out) if out else cached_embedding_path(model, scheme.name)
    if path.suffix != ".safetensors":
        raise InputError(f"--out {out}: expected a name that ends in .safetensors.")
    ensure_writable_file(path)
    result = transfer_landmarks(model, pipeline.detector, pipeline.landmarker, settings, options.progress)
    for written in _save(result, path):
        click.echo(f"wrote {written}")
    _summarize(result)
    if not out and pipeline.find_embedding(scheme.name).hash != result.embedding.hash:
        options.complain(
            f"warning: fits take the embedding that a plugin or the model's files give for {scheme.name} on "
            f"{model.topology.name}. To take this one, give them --embedding {path}."
        )


def transfer_missing(pipeline: Pipeline) -> None:
    """Transfer a pipeline's landmarks if nobody knows where they lie on its model, and keep the embedding.

    Models with a left and a right side are left alone: of these, joints are asked for, on both.

    Raises:
        InputError: if the landmarks do not lie on the model's skin, or too few renders are accepted.
    """
    from partfit.embedding_files import cached_embedding_path
    from partfit.files import ensure_writable_file
    from partfit.transfer import transfer_landmarks

    scheme = pipeline.landmarker.scheme.name
    if pipeline.sided or pipeline.has_embedding(scheme):
        return
    model = pipeline.model
    options.complain(
        f"note: nobody knows where {scheme} lies on {model.topology.name}: it is transferred, which takes "
        "about a minute, once."
    )
    path = ensure_writable_file(cached_embedding_path(model, scheme))
    result = transfer_landmarks(model, pipeline.detector, pipeline.landmarker, None, options.progress)
    if _is_bad(result):
        raise InputError(
            f"The landmarks {scheme} seem not to lie on the skin of {model.topology.name}: the median error "
            f"on held-out renders is {result.report['summary']['held_out_mm']['median']:.0f} mm. Run "
            "`partfit transfer-landmarks` and look at its picture; landmarks inside, such as joints, need "
            "--on joints."
        )
    options.complain(f"note: kept as {_save(result, path)[0]}; look at the picture beside it")


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
        if recipe.landmarker == landmarker:
            parts.add(recipe.part)
    if len(parts) != 1:
        found = ", ".join(sorted(parts)) or "none"
        raise ConfigError(
            f"--landmarker {landmarker}: expected one part whose recipe names it, found {found}. "
            "Give --part, whose detector is used."
        )
    return parts.pop()


def _save(result: TransferResult, path: Path) -> list[Path]:
    from partfit.embedding_files import write_embedding
    from partfit.results import write_json, write_png

    write_embedding(result.embedding, path, result.report)
    report, picture = path.with_suffix(".json"), path.with_suffix(".png")
    write_json(report, result.report)
    write_png(picture, result.picture)
    return [path, report, picture]


def _summarize(result: TransferResult) -> None:
    renders, summary = result.report["renders"], result.report["summary"]
    error, extent = summary["held_out_mm"]["median"], result.report["extent_mm"]
    click.echo(
        f"{result.embedding.scheme.name} on {result.embedding.topology}: {renders['accepted']} of "
        f"{renders['made']} renders accepted, median error on held-out renders {error:.1f} mm"
    )
    if _is_bad(result):
        options.complain(
            f"warning: that is much for landmarks that cover {extent:.0f} mm. Look at the picture; landmarks "
            "inside the model, such as joints, need --on joints."
        )
