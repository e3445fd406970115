from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_componets() -> list[ComponentSpec]:
    return [ComponentSpec("detector", "fake-typo", "fake_typo:Nothing", "Never seen", 1)]
