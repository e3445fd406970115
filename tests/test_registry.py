from __future__ import annotations

import pkgutil
import sys
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import partfit
from partfit.errors import ComponentError, ConfigError
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.plugins import KINDS, ComponentSpec, hookimpl
from partfit.registry import Registry

if TYPE_CHECKING:
    from conftest import Site


def test_declared_components_are_found_with_their_source(site: Site) -> None:
    site.install("good")
    registry = site.registry()
    (plugin,) = registry.plugins
    assert (plugin.name, plugin.version) == ("partfit-fake-good:good", "1.2.0")
    assert plugin.failures == ()
    found = [(record.kind, record.name) for record in registry.components()]
    assert found == [
        ("detector", "fake-box"),
        ("detector", "fake-needy"),
        ("embedding", "fake-topology/fake-made"),
        ("embedding", "fake-topology/fake-object"),
    ]
    assert [record.name for record in registry.components("detector")] == ["fake-box", "fake-needy"]
    record = registry.get("detector", "fake-box")
    assert record.qualified_name == "partfit-fake-good:fake-box"
    assert record.source == "partfit-fake-good 1.2.0"
    assert record.spec.summary == "The middle of the picture"


def test_class_is_built_from_its_options(site: Site) -> None:
    site.install("good")
    registry = site.registry()
    picture = np.zeros((40, 60, 3), dtype=np.uint8)
    (half,) = registry.create("detector", "fake-box").detect([picture])[0]
    assert half.size == (30.0, 20.0)
    (tenth,) = registry.create("detector", "fake-box", fraction=0.1).detect([picture])[0]
    assert tenth.size == pytest.approx((6.0, 4.0))
    assert registry.resolve("detector", "fake-box").__name__ == "Box"


def test_object_and_function_give_the_object(site: Site) -> None:
    site.install("good")
    registry = site.registry()
    for name in ("fake-topology/fake-made", "fake-topology/fake-object"):
        embedding = registry.create("embedding", name)
        np.testing.assert_array_equal(embedding.indices, [[3], [5]])
    with pytest.raises(ConfigError, match=r"'fake-topology/fake-made' takes no options; found color, size\."):
        registry.create("embedding", "fake-topology/fake-made", size=3, color=1)


def test_wrong_options_name_the_component(site: Site) -> None:
    site.install("good")
    registry = site.registry()
    with pytest.raises(ConfigError, match=r'^fake-box\.fractoin: unknown key\. Did you mean "fraction"\?'):
        registry.create("detector", "fake-box", fractoin=0.5)
    with pytest.raises(ConfigError, match=r"^fake-box\.fraction: expected a number, found 'big' \(str\)"):
        registry.create("detector", "fake-box", fraction="big")
    with pytest.raises(ConfigError, match=r"^fake-needy\.path: missing\. Expected a path"):
        registry.create("detector", "fake-needy")


def test_component_code_is_imported_on_first_use(site: Site) -> None:
    site.install("good")
    registry = site.registry()
    registry.get("detector", "fake-box")
    assert "fake_good_components" not in sys.modules
    registry.resolve("detector", "fake-box")
    assert "fake_good_components" in sys.modules


def test_two_claims_to_a_name_are_an_error_on_use_only(site: Site) -> None:
    site.install("good", "duplicate")
    registry = site.registry()
    with pytest.raises(ComponentError) as raised:
        registry.create("detector", "fake-box")
    assert str(raised.value) == (
        "detector 'fake-box' is claimed by several plugins: partfit-fake-duplicate 0.3.0, "
        "partfit-fake-good 1.2.0. "
        "Say which one: 'partfit-fake-duplicate:fake-box' or 'partfit-fake-good:fake-box'."
    )
    assert registry.resolve("detector", "partfit-fake-good:fake-box").__name__ == "Box"
    assert registry.resolve("detector", "partfit-fake-duplicate:fake-box").__name__ == "WholePicture"
    # distribution names compare as installers compare them
    assert registry.resolve("detector", "Partfit_Fake.Duplicate:fake-box").__name__ == "WholePicture"
    assert registry.create("embedding", "fake-topology/fake-made").topology == "fake-topology"


