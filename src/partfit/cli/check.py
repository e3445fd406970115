"""`partfit check`: whether a component can be built."""

from __future__ import annotations

from typing import Any

import attrs
import click

from partfit.cli.pipelines import key_and_value
from partfit.component import NoConfig
from partfit.errors import ComponentError, ConfigError, PartfitError
from partfit.registry import ComponentRecord, Failure, PluginRecord, Registry, default_registry
from partfit.text import closest, one_line


@click.command()
@click.argument("name")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the component, in TOML's words, such as path=generic_model.pkl; may be repeated.",
)
def check(name: str, settings: tuple[str, ...]) -> None:
    """Try to build a component or a whole plugin.

    Builds with the default configuration, or with the options given, and says whether that works.

    NAME is a component (`anny-head`, `model/anny-head`, `partfit-anny:anny-head`) or a plugin
    (`anny`, `partfit-anny`, `partfit-anny:anny`), of which every component is then checked.
    What cannot be built without options of yours, such as a model's file, is named: check it with --set.
    The exit code is 1 if anything fails.
    """
    registry = default_registry()
    plugins = [plugin for plugin in registry.plugins if plugin.answers_to(name)]
    components = _matching(registry, name, plugins)
    if not plugins and not components:
        raise ComponentError(_unknown(registry, name))
    if settings and (plugins or len(components) > 1):
        found = ", ".join(f"{component.kind}/{component.name}" for component in components)
        raise ConfigError(f"--set goes with one component; {name!r} means {found}. Say one of these.")
    options = dict(key_and_value(setting) for setting in settings)
    passed = [_report_plugin(plugin) for plugin in plugins]
    for component in components:
        needed = _required(registry, component) if plugins else []
        passed.append(_report_needs(component, needed) or _report_component(registry, component, options))
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


def _report_component(registry: Registry, component: ComponentRecord, options: dict[str, Any]) -> bool:
    """Build a component and print how it went; whether it went well."""
    label = f"{component.kind}/{component.name} ({component.source})"
    try:
        registry.create(component.kind, component.qualified_name, **options)
    except PartfitError as error:
        click.echo(f"FAILED {label}: {error}")
    except Exception as error:
        click.echo(f"FAILED {label}: {one_line(error)}")
    else:
        click.echo(f"OK     {label}")
        return True
    return False


def _required(registry: Registry, component: ComponentRecord) -> list[str]:
    """The options of a component that have no default; none where its code cannot be imported."""
    try:
        target = registry.resolve(component.kind, component.qualified_name)
    except Exception:  # which `_report_component` names
        return []
    config = getattr(target, "Config", NoConfig) if isinstance(target, type) else NoConfig
    return [field.name for field in attrs.fields(config) if field.default is attrs.NOTHING]


def _report_needs(component: ComponentRecord, needed: list[str]) -> bool:
    """Print which options a component of a plugin cannot be built without; whether there are any."""
    if needed:
        name = f"{component.kind}/{component.name}"
        wanted = " ".join(f"--set {option}=..." for option in needed)
        click.echo(f"NEEDS  {name} ({component.source}): partfit check {name} {wanted}")
    return bool(needed)


def _unknown(registry: Registry, name: str) -> str:
    names = [record.name for record in registry.components()]
    names += [plugin.name for plugin in registry.plugins]
    names += [plugin.distribution for plugin in registry.plugins]
    match = closest(name, names)
    hint = f" Did you mean {match!r}?" if match else ""
    return f"No component or plugin named {name!r}.{hint} Run 'partfit components' to see what is installed."
