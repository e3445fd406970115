from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    module = "fake_blobs_components"
    return [
        ComponentSpec("dataset", "blobs", "partfit.testing.datasets:BlobDataset", "Coloured blobs", 1),
        ComponentSpec("detector", "brightness", f"{module}:Brightness", "The box of what is bright", 1),
        ComponentSpec("dataset", "sheet", f"{module}:Sheet", "A sheet of 1609 landmarks", 1),
        ComponentSpec("dataset", "visible-sheet", f"{module}:VisibleSheet", "19 landmarks in sight", 1),
        ComponentSpec("dataset", "unreadable", f"{module}:Unreadable", "Raises where a sample is read", 1),
    ]
