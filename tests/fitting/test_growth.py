"""Nothing is left behind by a pass through a FitLayer and back: no tensor, no memory of the process."""

import gc
import os
from pathlib import Path

import pytest
import torch

import partfit
from partfit.fitting import Backward, FitLayer
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

MODEL = synthetic_model(120)
EMBEDDING = synthetic_embedding(MODEL, 60)
BACKWARDS = [Backward(), Backward("truncated", steps=2), Backward("unrolled", steps=3, damping=0.1)]
STATISTICS = Path("/proc/self/statm")
MEGABYTE = 2**20
#: What the process may grow by after the first calls; what 200 calls allocate is many times that.
ALLOWED = 8 * MEGABYTE


def tensors():
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def resident():
    """Bytes of memory that the process occupies."""
    return int(STATISTICS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def passes(name, backward):
    """A function that goes through a layer and back."""
    if name == "theseus":
        pytest.importorskip("partfit_theseus", reason="has the fitter")
    problem, truth = synthetic_problem(MODEL, EMBEDDING, 4, noise_px=0.5)
    layer = FitLayer(MODEL, EMBEDDING, problem.stages, partfit.create("fitter", name), backward)
    points, scale = problem.points.clone().requires_grad_(), problem.scale.clone().requires_grad_()

    def call():
        points.grad = scale.grad = None
        result = layer(points, scale, problem.camera, start=truth)
        result.vertices().square().sum().backward()

    return call


@pytest.mark.parametrize("backward", BACKWARDS, ids=lambda b: b.mode)
def test_no_tensor_is_left_by_theseus(backward):
    call = passes("theseus", backward)
    call()
    before = tensors()
    for _ in range(5):
        call()
    assert tensors() <= before


@pytest.mark.slow
@pytest.mark.skipif(not STATISTICS.exists(), reason="reads the memory of the process from /proc")
@pytest.mark.parametrize("backward", BACKWARDS, ids=lambda b: b.mode)
@pytest.mark.parametrize("fitter", ["lm", "theseus"])
def test_nothing_grows_over_200_calls(fitter, backward):
    call = passes(fitter, backward)
    for _ in range(20):
        call()
    before, occupied = tensors(), resident()
    for _ in range(200):
        call()
    assert tensors() <= before
    assert resident() - occupied < ALLOWED
