from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    return [ComponentSpec("detector", "fake-box", "fake_duplicate_components:WholePicture", "Another box", 1)]
