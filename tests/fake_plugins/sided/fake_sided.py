from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    module = "fake_sided_components"
    return [
        ComponentSpec("detector", "flaps", f"{module}:TwoFlaps", "A flap in each half of a picture", 1),
        ComponentSpec("landmarker", "flaps", f"{module}:KnownFlaps", "The corners of flaps of known bend", 1),
        ComponentSpec("model", "flap", f"{module}:Flap", "Two plates on a hinge", 1),
        ComponentSpec("embedding", "flap-left/flap6", f"{module}:left_corners", "Corners", 1),
        ComponentSpec("embedding", "flap-right/flap6", f"{module}:right_corners", "Corners", 1),
        ComponentSpec("recipe", "flap", f"{module}:RECIPE", "Flaps", 1),
        ComponentSpec("recipe", "flap/flap", f"{module}:STIFF", "Flaps whose hinge is stuck", 1),
    ]