def test_one_distribution_cannot_claim_a_name_twice(site: Site) -> None:
    site.install("two_entries")
    for name in ("fake-repeated", "partfit-fake-two-entries:fake-repeated"):
        with pytest.raises(
            ComponentError, match="two-entries:one and partfit-fake-two-entries:two: one dist"
        ):
            site.registry().get("detector", name)


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        ("broken", "ModuleNotFoundError: No module named 'a_module_that_is_not_installed'"),
        ("typo", "unknown hook 'partfit_componets'"),
        ("old_api", "written for plugin API version 0, this partfit has version 1"),
        ("unknown_kind", "unknown kind 'hat'; the kinds are dataset, detector, embedding, fitter"),
    ],
)
def test_a_failing_plugin_is_recorded_and_stops_no_other(site: Site, plugin: str, reason: str) -> None:
    site.install(plugin, "good")
    registry = site.registry()
    failed = [record for record in registry.plugins if record.failures]
    assert [record.entry_point for record in failed] == [plugin]
    (failure,) = failed[0].failures
    assert reason in failure.reason
    assert "\n" not in failure.reason
    assert registry.get("detector", "fake-box").plugin.entry_point == "good"


def test_the_traceback_of_a_failing_import_is_kept(site: Site) -> None:
    site.install("broken")
    (failure,) = site.registry().plugins[0].failures
    assert "fake_broken.py" in failure.traceback


def test_a_faulty_declaration_leaves_the_others_of_its_plugin(site: Site) -> None:
    site.install("malformed", "unknown_kind")
    registry = site.registry()
    assert [record.name for record in registry.components()] == ["fake-beside", "fake-sound"]
    faults = {f.component: f.reason for plugin in registry.plugins for f in plugin.failures}
    assert faults == {
        "detector/fake-target": "a target is written 'package.module:attribute'; found 'fake_malformed.Box'",
        "detector/Fake Name": "a name is lower-case letters and digits joined by '-', '_' or '.'; "
        "found 'Fake Name'",
        "detector/fake-twice": "declared more than once by this plugin",
        "hat/fake-hat": f"unknown kind 'hat'; the kinds are {', '.join(sorted(KINDS))}",
    }


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("detector", "fake-stranger", "to be a subclass of, or an instance of partfit.landmarks.Detector"),
        ("detector", "fake-unfinished", "class Unfinished must still define detect"),
        ("detector", "fake-number", "found an object of class int"),
        (
            "detector",
            "fake-absent",
            "cannot be imported from 'fake_wrong_base_components:Absent': AttributeErr",
        ),
        ("detector", "fake-unmakeable", "cannot be built: RuntimeError: out of paper"),
        (
            "embedding",
            "fake/class",
            "to be an instance of partfit.landmarks.LandmarkEmbedding, or a function",
        ),
    ],
)
def test_a_target_that_is_not_of_its_kind_is_refused(site: Site, kind: str, name: str, reason: str) -> None:
    site.install("wrong_base")
    with pytest.raises(ComponentError) as raised:
        site.registry().resolve(kind, name)
    assert str(raised.value).startswith(f"{kind} {name} (partfit-fake-wrong-base 0.1.0)")
    assert reason in str(raised.value)


def test_an_unknown_name_says_what_exists_and_what_failed(site: Site) -> None:
    site.install("good", "broken")
    with pytest.raises(ComponentError) as raised:
        site.registry().get("detector", "fake-bx")
    assert str(raised.value) == (
        "No detector named 'fake-bx'. Did you mean 'fake-box'? "
        "Installed: fake-box (partfit-fake-good 1.2.0), fake-needy (partfit-fake-good 1.2.0). "
        "Failed to load: partfit-fake-broken (ModuleNotFoundError: No module named "
        "'a_module_that_is_not_installed'). Run 'partfit plugins' for details."
    )


