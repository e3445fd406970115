from partfit.plugins import ComponentSpec, hookimpl


def _detector(name: str, attribute: str) -> ComponentSpec:
    return ComponentSpec("detector", name, f"fake_wrong_base_components:{attribute}", "Of no use", 1)


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    return [
        _detector("fake-stranger", "Stranger"),
        _detector("fake-unfinished", "Unfinished"),
        _detector("fake-number", "NUMBER"),
        _detector("fake-absent", "Absent"),
        _detector("fake-unmakeable", "fail"),
        ComponentSpec("embedding", "fake/class", "partfit.landmarks:LandmarkEmbedding", "A class of data", 1),
    ]
