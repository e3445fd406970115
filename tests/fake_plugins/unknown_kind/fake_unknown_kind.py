from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    return [
        ComponentSpec("hat", "fake-hat", "fake_unknown_kind:Hat", "There are no hats", 1),
        ComponentSpec("detector", "fake-beside", "fake_unknown_kind:Beside", "Without fault", 1),
    ]
