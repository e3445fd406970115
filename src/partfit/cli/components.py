"""`partfit components`: what can be asked for by name."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import attrs
import click

from partfit.registry import ComponentRecord, default_registry


@click.command()
@click.option("--kind", metavar="KIND", help="Only this kind, for example model.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def components(kind: str | None, as_json: bool) -> None:
    """List what can be asked for by name.

    The columns are kind, name, distribution with version, and summary. A name that several
    distributions claim is listed in the form distribution:name, by which to ask for it.
    """
    registry = default_registry()
    records = registry.components(kind)
    if as_json:
        click.echo(json.dumps([_as_dict(record) for record in records], indent=2))
    else:
        _print_table(records)
    failed = [plugin.name for plugin in registry.plugins if plugin.failures]
    if failed:
        click.echo(f"With failures: {', '.join(failed)}. Run 'partfit plugins' for details.", err=True)


def _as_dict(record: ComponentRecord) -> dict[str, Any]:
    plugin = record.plugin
    return {
        **attrs.asdict(record.spec),
        "qualified_name": record.qualified_name,
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
    }


def _print_table(records: list[ComponentRecord]) -> None:
    claims = Counter((record.kind, record.name) for record in records)
    rows = [
        (
            record.kind,
            record.name if claims[record.kind, record.name] == 1 else record.qualified_name,
            record.source,
            record.spec.summary,
        )
        for record in records
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[3]]).rstrip())
