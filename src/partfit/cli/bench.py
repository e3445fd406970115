"""`partfit bench`: speed figures of this machine, as JSON."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--threads", type=click.IntRange(min=1), help="Torch threads; default: torch's own choice.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="The best counts.")
@click.option("--picture", metavar="FILE", help="Time the whole way from this photograph too.")
@click.option("--out", metavar="FILE", help="Write the JSON here instead of to stdout.")
def bench(threads: int | None, repeats: int, picture: str | None, out: str | None) -> None:
    """Measure the speed of this machine.

    Milliseconds an item of every step at several sizes and batch sizes, each the best of some repeats,
    beside a matrix product timed in the same run: compare ratios, not milliseconds, between machines.
    """
    from partfit.bench import run_benchmarks
    from partfit.files import atomic_write, ensure_writable_file

    target = None if out is None else ensure_writable_file(out)
    report = run_benchmarks(threads=threads, repeats=repeats, picture=picture)
    text = json.dumps(report, indent=1)
    if target is None:
        click.echo(text)
        return
    with atomic_write(target) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
