"""The command line: `partfit COMMAND`."""

from __future__ import annotations

import pkgutil
from typing import Any

import click

from partfit.errors import PartfitError

#: Each command and the import string of its click command. To add one, write its module and add a line here.
#: `partfit --help` imports these modules: they import what is heavy (numpy, torch) inside their functions.
#: The help shows the first sentence of a command's docstring: keep it under 45 characters.
COMMANDS: dict[str, str] = {
    "bench": "partfit.cli.bench:bench",
    "check": "partfit.cli.check:check",
    "components": "partfit.cli.components:components",
    "convert": "partfit.cli.convert:convert",
    "fit": "partfit.cli.fit:fit",
    "landmarks": "partfit.cli.landmarks:landmarks",
    "plugins": "partfit.cli.plugins:plugins",
    "train": "partfit.cli.train:train",
    "transfer-landmarks": "partfit.cli.transfer:transfer",
}


class _Commands(click.Group):
    """The commands of `COMMANDS`, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command: click.Command | None = None
        if cmd_name in COMMANDS:
            command = pkgutil.resolve_name(COMMANDS[cmd_name])
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PartfitError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="partfit", message="%(prog)s %(version)s")
def main() -> None:
    """Turn photographs of a face, a hand or another body part into 3D meshes."""
