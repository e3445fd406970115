"""`partfit train`: a network that predicts landmarks, from a configuration."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from partfit.errors import ConfigError

if TYPE_CHECKING:
    from partfit.learning.backbones import BackboneConfig
    from partfit.learning.training import Progress
    from partfit.learning.training_config import TrainConfig


@click.command("train")
@click.argument("config", metavar="CONFIG")
@click.option("--preset", metavar="NAME", help="What CONFIG is laid over; see the docs for the names.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key, in TOML's words; may be repeated: run.steps=1000.",
)
@click.option("--out", required=True, metavar="DIR", help="Folder of the run; made if missing.")
@click.option("--resume", is_flag=True, help="Go on with the run in DIR, from its last state.")
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="Torch device.")
def train(
    config: str, preset: str | None, settings: tuple[str, ...], out: str, resume: bool, device: str
) -> None:
    """Train a network on a data set.

    CONFIG is a TOML file that says which data, which network and how long. The network is written to
    DIR/model.safetensors, for `partfit fit --landmarker checkpoint:PATH`, and its figures to DIR/report.json.
    """
    from pathlib import Path

    chosen = read_config(config, preset, settings)

    from partfit.learning.runs import MODEL_FILE
    from partfit.learning.training import train

    with _bars() as progress:
        report = train(chosen, out, resume=resume, device=device, progress=progress)
    if report is None:
        return  # the first of the processes that train together tells
    for name, data in report["data"].items():
        click.echo(f"{name}: {data['samples']} samples, {data['bad']} left out")
    figures = ", ".join(f"{name} {value:.4g}" for name, value in report["metrics"].items())
    click.echo(f"{report['steps']} steps, {report['seconds']:.0f} s: {figures}")
    if "detector" in report:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in report["detector"].items())
        click.echo(f"in the regions of the detector: {figures}")
    click.echo(f"wrote {Path(out) / MODEL_FILE}")


def read_config(file: str, preset: str | None = None, settings: Sequence[str] = ()) -> TrainConfig:
    """The configuration of a file, laid over a preset, with single keys set; paths in it are made absolute.

    Raises:
        ConfigError: naming the file and the key.
    """
    from partfit.config import read_table
    from partfit.learning import presets
    from partfit.learning.training_config import TrainConfig

    layers = [presets.preset(preset)] if preset else []
    layers.append(read_table(file))
    try:
        layers.extend(map(_layer, settings))
        return _with_absolute_paths(TrainConfig.of_layers(layers))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _layer(setting: str) -> dict[str, Any]:
    """`A.B=VALUE` as the table {A: {B: VALUE}}."""
    from partfit.cli.pipelines import key_and_value

    key, value = key_and_value(setting)
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """The configuration with paths that mean the same from every folder: it is kept with the run."""
    import attrs

    from partfit.cli.pipelines import absolute, absolute_options
    from partfit.pipeline_config import Choice

    data, network, detector = config.data, config.network, config.checkpoint.detector
    data = attrs.evolve(
        data,
        train=absolute_options("dataset", data.train),
        val=absolute_options("dataset", data.val),
        cache=None if data.cache is None else absolute(data.cache),
    )
    network = attrs.evolve(
        network,
        backbone=_with_absolute_weights(network.backbone),
        head=absolute_options("head", network.head),
        likelihood=absolute_options("loss", network.likelihood),
    )
    losses = tuple(
        attrs.evolve(term, options=absolute_options("loss", Choice(term.name, term.options)).options)
        for term in config.losses
    )
    if detector is not None:
        detector = absolute_options("detector", detector)
    checkpoint = attrs.evolve(config.checkpoint, detector=detector)
    fit = config.fit
    if fit is not None:
        fit = attrs.evolve(
            fit,
            model=None if fit.model is None else absolute_options("model", fit.model),
            embeddings=tuple(map(absolute, fit.embeddings)),
            fitter=None if fit.fitter is None else absolute_options("fitter", fit.fitter),
        )
    return attrs.evolve(config, data=data, network=network, losses=losses, fit=fit, checkpoint=checkpoint)


def _with_absolute_weights(backbone: BackboneConfig) -> BackboneConfig:
    """The backbone with the path of a file of pretrained weights made absolute."""
    import attrs

    from partfit.cli.pipelines import absolute

    overlay = backbone.options.get("pretrained_cfg_overlay")
    if not (isinstance(overlay, dict) and isinstance(overlay.get("file"), str)):
        return backbone
    options = {**backbone.options, "pretrained_cfg_overlay": {**overlay, "file": absolute(overlay["file"])}}
    return attrs.evolve(backbone, options=options)


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    """A bar on stderr for each thing that is going on, where someone looks."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in bars:
            hidden = not sys.stderr.isatty()
            bars[what] = tqdm(total=total, desc=what, unit="sample", disable=hidden, file=sys.stderr)
        bars[what].update(done - bars[what].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
