"""Finding the installed plugins, and looking up their components by kind and name."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import os
import pkgutil
import re
import traceback
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from partfit import plugins
from partfit.component import API_VERSION, Component
from partfit.errors import ComponentError, ConfigError, PartfitError
from partfit.plugins import ENTRY_POINT_GROUP, KINDS, ComponentSpec
from partfit.text import closest, one_line

if TYPE_CHECKING:
    from partfit.landmarks import LandmarkEmbedding

#: Environment variable: comma-separated plugins to load; all of them where it is unset or empty.
PLUGINS_VARIABLE = "PARTFIT_PLUGINS"

_CORE = "partfit"
_NAME = r"[a-z0-9]+([._-][a-z0-9]+)*"
_NAME_FORMS = {
    "embedding": (f"{_NAME}/{_NAME}", "an embedding is named 'topology/scheme', each of them"),
    "recipe": (f"{_NAME}(/{_NAME})?", "a recipe is named 'part' or 'part/model', each of them"),
}
_IDENTIFIER = r"[A-Za-z_]\w*"
_TARGET = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}(\.{_IDENTIFIER})*")


@attrs.frozen
class Failure:
    """Why a plugin, or one of its components, cannot be used.

    Attributes:
        reason: One line.
        component: `kind/name` of the component at fault, or None if it is the whole plugin.
        traceback: Where an exception was raised; empty where there was none.
    """

    reason: str
    component: str | None = None
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.component}: {self.reason}" if self.component else self.reason


@attrs.frozen
class PluginRecord:
    """One entry point of the group `partfit.plugins`, and what came of loading it.

    Attributes:
        distribution: Normalised name of the distribution, for example `partfit-anny`.
        version: Version of the distribution.
        entry_point: Name of the entry point.
        module: What the entry point names.
        components: The components that it declares without fault.
        failures: What went wrong; empty if nothing did.
        skipped: Whether `PARTFIT_PLUGINS` left it out.
    """

    distribution: str
    version: str
    entry_point: str
    module: str
    components: tuple[ComponentSpec, ...] = ()
    failures: tuple[Failure, ...] = ()
    skipped: bool = False

    @property
    def name(self) -> str:
        """`distribution:entry-point`."""
        return f"{self.distribution}:{self.entry_point}"

    def answers_to(self, name: str) -> bool:
        """Whether `name` is its distribution, its entry point, or both joined by a colon."""
        distribution, colon, entry_point = name.rpartition(":")
        if colon:
            return (_normalised(distribution), entry_point) == (self.distribution, self.entry_point)
        return name == self.entry_point or _normalised(name) == self.distribution


@attrs.frozen
class ComponentRecord:
    """A declared component and the plugin that it comes from.

    Attributes:
        spec: The declaration.
        plugin: The plugin.
    """

    spec: ComponentSpec
    plugin: PluginRecord

    @property
    def kind(self) -> str:
        """The kind of component."""
        return self.spec.kind

    @property
    def name(self) -> str:
        """The name that the plugin gave it; another distribution may claim it too."""
        return self.spec.name

    @property
    def qualified_name(self) -> str:
        """`distribution:name`, which no other distribution can claim."""
        return f"{self.plugin.distribution}:{self.name}"

    @property
    def source(self) -> str:
        """The distribution and its version, for example `partfit-anny 0.1.0`."""
        return f"{self.plugin.distribution} {self.plugin.version}"

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


class Registry:
    """The installed plugins and their components.

    Building one imports each plugin's module and calls its hook. Whatever goes wrong with a plugin is
    kept in its record and stops no other. A component's own code is imported on first use.

    Attributes:
        plugins: One record for each entry point, by name.
    """

    def __init__(self, entry_points: Iterable[EntryPoint] | None = None, *, only: Iterable[str] = ()) -> None:
        """Discover the plugins.

        Args:
            entry_points: Where to look; by default the installed ones of the group `partfit.plugins`.
            only: Plugins to load: entry points, distributions, or `distribution:entry-point`. Empty
                loads all. The core's own components are always loaded.

        Raises:
            ConfigError: if `only` names a plugin that is not installed.
        """
        if entry_points is None:
            entry_points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
        found = sorted(((_record(entry), entry) for entry in entry_points), key=lambda pair: pair[0].name)
        chosen = _chosen([record for record, _ in found], only)
        self.plugins = tuple(
            _loaded(record, entry) if record in chosen else attrs.evolve(record, skipped=True)
            for record, entry in found
        )
        self._made: dict[tuple[str, str], Any] = {}

    def components(self, kind: str | None = None) -> list[ComponentRecord]:
        """The declared components, of one kind or of all, ordered by kind, name and distribution.

        Raises:
            ComponentError: if there is no such kind.
        """
        if kind is not None:
            _check_kind(kind)
        records = [ComponentRecord(spec, plugin) for plugin in self.plugins for spec in plugin.components]
        chosen = [record for record in records if kind in (None, record.kind)]
        return sorted(chosen, key=lambda record: (record.kind, record.name, record.plugin.name))

    def get(self, kind: str, name: str) -> ComponentRecord:
        """The one component of a kind that has a name.

        Args:
            kind: One of `partfit.plugins.KINDS`.
            name: Its name, or `distribution:name` to choose among plugins that claim the same name.

        Raises:
            ComponentError: if there is no such kind or name, or if several plugins claim the name.
        """
        distribution, _, bare_name = name.rpartition(":")
        claims = [record for record in self.components(kind) if record.name == bare_name]
        if distribution:
            claims = [c for c in claims if c.plugin.distribution == _normalised(distribution)]
        if not claims:
            raise ComponentError(self._unknown(kind, name))
        if len(claims) > 1:
            raise ComponentError(_ambiguous(kind, name, claims))
        return claims[0]

    def resolve(self, kind: str, name: str) -> Any:
        """Import a component.

        Args:
            kind: One of `partfit.plugins.KINDS`.
            name: See `get`.

        Returns:
            The component's class, ready to be built from its `Config`; or, for a component that is
            declared as an object or as a function returning one, the object: the same each time.

        Raises:
            ComponentError: as `get`, or if the import fails, or if what it finds is not of the kind, or
                is an embedding of another topology or scheme than its name says.
        """
        record = self.get(kind, name)
        label = f"{kind} {record}"
        base = _imported(KINDS[kind], f"The base class of kind {kind!r}")
        target = _imported(record.spec.target, label)
        if inspect.isclass(target):
            return _checked_class(target, base, label)
        key = kind, record.qualified_name
        if key not in self._made:
            instance = _called(target, label) if inspect.isroutine(target) else target
            _check_instance(instance, base, record)
            if kind == "embedding":
                _check_embedding_name(instance, record)
            self._made[key] = instance
        return self._made[key]

    def create(self, kind: str, name: str, /, **options: Any) -> Any:
        """Build a component.

        Args:
            kind: One of `partfit.plugins.KINDS`.
            name: See `get`.
            **options: The fields of the component's `Config`.

        Raises:
            ComponentError: as `resolve`.
            ConfigError: if an option is unknown, missing, or of the wrong type.
        """
        from partfit.config import from_dict

        target = self.resolve(kind, name)
        if inspect.isclass(target) and issubclass(target, Component):
            return target(from_dict(target.Config, options, path=name))
        if options:
            raise ConfigError(f"{kind} {name!r} takes no options; found {', '.join(sorted(options))}.")
        return target

    def _unknown(self, kind: str, name: str) -> str:
        """The message for a name that no plugin declares."""
        installed = self.components(kind)
        names = [n for record in installed for n in (record.name, record.qualified_name)]
        match = closest(name, names)
        parts = [f"No {kind} named {name!r}."]
        if match:
            parts.append(f"Did you mean {match!r}?")
        parts.append(f"Installed: {', '.join(str(record) for record in installed) or 'none'}.")
        failed = [
            f"{plugin.distribution} ({'; '.join(str(failure) for failure in plugin.failures)})"
            for plugin in self.plugins
            if plugin.failures
        ]
        if failed:
            parts.append(f"Failed to load: {', '.join(failed)}.")
        skipped = [plugin.name for plugin in self.plugins if plugin.skipped]
        if skipped:
            parts.append(f"Left out by {PLUGINS_VARIABLE}: {', '.join(skipped)}.")
        if all(plugin.distribution == _CORE for plugin in self.plugins):
            parts.append('No plugin is installed: pip install "partfit[default]" brings the usual ones.')
        else:
            parts.append("Run 'partfit plugins' for details.")
        return " ".join(parts)


@functools.cache
def default_registry() -> Registry:
    """The registry of the installed plugins, built once in a process.

    The environment variable `PARTFIT_PLUGINS=a,b` restricts what it loads; see `Registry`.

    Raises:
        ConfigError: if the variable names a plugin that is not installed.
    """
    names = os.environ.get(PLUGINS_VARIABLE, "").split(",")
    return Registry(only=[name.strip() for name in names if name.strip()])


def create(kind: str, name: str, /, **options: Any) -> Any:
    """Build an installed component from the fields of its `Config`; see `Registry.create`."""
    return default_registry().create(kind, name, **options)


def _normalised(distribution: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _record(entry: EntryPoint) -> PluginRecord:
    """The record of an entry point that is not loaded yet."""
    if entry.dist is None:
        return PluginRecord("unknown", "unknown", entry.name, entry.value)
    return PluginRecord(_normalised(entry.dist.name), entry.dist.version, entry.name, entry.value)


def _chosen(records: list[PluginRecord], only: Iterable[str]) -> list[PluginRecord]:
    """The records to load."""
    names = list(only)
    for name in names:
        if not any(record.answers_to(name) for record in records):
            installed = ", ".join(record.name for record in records) or "none"
            raise ConfigError(f"{PLUGINS_VARIABLE}: no plugin named {name!r}. Installed: {installed}.")
    if not names:
        return records
    return [r for r in records if r.distribution == _CORE or any(r.answers_to(name) for name in names)]


def _loaded(record: PluginRecord, entry: EntryPoint) -> PluginRecord:
    """The record with the components and the failures of its entry point."""
    try:
        declared = _declarations(record.name, entry)
    except PartfitError as error:
        return attrs.evolve(record, failures=(Failure(str(error)),))
    except (Exception, SystemExit) as error:
        trace = "".join(traceback.format_exception(error))
        return attrs.evolve(record, failures=(Failure(one_line(error), traceback=trace),))
    claims = Counter((spec.kind, spec.name) for spec in declared)
    components, failures = [], []
    for spec in declared:
        fault = _fault(spec, claims)
        if fault is None:
            components.append(spec)
        else:
            failures.append(Failure(fault, component=f"{spec.kind}/{spec.name}"))
    return attrs.evolve(record, components=tuple(components), failures=tuple(failures))


def _declarations(name: str, entry: EntryPoint) -> list[ComponentSpec]:
    """Load an entry point and call its hook.

    Each plugin has a plugin manager of its own, so that one plugin's fault cannot reach another.
    """
    plugin = entry.load()
    manager = pluggy.PluginManager("partfit")
    manager.add_hookspecs(plugins)
    manager.register(plugin, name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ComponentError(f"{error}. The hook is called 'partfit_components'.") from error
    if not manager.hook.partfit_components.get_hookimpls():
        raise ComponentError(
            f"{entry.value!r} implements no hook: it needs a function 'partfit_components' "
            "decorated with partfit.plugins.hookimpl."
        )
    # pluggy leaves out a result of None
    results = manager.hook.partfit_components()
    declared = results[0] if results else None
    if not isinstance(declared, list) or not all(isinstance(spec, ComponentSpec) for spec in declared):
        raise ComponentError(f"partfit_components() must return a list of ComponentSpec; found {declared!r}.")
    return declared


def _fault(spec: ComponentSpec, claims: Counter[tuple[str, str]]) -> str | None:
    """What is wrong with a declaration, or None."""
    if spec.api_version != API_VERSION:
        return (
            f"written for plugin API version {spec.api_version}, this partfit has version {API_VERSION}; "
            "install a matching version of the plugin or of partfit"
        )
    if spec.kind not in KINDS:
        return f"unknown kind {spec.kind!r}; the kinds are {', '.join(sorted(KINDS))}"
    pattern, form = _NAME_FORMS.get(spec.kind, (_NAME, "a name is"))
    if not re.fullmatch(pattern, spec.name):
        return f"{form} lower-case letters and digits joined by '-', '_' or '.'; found {spec.name!r}"
    if not _TARGET.fullmatch(spec.target):
        return f"a target is written 'package.module:attribute'; found {spec.target!r}"
    if claims[spec.kind, spec.name] > 1:
        return "declared more than once by this plugin"
    return None


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        match = closest(kind, KINDS)
        hint = f" Did you mean {match!r}?" if match else ""
        raise ComponentError(f"No kind of component named {kind!r}.{hint} Kinds: {', '.join(sorted(KINDS))}.")


def _ambiguous(kind: str, name: str, claims: list[ComponentRecord]) -> str:
    """The message for a name that several plugins declare."""
    qualified = [record.qualified_name for record in claims]
    if len(set(qualified)) == 1:
        entry_points = " and ".join(record.plugin.name for record in claims)
        return (
            f"{kind} {name!r} is declared by {entry_points}: one distribution cannot claim a name twice. "
            "Its author has to rename one."
        )
    sources = ", ".join(record.source for record in claims)
    choices = " or ".join(repr(choice) for choice in sorted(set(qualified)))
    return f"{kind} {name!r} is claimed by several plugins: {sources}. Say which one: {choices}."


def _imported(target: str, label: str) -> Any:
    """The object that an import string names."""
    try:
        return pkgutil.resolve_name(target)
    except (Exception, SystemExit) as error:
        raise ComponentError(f"{label} cannot be imported from {target!r}: {one_line(error)}.") from error


def _checked_class(target: Any, base: type, label: str) -> Any:
    """A component's class, if it is of the kind and complete."""
    if not (issubclass(target, base) and issubclass(target, Component)):
        raise ComponentError(
            f"{label}: expected {target.__module__}:{target.__qualname__} to be {_wanted(base)}; "
            "found a class that is not."
        )
    missing: frozenset[str] = getattr(target, "__abstractmethods__", frozenset())
    if missing:
        raise ComponentError(
            f"{label}: class {target.__qualname__} must still define {', '.join(sorted(missing))}."
        )
    return target


def _check_instance(instance: Any, base: type, record: ComponentRecord) -> None:
    """Refuse an object that is not of the kind."""
    if not isinstance(instance, base):
        raise ComponentError(
            f"{record.kind} {record}: expected {record.spec.target!r} to be {_wanted(base)}; "
            f"found an object of class {type(instance).__name__}."
        )


def _check_embedding_name(embedding: LandmarkEmbedding, record: ComponentRecord) -> None:
    """Refuse an embedding that its name does not describe."""
    described = f"{embedding.topology}/{embedding.scheme.name}"
    if record.name != described:
        raise ComponentError(
            f"{record.kind} {record}: an embedding is named 'topology/scheme', and {record.spec.target!r} "
            f"is {described!r}. Declare it by that name."
        )


def _called(factory: Any, label: str) -> Any:
    """What a component's factory returns."""
    try:
        return factory()
    except PartfitError:
        raise
    except Exception as error:
        raise ComponentError(f"{label} cannot be built: {one_line(error)}.") from error


def _wanted(base: type) -> str:
    """What a target may be."""
    name = f"{base.__module__}.{base.__qualname__}"
    subclass = "a subclass of, or " if issubclass(base, Component) else ""
    return f"{subclass}an instance of {name}, or a function without arguments that returns one"