def test_an_unknown_distribution_in_a_qualified_name(site: Site) -> None:
    site.install("good")
    with pytest.raises(ComponentError, match="Did you mean 'partfit-fake-good:fake-box'"):
        site.registry().get("detector", "partfit-fake-god:fake-box")


def test_an_unknown_kind_says_which_exist() -> None:
    with pytest.raises(
        ComponentError, match=r"^No kind of component named 'modle'\. Did you mean 'model'\? Kinds:"
    ):
        Registry([]).get("modle", "flame")


def test_without_any_plugin_the_message_says_what_to_install() -> None:
    with pytest.raises(
        ComponentError, match=r'Installed: none\. No plugin .* pip install "partfit\[default\]"'
    ):
        Registry([]).get("model", "anny-head")


def test_only_restricts_what_loads(site: Site) -> None:
    site.install("good", "duplicate", "broken")
    for name in ("good", "partfit-fake-good", "partfit-fake-good:good", "Partfit_Fake_Good"):
        registry = site.registry(name)
        assert [plugin.entry_point for plugin in registry.plugins if not plugin.skipped] == ["good"]
        assert registry.get("detector", "fake-box").plugin.entry_point == "good"
        assert not any(plugin.failures for plugin in registry.plugins)
        with pytest.raises(ComponentError, match="Left out by PARTFIT_PLUGINS: partfit-fake-broken:broken, "):
            registry.get("detector", "other")


def test_only_refuses_an_unknown_plugin(site: Site) -> None:
    site.install("good")
    with pytest.raises(
        ConfigError,
        match=r"^PARTFIT_PLUGINS: no plugin named 'gud'\. Installed: partfit-fake-good:good\.$",
    ):
        site.registry("good", "gud")


def test_the_environment_restricts_the_default_registry(
    site: Site, restrict_plugins: Callable[[str], None]
) -> None:
    site.install("good", "broken")
    restrict_plugins(" good, ")
    registry = partfit.default_registry()
    assert registry is partfit.default_registry()
    loaded = [plugin.name for plugin in registry.plugins if not plugin.skipped]
    assert loaded == ["partfit-fake-good:good", "partfit:core"]
    assert partfit.create("detector", "fake-box", fraction=0.25).config.fraction == 0.25


def test_an_unknown_plugin_in_the_environment_is_an_error(restrict_plugins: Callable[[str], None]) -> None:
    restrict_plugins("no-such-plugin")
    with pytest.raises(ConfigError, match="PARTFIT_PLUGINS: no plugin named 'no-such-plugin'"):
        partfit.default_registry()


def test_every_component_of_the_core_can_be_resolved(restrict_plugins: Callable[[str], None]) -> None:
    restrict_plugins("core")
    registry = partfit.default_registry()
    core = [record for record in registry.components() if record.plugin.distribution == "partfit"]
    assert ("fitter", "lm") in [(record.kind, record.name) for record in core]
    for record in core:
        assert registry.resolve(record.kind, record.qualified_name) is not None


def _spec(**changes: Any) -> ComponentSpec:
    return ComponentSpec(**{"kind": "detector", "name": "x", "target": "a:b", **changes})


def _undecorated() -> list[ComponentSpec]:
    return []


@hookimpl
def _returns_nothing() -> None:
    return None


@hookimpl
def _returns_a_dictionary() -> dict[str, str]:
    return {"kind": "model"}


@hookimpl
def _returns_names() -> list[str]:
    return ["model"]


@hookimpl
def _wants_an_argument(config: object) -> list[ComponentSpec]:
    return []


@hookimpl
def _exits() -> list[ComponentSpec]:
    raise SystemExit("no licence")


@hookimpl
def _passes_a_number() -> list[ComponentSpec]:
    return [_spec(name=3)]


