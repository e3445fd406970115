from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    module = "fake_good_components"
    return [
        ComponentSpec("detector", "fake-box", f"{module}:Box", "The middle of the picture", 1),
        ComponentSpec(
            "embedding", "fake-topology/fake-made", f"{module}:make_embedding", "From a function", 1
        ),
        ComponentSpec("embedding", "fake-topology/fake-object", f"{module}:EMBEDDING", "An object", 1),
        ComponentSpec("detector", "fake-needy", f"{module}:Needy", "Has a required option", 1),
    ]
