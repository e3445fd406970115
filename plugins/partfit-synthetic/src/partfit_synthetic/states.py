"""Random states of a model: who it is, what it does, how it is posed and where it looks."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import attrs
import numpy as np
import torch
from jaxtyping import Float

import partfit
from partfit.embedding_finder import EmbeddingFinder
from partfit.errors import NoEmbeddingError
from partfit.landmarks import LandmarkEmbedding
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
        0.30,
        {
            "mouthSmile": (0.4, 0.95),
            "mouthUpperUp": (0.6, 1.0),
            "mouthLowerDown": (0.5, 1.0),
            "jawOpen": (0, 0.1),
            "cheekSquint": (0.2, 1.0),
            "eyeSquint": (0, 0.5),
            "mouthStretch": (0.1, 0.8),
            "mouthDimple": (0, 0.5),
            "mouthShrugUpper": (0, 0.4),
            "noseSneer": (0, 0.15),
        },
    ),
    "laugh": (
        0.12,
        {
            "mouthSmile": (0.6, 1.0),
            "mouthUpperUp": (0.5, 1.0),
            "mouthLowerDown": (0.4, 1.0),
            "jawOpen": (0.1, 0.55),
            "cheekSquint": (0.4, 1.0),
            "eyeSquint": (0.1, 0.8),
            "mouthStretch": (0.3, 1.0),
            "mouthDimple": (0, 0.7),
            "mouthShrugUpper": (0, 0.35),
            "noseSneer": (0, 0.3),
        },
    ),
    "talk": (
        0.12,
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
#: Step, in standard deviations, by which is found how proportions depend on the shape.
_TRIAL = 0.5
#: How often each side-free action comes on top of an expression, and how strongly.
_EXTRA_COUNT, _EXTRA_RANGE = 0.5, (0.1, 0.7)
_CLOSED_EYES, _HALF_CLOSED_EYES, _WINK = 0.07, 0.12, 0.015
#: How much wider than the model's own eyes those that are open are drawn at most.
_OPEN_EYES = 0.5
_RAISED_BROWS, _LOWERED_BROWS = 0.25, 0.2
_TONGUE = 0.02
#: Standard deviations of where the eyes look, radians: up and down, to the sides; how they converge.
_GAZE = (0.10, 0.18)
_CONVERGENCE = 0.03
#: What faces are like on average, seen from the front at rest, and how exactly that is asked for: see
#: `_proportions`. A model's own mean may have larger eyes and a narrower face than most people.
PROPORTIONS: Mapping[str, tuple[float, float]] = {
    "face height": (0.935, 0.02),
    "jaw": (0.80, 0.015),
    "eyes": (0.61, 0.01),
    "eye distance": (0.435, 0.01),
    "brow height": (0.145, 0.007),
    "nose length": (0.345, 0.01),
    "nose width": (0.175, 0.007),
    "chin": (0.465, 0.014),
    "upper lip": (0.095, 0.014),
    "mouth": (0.36, 0.014),
}


@attrs.frozen
class StateConfig:
    """How random states spread.

    Attributes:
        identity: Factor on the standard deviations of the prior of the shape. Its mean is moved towards
            `PROPORTIONS`, for a model on which iBUG's 68 points are known.
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
        if group.name == "betas":
            drawn["betas"] = _within(group, drawn["betas"] + typical_shape(model))
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


_typical: WeakKeyDictionary[ParametricModel, np.ndarray] = WeakKeyDictionary()


def typical_shape(model: ParametricModel) -> Float[np.ndarray, " betas"]:
    """(size,) what brings the mean of `betas` towards `PROPORTIONS`; 0 for models of other parts.

    The smallest such step, in standard deviations of the prior, that a linear model of the proportions
    gives; rounded, so that it is the same in every process.
    """
    if model not in _typical:
        try:
            face = EmbeddingFinder(partfit.default_registry(), ()).find("ibug68", model)
        except NoEmbeddingError:
            _typical[model] = np.zeros(model.group("betas").size)
        else:
            _typical[model] = _step_to_proportions(model, face)
    return _typical[model]


def _step_to_proportions(model: ParametricModel, face: LandmarkEmbedding) -> Float[np.ndarray, " betas"]:
    first = 0
    for group in model.groups:
        if group.name == "betas":
            break
        first += group.size
    size = model.group("betas").size
    mean = np.concatenate([group.prior_mean for group in model.groups])
    states = np.tile(mean, (1 + size, 1))
    states[1 + np.arange(size), first + np.arange(size)] += _TRIAL
    with torch.no_grad():
        points = model.points(torch.as_tensor(states).float()).numpy().astype(float)
    front = np.eye(3) if model.topology.front is None else model.topology.front
    found = np.array([_proportions(face.apply(one) @ front.T) for one in points])
    target, exactness = np.array(list(PROPORTIONS.values())).T
    slopes = (found[1:] - found[0]).T / _TRIAL / exactness[:, None]
    missing = (target - found[0]) / exactness
    # ridge regression: a unit of the prior's deviation costs as much as an error of one `exactness`
    step = slopes.T @ np.linalg.solve(slopes @ slopes.T + np.eye(len(target)), missing)
    return np.round(step, 3)


def _proportions(points: Float[np.ndarray, "68 3"]) -> list[float]:
    """The lengths of `PROPORTIONS`, seen from the front, over the face's width at the ears."""
    x, y = points[:, 0], points[:, 1]
    right, left = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    lengths = [
        y[17:27].mean() - y[8],
        abs(x[12] - x[4]),
        abs(x[45] - x[36]),
        abs(left[0] - right[0]),
        (y[[19, 24]] - y[[37, 44]]).mean(),
        y[27] - y[33],
        abs(x[35] - x[31]),
        y[33] - y[8],
        y[33] - y[51],
        abs(x[54] - x[48]),
    ]
    return [float(length / abs(x[16] - x[0])) for length in lengths]


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
    else:
        _act(group, weights, "eyeWide", rng.uniform(0, _OPEN_EYES), rng)


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
