"""`partfit landmarks`: the 2D prediction alone."""

from __future__ import annotations

from typing import Any

import click

from partfit.cli import options


@click.command()
@options.inputs
@options.out
@options.components
@click.pass_context
def landmarks(ctx: click.Context, /, inputs: tuple[str, ...], out: str, **chosen: Any) -> None:
    """Predict 2D landmarks in pictures.

    INPUT is a picture, a folder or a glob. For picture `stem` this writes `stem-landmarks.json`, which
    `partfit fit --landmarks` reads, and `stem-landmarks.png`. A bad input is named on stderr and gives
    exit code 1; the others finish.
    """
    from partfit.files import atomic_write, ensure_writable_folder
    from partfit.images import Picture, expand_inputs, load_or_error
    from partfit.results import landmarks_document, landmarks_image, unique_stems, write_json

    expanded = expand_inputs(inputs)
    folder = ensure_writable_folder(out)
    pipeline = options.pipeline(**chosen)
    failures = 0
    pairs = zip(expanded, unique_stems(expanded), strict=True)
    for path, stem in options.progress(pairs, len(expanded)):
        picture = load_or_error(path)
        if not isinstance(picture, Picture):
            options.complain(f"error: {picture}")
            failures += 1
            continue
        detections = pipeline.locate([picture])[0]
        if not detections:
            options.complain(f"warning: {path}: no {pipeline.recipe.part} found.")
        document, drawing = folder / f"{stem}-landmarks.json", folder / f"{stem}-landmarks.png"
        write_json(document, landmarks_document(detections, picture))
        with atomic_write(drawing) as temporary:
            landmarks_image(detections, picture).save(temporary, format="PNG")
        click.echo(f"{path}: wrote {document}, {drawing}")
    if failures:
        ctx.exit(1)
