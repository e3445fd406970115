from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    return [
        ComponentSpec("detector", "fake-box", "fake_good_components:Box", "The middle of the picture", 1),
        ComponentSpec("embedding", "fake-made", "fake_good_components:make_embedding", "From a function", 1),
        ComponentSpec("embedding", "fake-object", "fake_good_components:EMBEDDING", "An object", 1),
        ComponentSpec("detector", "fake-needy", "fake_good_components:Needy", "Has a required option", 1),
    ]
