"""What is inside the mouth stays there, by the measure of `tools/check_mouth.py`."""

import importlib.util
from pathlib import Path

import attrs
import numpy as np
import pytest

TOOL = Path(__file__).parents[1] / "tools/check_mouth.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("check_mouth", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def head(tool):
    return tool.Head.load()


@pytest.fixture
def mean(head):
    return np.zeros(head.arrays.shapedirs.shape[-1])


def largest(tool, head, betas, expression):
    return tool.break_areas(head, head.vertices(betas, expression)).max()


def test_no_single_action_shows_what_is_behind_the_skin(tool, head, mean):
    for name in tool.mouth_actions(head):
        # the lips of mouthFunnel cross by 2 mm^2 at their corners
        assert largest(tool, head, mean, head.action(name)) < 3e-6, name


@pytest.mark.parametrize("amount", [0.25, 0.5, 0.75])
def test_the_mouth_opens_without_breaks(tool, head, mean, amount):
    assert largest(tool, head, mean, head.action("jawOpen", amount)) < tool.BREAK


def test_no_neutral_face_shows_what_is_behind_the_skin(tool, head):
    rng = np.random.default_rng(11)
    for _ in range(10):
        assert largest(tool, head, head.random_betas(rng), head.action("none")) < tool.BREAK


def test_teeth_and_tongue_stay_in_whatever_the_expression(tool, head):
    rng = np.random.default_rng(12)
    for _ in range(30):
        vertices = head.vertices(head.random_betas(rng), head.random_expression(rng))
        teeth_and_tongue = tool.break_areas(head, vertices)[:3]
        assert teeth_and_tongue.max() < tool.BREAK


def test_the_measure_sees_teeth_that_come_through_the_lips(tool, head, mean):
    template = head.arrays.v_template.copy()
    template[head.arrays.regions["upper_teeth"], 2] += 0.02
    forward = attrs.evolve(head, arrays=attrs.evolve(head.arrays, v_template=template))
    areas = tool.break_areas(forward, forward.vertices(mean, head.action("none")))
    assert areas[tool.KINDS.index("upper_teeth")] + areas[tool.KINDS.index("lips crossed")] > 1e-4


def test_tongue_out_is_seen(tool, head, mean):
    areas = tool.break_areas(head, head.vertices(mean, head.action("tongueOut")))
    assert areas.max() > 1e-4
