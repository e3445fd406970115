"""Random states: within limits, both eyes together, as wide as faces are."""

from __future__ import annotations

import numpy as np
import pytest

import partfit
from partfit.models.base import ParametricModel
from partfit_synthetic.states import EXPRESSIONS, State, StateConfig, random_state


@pytest.fixture(scope="module")
def head() -> ParametricModel:
    return partfit.create("model", "anny-head")


@pytest.fixture(scope="module")
def states(head: ParametricModel) -> list[State]:
    rng = np.random.default_rng(0)
    return [random_state(head, StateConfig(), rng) for _ in range(600)]


def actions(head: ParametricModel, states: list[State], name: str) -> np.ndarray:
    names = head.group("expression").names
    return np.array([state.parameters["expression"][names.index(name)] for state in states])


def test_states_are_within_the_limits(head: ParametricModel, states: list[State]):
    for group in head.groups:
        values = np.array([state.parameters[group.name] for state in states])
        assert values.shape == (len(states), group.size)
        assert (values >= group.lower).all()
        assert (values <= group.upper).all()
        if group.rigid:
            assert not values.any()


def test_every_kind_of_expression_is_drawn_as_often_as_it_says(states: list[State]):
    total = sum(share for share, _ in EXPRESSIONS.values())
    for kind, (share, _) in EXPRESSIONS.items():
        p = share / total
        found = np.mean([state.expression == kind for state in states])
        assert abs(found - p) < 4 * np.sqrt(p * (1 - p) / len(states))


def test_expressions_are_wide_and_nearly_symmetric(head: ParametricModel, states: list[State]):
    left, right = (actions(head, states, f"mouthSmile{side}") for side in ("Left", "Right"))
    assert (left > 0.7).mean() > 0.2
    assert np.median(np.abs(left - right)[left > 0.3]) < 0.15
    assert (actions(head, states, "jawOpen") > 0.4).mean() > 0.05
    assert (actions(head, states, "eyeBlinkLeft") > 0.8).mean() > 0.04


def test_closed_lips_are_not_pressed_through_one_another(head: ParametricModel, states: list[State]):
    opened, closed = actions(head, states, "jawOpen"), actions(head, states, "mouthClose")
    assert (closed <= opened + 1e-9).all()
    pressed = sum(
        actions(head, states, name)
        for name in (
            "mouthPressLeft",
            "mouthPressRight",
            "mouthRollLower",
            "mouthRollUpper",
            "mouthShrugLower",
        )
    )
    assert (pressed <= 1 + 1e-9).all()
    assert pressed[opened > 1 / 3].max() < 1e-9


def test_both_eyes_look_one_way(states: list[State]):
    left, right = (np.array([s.parameters[f"{e}eye_pose"] for s in states]) for e in "lr")
    np.testing.assert_array_equal(left[:, 0], right[:, 0])
    assert np.abs(left[:, 1] - right[:, 1]).max() < 0.3
    assert left[:, 1].std() > 0.1


def test_another_model_follows_its_prior():
    hand = partfit.create("model", "anny-hand")
    rng = np.random.default_rng(0)
    poses = np.array(
        [random_state(hand, StateConfig(pose=0.0), rng).parameters["hand_pose"] for _ in range(3)]
    )
    np.testing.assert_array_equal(poses[0], poses[1])
    group = hand.group("hand_pose")
    np.testing.assert_allclose(poses[0], np.clip(group.prior_mean, group.lower, group.upper))
    assert random_state(hand, StateConfig(), rng).expression == "prior"
