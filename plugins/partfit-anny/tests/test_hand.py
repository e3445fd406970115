"""The hand model: what its named angles do."""

import re
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partfit.config import from_dict
from partfit.errors import ConfigError
from partfit_anny.hand import DIP_PER_PIP, MOTIONS, AnnyHand

FINGERS = ("index", "middle", "ring", "little")
MIRROR = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
MIRROR_ROTVEC = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
N_ANGLES = len(MOTIONS)
#: How the joints of a curling finger share the turn.
SHARES = {"mcp": 1.0, "pip": 1.2, "dip": 0.8}


@pytest.fixture(scope="module")
def models():
    return {side: AnnyHand(AnnyHand.Config(side=side)) for side in ("right", "left")}


@pytest.fixture(scope="module")
def right(models):
    return models["right"]


def state(model, **degrees):
    """Parameters (1, P): some named angles, the others zero."""
    pose = torch.zeros(1, N_ANGLES, dtype=torch.float64)
    for name, value in degrees.items():
        pose[0, model.group("hand_pose").names.index(name)] = np.radians(value)
    return model.pack({"hand_pose": pose}, like=pose)


def landmarks(model, x):
    """The points of hand21 (B, 21, 3), by name."""
    points = model.points(x)[:, model.topology.n_vertices :]
    return {name: points[:, i] for i, name in enumerate(model.topology.virtual_points)}


def tip(model, finger, **degrees):
    return landmarks(model, state(model, **degrees))[f"{finger}_tip"][0]


def joints(model, x):
    """The posed joints (B, 3) by name; order as in the pose basis, the wrist first."""
    names = ["wrist"]
    for motion in MOTIONS:
        if motion.joint not in names:
            names.append(motion.joint)
    return dict(zip(names, model.joints(x).unbind(dim=1), strict=True))


unit = st.floats(0, 1, allow_nan=False)
poses_within_limits = st.lists(unit, min_size=N_ANGLES, max_size=N_ANGLES)


def within_limits(model, fractions):
    group = model.group("hand_pose")
    return torch.as_tensor(group.lower + np.array(fractions) * (group.upper - group.lower))


@settings(max_examples=20, deadline=None)
@given(poses_within_limits, st.integers(0, 1000))
def test_equal_parameters_mirror_the_hand_exactly(models, fractions, seed):
    rng = np.random.default_rng(seed)
    pose = within_limits(models["right"], fractions)[None]
    parameters = {"hand_pose": pose, "betas": torch.as_tensor(rng.normal(size=(1, 10)))}
    orient, transl = torch.as_tensor(rng.normal(size=(2, 1, 3)))
    right = models["right"].pack({**parameters, "global_orient": orient, "transl": transl}, like=pose)
    mirrored = {"global_orient": orient * MIRROR_ROTVEC, "transl": transl * MIRROR}
    left = models["left"].pack({**parameters, **mirrored}, like=pose)
    torch.testing.assert_close(
        models["left"].points(left), models["right"].points(right) * MIRROR, rtol=0, atol=1e-13
    )


