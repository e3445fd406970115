from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    return [
        ComponentSpec("detector", "fake-repeated", "fake_two_entries:Repeated", "Declared by two entries", 1)
    ]
