from partfit.landmarks import Detector


class Stranger:
    pass


class Unfinished(Detector):
    pass


NUMBER = 3


def fail() -> Detector:
    raise RuntimeError("out of paper")