@pytest.mark.parametrize(
    ("implementation", "reason"),
    [
        (_undecorated, "'injected' implements no hook: it needs a function 'partfit_components' decorated"),
        (_returns_nothing, "partfit_components() must return a list of ComponentSpec; found None"),
        (_returns_a_dictionary, "must return a list of ComponentSpec; found {'kind': 'model'}"),
        (_returns_names, "must return a list of ComponentSpec; found ['model']"),
        (_wants_an_argument, "PluginValidationError: "),
        (_exits, "SystemExit: no licence"),
        (_passes_a_number, "TypeError: "),
    ],
)
def test_a_hook_that_misbehaves_is_recorded(
    monkeypatch: pytest.MonkeyPatch, implementation: Callable[[], Any], reason: str
) -> None:
    module = types.ModuleType("injected")
    module.__dict__["partfit_components"] = implementation
    monkeypatch.setitem(sys.modules, "injected", module)
    registry = Registry([EntryPoint("injected", "injected", "partfit.plugins")])
    (plugin,) = registry.plugins
    (failure,) = plugin.failures
    assert reason in failure.reason
    assert registry.components() == []


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """Make a registry of one plugin: a module that declares components and holds objects."""

    def make(*specs: ComponentSpec, **attributes: Any) -> Registry:
        module = types.ModuleType("injected")
        module.__dict__.update(attributes)
        module.__dict__["partfit_components"] = hookimpl(lambda: list(specs))
        monkeypatch.setitem(sys.modules, "injected", module)
        return Registry([EntryPoint("injected", "injected", "partfit.plugins")])

    return make


def _embedding(topology: str = "plane", scheme: str = "corner") -> LandmarkEmbedding:
    return LandmarkEmbedding.of_vertices(LandmarkScheme(scheme, ["p"]), topology, [0])


def test_a_function_is_called_once(injected: Callable[..., Registry]) -> None:
    calls = []

    def build() -> LandmarkEmbedding:
        calls.append("built")
        return _embedding()

    registry = injected(_spec(kind="embedding", name="plane/corner", target="injected:build"), build=build)
    assert calls == []
    embedding = registry.resolve("embedding", "plane/corner")
    assert registry.create("embedding", "plane/corner") is embedding
    assert registry.create("embedding", "unknown:plane/corner") is embedding
    assert calls == ["built"]


def test_a_function_that_failed_is_called_again(injected: Callable[..., Registry]) -> None:
    answers = [OSError("no such file"), _embedding()]

    def build() -> LandmarkEmbedding:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    registry = injected(_spec(kind="embedding", name="plane/corner", target="injected:build"), build=build)
    with pytest.raises(ComponentError, match="cannot be built: OSError: no such file"):
        registry.resolve("embedding", "plane/corner")
    assert registry.resolve("embedding", "plane/corner").topology == "plane"


@pytest.mark.parametrize("name", ["plane/corners", "plain/corner", "corner/plane"])
@pytest.mark.parametrize("use", ["resolve", "create"])
def test_an_embedding_is_what_its_name_says(injected: Callable[..., Registry], name: str, use: str) -> None:
    spec = _spec(kind="embedding", name=name, target="injected:made")
    registry = injected(spec, made=_embedding())
    for _ in range(2):
        with pytest.raises(ComponentError, match=r"is 'plane/corner'\. Declare it by that name\."):
            getattr(registry, use)("embedding", name)


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (
            "detector",
            "plane/corner",
            "a name is lower-case letters and digits joined by '-', '_' or '.'; found",
        ),
        ("embedding", "corner", "an embedding is named 'topology/scheme', each of them lower-case letters"),
        ("embedding", "a/b/c", "an embedding is named 'topology/scheme'"),
        ("embedding", "plane/", "an embedding is named 'topology/scheme'"),
        ("embedding", "plane/Corner", "found 'plane/Corner'"),
    ],
)
def test_a_slash_is_for_embeddings(
    injected: Callable[..., Registry], kind: str, name: str, reason: str
) -> None:
    registry = injected(_spec(kind=kind, name=name))
    (failure,) = registry.plugins[0].failures
    assert reason in failure.reason
    assert registry.components() == []


def test_every_kind_has_an_importable_base_class() -> None:
    for kind, target in KINDS.items():
        assert isinstance(pkgutil.resolve_name(target), type), kind
