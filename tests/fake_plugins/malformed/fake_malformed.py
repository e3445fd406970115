from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    return [
        ComponentSpec("detector", "fake-target", "fake_malformed.Box", "A target without a colon", 1),
        ComponentSpec("detector", "Fake Name", "fake_malformed:Box", "A name with a space", 1),
        ComponentSpec("detector", "fake-twice", "fake_malformed:Box", "Declared twice", 1),
        ComponentSpec("detector", "fake-twice", "fake_malformed:OtherBox", "Declared twice", 1),
        ComponentSpec("detector", "fake-sound", "fake_malformed:Sound", "Without fault", 1),
    ]
