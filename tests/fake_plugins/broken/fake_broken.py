import a_module_that_is_not_installed  # noqa: F401

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    return [ComponentSpec("detector", "fake-broken", "fake_broken:Nothing", "Never seen", 1)]