@settings(max_examples=20, deadline=None)
@given(poses_within_limits)
def test_bones_keep_their_lengths(right, fractions):
    pose = within_limits(right, fractions)[None]
    posed = joints(right, right.pack({"hand_pose": pose}, like=pose))
    rest = joints(right, state(right))
    for a, b in (("mcp", "pip"), ("pip", "dip")):
        for finger in FINGERS:
            lengths = [
                torch.linalg.norm(own[f"{finger}_{a}"] - own[f"{finger}_{b}"]) for own in (posed, rest)
            ]
            torch.testing.assert_close(*lengths, rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(poses_within_limits)
def test_hinges_turn_about_one_axis(right, fractions):
    group = right.group("hand_pose")
    basis = group.basis.reshape(-1, 3, N_ANGLES)
    hinges = [m for m in MOTIONS if m.joint.endswith(("_pip", "_dip", "_ip"))]
    assert all(motion.action == "flexion" for motion in hinges)
    assert len({motion.joint for motion in hinges}) == len(hinges) == 9
    rotvecs = (group.offset + group.basis @ within_limits(right, fractions).numpy()).reshape(-1, 3)
    for motion in hinges:
        column = group.names.index(motion.name)
        joint = np.abs(basis[:, :, column]).sum(axis=1).argmax()
        assert np.linalg.norm(np.cross(rotvecs[joint], basis[joint, :, column])) < 1e-12


def test_each_angle_is_a_turn_of_its_own_joint_about_a_unit_axis(right):
    basis = right.group("hand_pose").basis.reshape(-1, 3, N_ANGLES)
    lengths = np.linalg.norm(basis, axis=1)
    assert ((lengths > 0).sum(axis=0) == 1).all()
    np.testing.assert_allclose(lengths.max(axis=0), 1.0, atol=1e-12)
    for joint in basis:
        own = joint[:, np.abs(joint).sum(axis=0) > 0]
        np.testing.assert_allclose(own.T @ own, np.eye(own.shape[1]), atol=1e-12)


def test_zero_is_a_flat_hand(right):
    posed = joints(right, state(right))
    for finger in FINGERS:
        mcp, pip, dip = (posed[f"{finger}_{name}"][0] for name in ("mcp", "pip", "dip"))
        first, second = pip - mcp, dip - pip
        cosine = first @ second / first.norm() / second.norm()
        assert cosine > np.cos(np.radians(6)), finger
        assert abs(first[2]) < 0.25 * first.norm(), finger
        assert abs(first[0]) < 0.15 * first.norm(), finger


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("finger", FINGERS)
def test_curling_a_finger_brings_its_tip_to_the_palm(models, side, finger):
    model = models[side]
    path = torch.stack(
        [
            tip(model, finger, **{f"{finger}_{j}_flexion": share * t for j, share in SHARES.items()})
            for t in np.linspace(0, 80, 9)
        ]
    )
    steps = path.diff(dim=0)
    assert (steps[:3, 2] > 0).all(), "at first towards where the palm looks"
    assert (steps[:, 1] < 0).all(), "and ever nearer to the wrist"
    mcp = landmarks(model, state(model))[f"{finger}_mcp"][0]
    assert (path[-1] - mcp).norm() < 0.75 * (path[0] - mcp).norm()


@pytest.mark.parametrize("side", ["right", "left"])
def test_abduction_spreads_the_fingers(models, side):
    model = models[side]
    thumbwards = 1.0 if side == "right" else -1.0
    for finger, sign in {"index": 1, "middle": 1, "ring": -1, "little": -1}.items():
        moved = tip(model, finger, **{f"{finger}_mcp_abduction": 15}) - tip(model, finger)
        assert moved[0] * sign * thumbwards > 0.01, finger
        assert abs(moved[2]) < 0.3 * abs(moved[0]), finger


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_thumb_moves_as_thumbs_do(models, side):
    model = models[side]
    thumbwards = 1.0 if side == "right" else -1.0

    def moved(**degrees):
        return tip(model, "thumb", **degrees) - tip(model, "thumb")

    for joint in ("cmc", "mcp", "ip"):
        assert moved(**{f"thumb_{joint}_flexion": 25})[0] * thumbwards < -0.006, "across the palm"
    assert moved(thumb_cmc_abduction=25)[2] > 0.015, "away from the palm"
    assert moved(thumb_mcp_abduction=10)[2] > 0.004


def test_opposition_turns_the_pad_of_the_thumb_to_the_palm(right):
    topology = right.topology
    nail = np.intersect1d(topology.region("thumb"), topology.region("nails"))
    faces = torch.as_tensor(topology.faces[np.isin(topology.faces, nail).all(axis=1)])

    def nail_towards_viewer(degrees):
        """The z component of the nail's normal: the pad looks the other way."""
        a, b, c = right.vertices(state(right, thumb_cmc_rotation=degrees))[0, faces].unbind(dim=1)
        return torch.linalg.cross(b - a, c - a).sum(dim=0)[2]

    assert nail_towards_viewer(30) > nail_towards_viewer(0) > nail_towards_viewer(-15)


@pytest.mark.parametrize("finger", FINGERS)
def test_limits_forbid_fingers_bent_backwards(right, finger):
    group = right.group("hand_pose")
    lower = dict(zip(group.names, np.degrees(group.lower), strict=True))
    assert lower[f"{finger}_pip_flexion"] >= -10
    assert lower[f"{finger}_dip_flexion"] >= -10
    back = joints(
        right, right.pack({"hand_pose": torch.as_tensor(group.lower.copy())[None]}, like=state(right))
    )
    mcp, pip, dip = (back[f"{finger}_{name}"][0] for name in ("mcp", "pip", "dip"))
    assert (pip - mcp)[1] > 0.8 * (pip - mcp).norm(), "no more than a little behind the hand's plane"
    assert (dip - pip)[1] > 0.7 * (dip - pip).norm()


def test_rotation_about_a_bone_is_small_and_only_where_joints_allow_it():
    turning = {m.joint: m for m in MOTIONS if m.action == "rotation"}
    assert set(turning) == {"thumb_cmc", *(f"{finger}_mcp" for finger in FINGERS)}
    for finger in FINGERS:
        assert max(turning[f"{finger}_mcp"].upper, -turning[f"{finger}_mcp"].lower) <= 10


def test_the_prior_is_a_relaxed_hand_within_the_limits(right):
    group = right.group("hand_pose")
    assert (group.lower < group.prior_mean).all()
    assert (group.prior_mean < group.upper).all()
    relaxed = dict(zip(group.names, np.degrees(group.prior_mean), strict=True))
    for finger in FINGERS:
        assert relaxed[f"{finger}_dip_flexion"] == pytest.approx(
            DIP_PER_PIP * relaxed[f"{finger}_pip_flexion"]
        )
    deviations = np.degrees(np.sqrt(np.diag(np.linalg.inv(group.information))))
    for name, deviation in zip(group.names, deviations, strict=True):
        assert 2 < deviation < 35, name


def test_the_prior_bends_outer_joints_together(right):
    group = right.group("hand_pose")
    covariance = np.linalg.inv(group.information)
    deviation = np.sqrt(np.diag(covariance))

    def correlation(a, b):
        i, j = group.names.index(a), group.names.index(b)
        return covariance[i, j] / deviation[i] / deviation[j]

    for finger in FINGERS:
        assert correlation(f"{finger}_pip_flexion", f"{finger}_dip_flexion") > 0.6
    assert correlation("ring_mcp_flexion", "little_mcp_flexion") > 0.2
    assert (
        correlation("middle_pip_flexion", "ring_pip_flexion")
        > correlation("index_pip_flexion", "middle_pip_flexion")
        > 0.05
    )


@pytest.mark.parametrize("finger", FINGERS)
def test_the_thumb_can_touch_each_finger_tip(right, finger):
    group, names = right.group("hand_pose"), right.group("hand_pose").names
    own = [i for i, name in enumerate(names) if name.startswith(("thumb", finger))]
    lower, upper, mean = (torch.as_tensor(a.copy()) for a in (group.lower, group.upper, group.prior_mean))
    free = torch.zeros(len(own), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(40):
        pose = mean.clone()
        pose[own] = (mean[own] + free).clamp(lower[own], upper[own])
        points = landmarks(right, right.pack({"hand_pose": pose[None]}, like=pose))
        gap = (points["thumb_tip"] - points[f"{finger}_tip"]).norm()
        optimizer.zero_grad()
        gap.backward()
        optimizer.step()
    assert gap < 0.01


def test_a_side_is_left_or_right():
    with pytest.raises(ConfigError, match="side"):
        from_dict(AnnyHand.Config, {"side": "both"})


def test_the_readme_tells_the_limits_and_the_prior():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    row = re.compile(r"^\| `(\S+)` \| (\S+) to (\S+) \| (\S+) ± (\S+) \|$", re.MULTILINE)
    rows = {name: [float(value) for value in values] for name, *values in row.findall(readme)}
    for motion in MOTIONS:
        told = [values for pattern, values in rows.items() if fnmatch(motion.name, pattern)]
        assert told == [[motion.lower, motion.upper, motion.mean, motion.std]], motion.name
