from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    module = "fake_toy_components"
    return [
        ComponentSpec("model", "toy", f"{module}:Toy", "A small skinned model", 1),
        ComponentSpec("dataset", "toys", f"{module}:Toys", "It as coloured blobs, with its parameters", 1),
        ComponentSpec("embedding", "synthetic-300-0/synthetic30", f"{module}:embedding", "30 vertices", 1),
        ComponentSpec("recipe", "toy", f"{module}:recipe", "How it is fitted", 1),
    ]
