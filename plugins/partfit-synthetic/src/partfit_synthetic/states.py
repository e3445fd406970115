"""Random states of a model: who it is, what it does, how it is posed and where it looks."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
import torch

from partfit.models.base import ParameterGroup, ParametricModel

#: Actions of each kind of expression by ARKit's names, with the range that each is drawn from. Names without
#: a side stand for both sides. First comes how often the kind is drawn.
EXPRESSIONS: Mapping[str, tuple[float, Mapping[str, tuple[float, float]]]] = {
    "neutral": (0.13, {"jawOpen": (0, 0.06), "mouthPress": (0, 0.2), "mouthSmile": (0, 0.15)}),
    "smile": (
        0.11,
        {
            "mouthSmile": (0.3, 0.9),
            "cheekSquint": (0.1, 0.8),
            "eyeSquint": (0, 0.5),
            "mouthDimple": (0, 0.5),
            "mouthPress": (0, 0.3),
            "mouthStretch": (0, 0.2),
        },
    ),
    "broad smile": (
        0.27,
        {
            "mouthSmile": (0.6, 1.0),
            "mouthUpperUp": (0.4, 1.0),
            "mouthLowerDown": (0.25, 1.0),
            "jawOpen": (0, 0.24),
            "cheekSquint": (0.3, 1.0),
            "eyeSquint": (0.1, 0.9),
            "mouthStretch": (0, 0.7),
            "mouthDimple": (0, 0.9),
            "mouthShrugUpper": (0, 0.35),
            "noseSneer": (0, 0.25),
        },
    ),
    "laugh": (
        0.14,
        {
            "mouthSmile": (0.7, 1.0),
            "mouthUpperUp": (0.5, 1.0),
            "mouthLowerDown": (0.4, 1.0),
            "jawOpen": (0.15, 0.65),
            "cheekSquint": (0.4, 1.0),
            "eyeSquint": (0.3, 1.0),
            "mouthStretch": (0.1, 0.9),
            "mouthDimple": (0.1, 0.9),
            "mouthShrugUpper": (0, 0.35),
            "noseSneer": (0, 0.5),
        },
    ),
    "talk": (
        0.13,
        {
            "jawOpen": (0.03, 0.4),
            "mouthFunnel": (0, 0.5),
            "mouthPucker": (0, 0.35),
            "mouthUpperUp": (0, 0.45),
            "mouthLowerDown": (0, 0.6),
            "mouthStretch": (0, 0.4),
            "mouthSmile": (0, 0.35),
            "mouthShrugUpper": (0, 0.2),
        },
    ),
    "surprise": (
        0.05,
        {
            "jawOpen": (0.15, 0.7),
            "browInnerUp": (0.4, 1.0),
            "browOuterUp": (0.4, 1.0),
            "eyeWide": (0.3, 1.0),
            "mouthFunnel": (0, 0.4),
        },
    ),
    "anger": (
        0.05,
        {
            "browDown": (0.4, 1.0),
            "noseSneer": (0.1, 0.9),
            "mouthFrown": (0.1, 0.8),
            "mouthPress": (0, 0.6),
            "eyeSquint": (0, 0.6),
            "mouthShrugLower": (0, 0.4),
        },
    ),
    "grimace": (
        0.04,
        {
            "mouthUpperUp": (0.3, 1.0),
            "mouthLowerDown": (0.4, 1.0),
            "mouthStretch": (0.2, 0.9),
            "noseSneer": (0.2, 1.0),
            "browDown": (0, 1.0),
            "eyeSquint": (0.2, 1.0),
            "mouthSmile": (0, 0.4),
        },
    ),
    "sadness": (
        0.03,
        {
            "mouthFrown": (0.3, 1.0),
            "browInnerUp": (0.2, 0.9),
            "mouthShrugLower": (0, 0.6),
            "eyeSquint": (0, 0.4),
        },
    ),
    "shout": (
        0.03,
        {
            "jawOpen": (0.5, 1.0),
            "mouthUpperUp": (0, 0.7),
            "mouthLowerDown": (0.2, 0.9),
            "mouthFunnel": (0, 0.4),
            "eyeSquint": (0, 0.9),
        },
    ),
    "pout": (
        0.03,
        {"mouthPucker": (0.3, 1.0), "mouthFunnel": (0, 0.4), "mouthShrugLower": (0, 0.4)},
    ),
    "anything": (0.02, {}),
}
#: Actions that press closed lips on one another: together at most this.
_CLOSERS = ("mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower")
_CLOSING_LIMIT = 1.0
_ASYMMETRY = 0.1
#: How often each side-free action comes on top of an expression, and how strongly.
_EXTRA_COUNT, _EXTRA_RANGE = 0.5, (0.1, 0.7)
_CLOSED_EYES, _HALF_CLOSED_EYES, _WINK = 0.08, 0.2, 0.015
_RAISED_BROWS, _LOWERED_BROWS = 0.25, 0.2
_TONGUE = 0.02
#: Standard deviations of where the eyes look, radians: up and down, to the sides; how they converge.
_GAZE = (0.10, 0.18)
_CONVERGENCE = 0.03


@attrs.frozen
class StateConfig:
    """How random states spread.

    Attributes:
        identity: Factor on the standard deviations of the prior of the shape.
        pose: Factor on those of joints.
        expressions: Whether kinds of expression are drawn where the model has ARKit's actions; else its
            prior is.
    """

    identity: float = attrs.field(default=1.2, validator=attrs.validators.ge(0))
    pose: float = attrs.field(default=0.7, validator=attrs.validators.ge(0))
    expressions: bool = True


@attrs.frozen(eq=False)
class State:
    """A state of the model.

    Attributes:
        parameters: Each group's coordinates (size,); the rigid groups are zero.
        expression: The kind that was drawn, or `prior`.
    """

    parameters: Mapping[str, np.ndarray]
    expression: str

    def vector(self, model: ParametricModel) -> torch.Tensor:
        """(1, P), float32."""
        return torch.as_tensor(np.concatenate([self.parameters[g.name] for g in model.groups])).float()[None]


def random_state(model: ParametricModel, config: StateConfig, rng: np.random.Generator) -> State:
    """A state, within the limits of the model."""
    drawn = {}
    for group in model.groups:
        spread = 0.0 if group.rigid else config.identity if group.name == "betas" else config.pose
        drawn[group.name] = group.sample(rng, 1, spread)[0]
    kind = "prior"
    expression = next((g for g in model.groups if g.name == "expression" and "jawOpen" in g.names), None)
    if config.expressions and expression is not None:
        kind, drawn["expression"] = _expression(expression, rng)
        if "jaw_pose" in drawn:
            # the jaw opens by its action; what is left to the joint is a little play
            drawn["jaw_pose"] = _within(model.group("jaw_pose"), 0.2 * drawn["jaw_pose"])
    if {"leye_pose", "reye_pose"} <= drawn.keys():
        _look(model, drawn, expression, rng)
    return State(drawn, kind)


def _expression(group: ParameterGroup, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    names = list(EXPRESSIONS)
    shares = np.array([EXPRESSIONS[name][0] for name in names])
    kind = names[rng.choice(len(names), p=shares / shares.sum())]
    if kind == "anything":
        weights = group.sample(rng, 1, 1.0)[0]
    else:
        weights = np.zeros(group.size)
        for action, (low, high) in EXPRESSIONS[kind][1].items():
            _act(group, weights, action, rng.uniform(low, high), rng)
    _add_extras(group, weights, rng)
    _add_brows_and_lids(group, weights, rng)
    return kind, _possible(group, weights)


def _act(
    group: ParameterGroup, weights: np.ndarray, action: str, strength: float, rng: np.random.Generator
) -> None:
    """Let an action be at least this strong; one of two sides a little more on one of them."""
    for name in (action, f"{action}Left", f"{action}Right"):
        if name in group.names:
            side = 1.0 if name == action else 1 + _ASYMMETRY * rng.normal()
            i = group.names.index(name)
            weights[i] = max(weights[i], strength * side)


def _add_extras(group: ParameterGroup, weights: np.ndarray, rng: np.random.Generator) -> None:
    """A few single actions of any kind but those that have a part of their own."""
    free = [n for n in group.names if not n.startswith(("eyeLook", "eyeBlink", "tongue", "mouthClose"))]
    for name in rng.choice(free, rng.poisson(_EXTRA_COUNT), replace=False):
        weights[group.names.index(name)] += rng.uniform(*_EXTRA_RANGE) * 0.7
    if rng.random() < _TONGUE and "tongueOut" in group.names:
        _act(group, weights, "tongueOut", rng.uniform(0.3, 1), rng)
        _act(group, weights, "jawOpen", rng.uniform(0.2, 0.5), rng)


def _add_brows_and_lids(group: ParameterGroup, weights: np.ndarray, rng: np.random.Generator) -> None:
    chance = rng.random()
    if chance < _RAISED_BROWS:
        strength = rng.uniform(0.1, 0.9)
        _act(group, weights, "browOuterUp", strength, rng)
        _act(group, weights, "browInnerUp", strength * rng.uniform(0.5, 1), rng)
    elif chance < _RAISED_BROWS + _LOWERED_BROWS:
        _act(group, weights, "browDown", rng.uniform(0.1, 0.9), rng)
    chance = rng.random()
    if chance < _CLOSED_EYES:
        _act(group, weights, "eyeBlink", rng.uniform(0.85, 1), rng)
    elif chance < _CLOSED_EYES + _HALF_CLOSED_EYES:
        _act(group, weights, "eyeBlink", rng.uniform(0.1, 0.6), rng)
    elif chance < _CLOSED_EYES + _HALF_CLOSED_EYES + _WINK:
        side = rng.choice(["Left", "Right"])
        _act(group, weights, f"eyeBlink{side}", 1.0, rng)
        _act(group, weights, f"cheekSquint{side}", rng.uniform(0.3, 1), rng)


def _possible(group: ParameterGroup, weights: np.ndarray) -> np.ndarray:
    """Within the limits, and without what would push lids or lips through one another."""
    weights = _within(group, weights)
    at = {name: i for i, name in enumerate(group.names)}
    for side in ("Left", "Right"):
        blink, squint, wide = (at.get(f"eye{what}{side}") for what in ("Blink", "Squint", "Wide"))
        if blink is not None and squint is not None and wide is not None:
            weights[squint] = min(weights[squint], 1 - weights[blink])
            weights[wide] *= 1 - weights[blink]
    if "mouthClose" in at:
        weights[at["mouthClose"]] = min(weights[at["mouthClose"]], weights[at["jawOpen"]])
    closers = [at[name] for name in _CLOSERS if name in at]
    opened = weights[at["jawOpen"]]
    allowed = _CLOSING_LIMIT * max(0.0, 1 - 3 * opened)
    total = weights[closers].sum()
    if total > allowed:
        weights[closers] *= allowed / total
    return weights


def _within(group: ParameterGroup, values: np.ndarray) -> np.ndarray:
    return np.clip(values, group.lower, group.upper)


def _look(
    model: ParametricModel,
    drawn: dict[str, np.ndarray],
    expression: ParameterGroup | None,
    rng: np.random.Generator,
) -> None:
    """Both eyes look one way, and the lids follow."""
    pitch, yaw = rng.normal(size=2) * _GAZE
    for name, sign in (("leye_pose", -1.0), ("reye_pose", 1.0)):
        turn = np.array([pitch, yaw + sign * abs(rng.normal()) * _CONVERGENCE, 0.0])
        drawn[name] = _within(model.group(name), turn)
    if expression is None:
        return
    weights = drawn["expression"]
    for side in ("Left", "Right"):
        for action, strength in (("eyeLookDown", pitch), ("eyeLookUp", -pitch)):
            if f"{action}{side}" in expression.names:
                weights[expression.names.index(f"{action}{side}")] = np.clip(strength / 0.35, 0, 1)
