"""`partfit convert`: a model file without code in it; a trained network as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
def convert(source: str, target: str) -> None:
    """Make a safe model file, or an ONNX network.

    SRC is a model file as published: .pkl, .npz, .npy or .safetensors. DST is the copy, which ends in
    .safetensors. Pickles can hold code; nothing in SRC is run, and DST holds arrays, texts and numbers
    only. It can be used wherever SRC can, and is read faster. It says from which file it was made, with that
    file's SHA-256.

    If DST ends in .onnx, SRC is a trained network of `partfit train`, and DST can be run without partfit:
    crops in, points with calibrated scales out, and the visibility if the network predicts it.
    """
    if Path(target).suffix == ".onnx":
        _convert_network(source, Path(target))
    else:
        _convert_model(source, target)


def _convert_network(source: str, target: Path) -> None:
    from partfit.files import ensure_writable_file
    from partfit.learning.checkpoint import load_checkpoint
    from partfit.learning.onnx_export import export_onnx

    checkpoint = load_checkpoint(source)
    export_onnx(checkpoint, ensure_writable_file(target))
    click.echo(f"{source}: wrote {target}")
    side = checkpoint.network.config.resolution
    click.echo(
        f"  crops (B, 3, {side}, {side}) to {len(checkpoint.scheme)} landmarks {checkpoint.scheme.name}"
    )


def _convert_model(source: str, target: str) -> None:
    import hashlib

    from partfit.errors import OutputError, printable
    from partfit.files import ensure_writable_file
    from partfit.model_files import (
        check_target,
        named_arrays,
        read_model_file,
        read_regular_file,
        write_model_file,
    )

    path = check_target(target)
    file = read_model_file(source)
    ensure_writable_file(path)
    if path.exists() and path.samefile(file.path):
        raise OutputError(f"Cannot write {path}: it is the file to convert. Choose another name.")
    digest = hashlib.sha256(read_regular_file(file.path, "the file to convert", ())).hexdigest()
    metadata = {"source": printable(file.path.name), "source_sha256": digest}
    write_model_file(path, file.entries, metadata)
    click.echo(printable(f"{file.path}: wrote {path}"))
    for name, array in named_arrays(file.entries):
        click.echo(f"  {printable(name)}  {array.dtype} {array.shape}")
