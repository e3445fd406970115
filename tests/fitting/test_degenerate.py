"""Degenerate problems: what becomes of their items, of the others in the batch, and of gradients.

The middle one of three items is spoilt. With both fitters, with and without the focal length as a parameter.
"""

import math

import attrs
import pytest
import torch

import partfit
from partfit.fitting import Backward, FitLayer, FitStatus
from partfit.fitting.uncertainty import unobservable_names
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

MODEL = synthetic_model(120)
EMBEDDING = synthetic_embedding(MODEL, 60)
SPOILT, OTHERS = 1, [0, 2]
BACKWARDS = [Backward(), Backward("truncated", steps=2), Backward("unrolled", steps=3, damping=0.1)]


@pytest.fixture(params=["lm", "theseus"])
def fitter(request):
    if request.param == "theseus":
        pytest.importorskip("partfit_theseus", reason="has the fitter")
    return partfit.create("fitter", request.param)


def clean(focal):
    problem, truth = synthetic_problem(MODEL, EMBEDDING, 3, noise_px=0.5)
    if not focal:
        return problem, truth
    first, last = problem.stages
    stages = (first, attrs.evolve(last, focal=True))
    return attrs.evolve(problem, stages=stages, focal_deviation=0.1), truth


def changed(problem, name, where, value):
    tensor = getattr(problem, name).clone()
    tensor[SPOILT, where] = value
    return attrs.evolve(problem, **{name: tensor})


def on_one_spot(problem, truth, spread):
    middle = problem.points[SPOILT].mean(0)
    return changed(problem, "points", slice(None), middle + spread * (problem.points[SPOILT] - middle))


def on_a_line(problem, truth):
    points = problem.points[SPOILT].clone()
    points[:, 1] = points[:, 0]
    return changed(problem, "points", slice(None), points)


def behind(problem, truth):
    start = truth.clone()
    start[SPOILT, -1] = -1.0
    return attrs.evolve(problem, start=start)


def unsure(problem, truth):
    return changed(attrs.evolve(problem, min_confidence=0.5), "confidence", slice(None), 0.0)


#: Those that cannot be fitted, with a word of the reason.
HOPELESS = {
    "no landmark": (lambda p, _: changed(p, "points", slice(None), math.nan), "0 of 60 landmarks"),
    "three landmarks": (lambda p, _: changed(p, "points", slice(3, None), math.nan), "3 of 60 landmarks"),
    "infinite scales": (lambda p, _: changed(p, "scale", slice(None), math.inf), "0 of 60 landmarks"),
    "one point": (lambda p, _: on_one_spot(p, _, 0.0), "The landmarks coincide"),
    "behind the camera": (behind, "behind the"),
    "no confidence": (unsure, "0 of 60 landmarks"),
}
#: Those that can, if poorly.
POOR = {
    "five landmarks": lambda p, _: changed(p, "points", slice(5, None), math.nan),
    "infinite scales but for five": lambda p, _: changed(p, "scale", slice(5, None), math.inf),
    "enormous scales": lambda p, _: changed(p, "scale", slice(None), 1e6),
    "nearly one point": lambda p, truth: on_one_spot(p, truth, 0.03),
    "one line": on_a_line,
    "a NaN": lambda p, _: changed(p, "points", (0, 0), math.nan),
    "a scale that is NaN": lambda p, _: changed(p, "scale", (0, 0), math.nan),
    "points out of any picture": lambda p, _: changed(p, "points", slice(0, 20), 1e7),
}
#: Of the poor ones those that leave directions undetermined which others determine.
UNTOLD = ("five landmarks", "infinite scales but for five", "enormous scales", "nearly one point")


def fitted(fitter, spoil, focal):
    problem, truth = clean(focal)
    # the clean one starts where the spoilt one does, where that has a start of its own
    spoilt = spoil(problem, truth)
    start = None if spoilt.start is None else truth
    return fitter.fit(spoilt), fitter.fit(attrs.evolve(problem, start=start))


