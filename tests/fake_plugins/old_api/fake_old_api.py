from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    return [ComponentSpec("detector", "fake-old", "fake_old_api:Nothing", "From another age", api_version=0)]
