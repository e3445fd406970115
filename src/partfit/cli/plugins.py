"""`partfit plugins`: what is installed, what it declares, and what failed."""

from __future__ import annotations

import json
from typing import Any

import attrs
import click

from partfit.registry import PluginRecord, default_registry


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, tracebacks of failures included.")
def plugins(as_json: bool) -> None:
    """List the plugins, and what failed to load.

    For each: its distribution and version, its components, and its failures with the reason.
    """
    records = default_registry().plugins
    if as_json:
        click.echo(json.dumps([_as_dict(record) for record in records], indent=2))
        return
    for record in records:
        click.echo("\n".join(_lines(record)))


def _as_dict(record: PluginRecord) -> dict[str, Any]:
    return {"name": record.name, **attrs.asdict(record)}


def _lines(record: PluginRecord) -> list[str]:
    lines = [f"{record.name} {record.version}{' (left out by PARTFIT_PLUGINS)' if record.skipped else ''}"]
    lines += [f"  {spec.kind}/{spec.name}: {spec.summary}" for spec in record.components]
    lines += [f"  FAILED {failure}" for failure in record.failures]
    return lines
