"""`partfit check`: whether a component can be built."""

from __future__ import annotations

import click

from partfit.errors import ComponentError, PartfitError
from partfit.registry import ComponentRecord, Failure, PluginRecord, Registry, default_registry
from partfit.text import closest, one_line


@click.command()
@click.argument("name")
def check(name: str) -> None:
    """Try to build a component or a whole plugin.

    Builds with the default configuration, and says whether that works.

    NAME is a component (`anny-head`, `model/anny-head`, `partfit-anny:anny-head`) or a plugin
    (`anny`, `partfit-anny`, `partfit-anny:anny`), of which every component is then checked.
    The exit code is 1 if anything fails.
    """
    registry = default_registry()
    plugins = [plugin for plugin in registry.plugins if plugin.answers_to(name)]
    components = _matching(registry, name, plugins)
    if not plugins and not components:
        raise ComponentError(_unknown(registry, name))
    passed = [_report_plugin(plugin) for plugin in plugins]
    passed += [_report_component(registry, component) for component in components]
    if not all(passed):
        raise SystemExit(1)


def _matching(registry: Registry, name: str, plugins: list[PluginRecord]) -> list[ComponentRecord]:
    """The components that `name` means, and those of the plugins that it means."""
    records = registry.components()
    named = {record.kind for record in records if name in (record.name, record.qualified_name)}
    kind, slash, bare_name = name.partition("/")
    if slash and not named:
        return [registry.get(kind, bare_name)]
    chosen = [registry.get(kind, name) for kind in sorted(named)]
    return chosen + [record for record in records if record.plugin in plugins and record not in chosen]


def _report_plugin(plugin: PluginRecord) -> bool:
    """Print the failures of a plugin; whether there were none."""
    if plugin.skipped:
        click.echo(f"FAILED plugin {plugin.name}: left out by PARTFIT_PLUGINS")
    for failure in plugin.failures:
        _print_failure(plugin, failure)
    if plugin.skipped or plugin.failures:
        return False
    click.echo(f"OK     plugin {plugin.name} {plugin.version}: declares {len(plugin.components)}")
    return True


def _print_failure(plugin: PluginRecord, failure: Failure) -> None:
    click.echo(f"FAILED plugin {plugin.name}: {failure}")
    if failure.traceback:
        click.echo(failure.traceback.rstrip(), err=True)


def _report_component(registry: Registry, component: ComponentRecord) -> bool:
    """Build a component and print how it went; whether it went well."""
    label = f"{component.kind}/{component.name} ({component.source})"
    try:
        registry.create(component.kind, component.qualified_name)
    except PartfitError as error:
        click.echo(f"FAILED {label}: {error}")
    except Exception as error:
        click.echo(f"FAILED {label}: {one_line(error)}")
    else:
        click.echo(f"OK     {label}")
        return True
    return False


def _unknown(registry: Registry, name: str) -> str:
    names = [record.name for record in registry.components()]
    names += [plugin.name for plugin in registry.plugins]
    names += [plugin.distribution for plugin in registry.plugins]
    match = closest(name, names)
    hint = f" Did you mean {match!r}?" if match else ""
    return f"No component or plugin named {name!r}.{hint} Run 'partfit components' to see what is installed."