def assert_others_untouched(result, untouched):
    for item in OTHERS:
        assert torch.equal(result.x[item], untouched.x[item])
        assert result.cost[item] == untouched.cost[item]
        assert result.status[item] is untouched.status[item]
        assert result.messages[item] == untouched.messages[item]
        if result.focal is not None:
            assert result.focal[item] == untouched.focal[item]
    assert [result.iterations[i] for i in OTHERS] == [untouched.iterations[i] for i in OTHERS]
    torch.testing.assert_close(result.covariance()[OTHERS], untouched.covariance()[OTHERS], rtol=0, atol=0)


@pytest.mark.parametrize("focal", [False, True], ids=["known", "focal"])
@pytest.mark.parametrize("name", HOPELESS)
def test_what_cannot_be_fitted_says_so_and_touches_nothing_else(fitter, name, focal):
    spoil, word = HOPELESS[name]
    result, untouched = fitted(fitter, spoil, focal)
    assert result.status[SPOILT] is FitStatus.FAILED
    assert word in result.messages[SPOILT]
    assert result.cost[SPOILT] == math.inf
    assert torch.isfinite(result.x).all()
    assert result.focal is None or torch.isfinite(result.focal).all()
    assert result.covariance()[SPOILT].isnan().all()
    assert unobservable_names(result)[SPOILT] == []
    assert_others_untouched(result, untouched)


@pytest.mark.parametrize("focal", [False, True], ids=["known", "focal"])
@pytest.mark.parametrize("name", POOR)
def test_what_is_hardly_determined_ends_and_names_what_is_not(fitter, name, focal):
    result, untouched = fitted(fitter, POOR[name], focal)
    assert result.status[SPOILT] is not FitStatus.FAILED
    assert torch.isfinite(result.x).all()
    assert torch.isfinite(result.cost).all()
    assert result.focal is None or torch.isfinite(result.focal).all()
    flagged, usual = unobservable_names(result)[SPOILT], unobservable_names(untouched)[SPOILT]
    if name in UNTOLD:
        assert len(flagged) > len(usual) + 5
        assert any("betas[" in words for words in flagged)
    assert_others_untouched(result, untouched)


@pytest.mark.parametrize("backward", BACKWARDS, ids=lambda b: b.mode)
@pytest.mark.parametrize(
    "name",
    [
        "behind the camera",
        "five landmarks",
        "enormous scales",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("no landmark", "infinite scales but for five", "nearly one point", "one line")
        ),
    ],
)
def test_gradients_of_the_others_are_untouched(fitter, backward, name):
    problem, truth = clean(focal=True)
    problem = attrs.evolve(problem, start=truth)
    spoilt = HOPELESS[name][0](problem, truth) if name in HOPELESS else POOR[name](problem, truth)
    gradients = []
    for one in (spoilt, problem):
        points = one.points.clone().requires_grad_()
        result = fitter.fit_with_gradients(attrs.evolve(one, points=points), backward)
        assert torch.isfinite(result.x).all()
        result.x.sum().backward()
        gradients.append(points.grad)
    for item in OTHERS:
        torch.testing.assert_close(gradients[0][item], gradients[1][item], rtol=1e-6, atol=1e-9)
    if name in HOPELESS:
        assert not gradients[0][SPOILT].any()
    else:
        assert torch.isfinite(gradients[0][SPOILT]).all()


def test_through_the_layer(fitter):
    """The same by the module, with one item of each kind."""
    problem, _ = clean(False)
    layer = FitLayer(MODEL, EMBEDDING, problem.stages, fitter)
    points = problem.points.clone()
    points[0] = math.nan
    points[1, 5:] = math.nan
    points.requires_grad_()
    result = layer(points, problem.scale, problem.camera)
    assert result.status[0] is FitStatus.FAILED
    result.vertices().square().sum().backward()
    assert torch.isfinite(points.grad).all()
    assert not points.grad[0].any()
    assert points.grad[1, :5].all()
    assert points.grad[2].all()
