"""The baked hand, its mirror image, and the landmarks in it."""

import attrs
import numpy as np
import pytest
import trimesh

from partfit.geometry.topology import boundary_edges
from partfit_anny.embeddings import hand21_left, hand21_right
from partfit_anny.hand_assets import REGIONS, hand_arrays

FLIP = np.array([-1.0, 1.0, 1.0])
FINGERS = ("thumb", "index", "middle", "ring", "little")


@pytest.fixture(scope="module")
def hand():
    return hand_arrays("right")


def joint(hand, name):
    return hand.joints[hand.joint_names.index(name)]


def landmark(hand, name):
    return hand.landmarks[hand.landmark_names.index(name)]


def test_shapes_agree(hand):
    V, F, J, K = 1609, 3196, 18, 20
    assert hand.v_template.shape == (V, 3)
    assert hand.faces.shape == hand.uv_faces.shape == (F, 3)
    assert hand.shapedirs.shape == (V, 3, K)
    assert hand.joints.shape == (J, 3)
    assert hand.joint_shapedirs.shape == (J, 3, K)
    assert len(hand.joint_names) == len(hand.parents) == J
    assert hand.lbs_weights.shape == (V, J)
    assert hand.landmarks.shape == hand.landmark_offsets.shape == (21, 3)
    assert hand.landmark_shapedirs.shape == (21, 3, K)
    assert hand.tip_names == FINGERS
    assert hand.tips.shape == hand.pads.shape == (5, 3)
    assert len(np.unique(hand.base_index)) == V
    assert np.array_equal(np.unique(hand.faces), np.arange(V))
    assert np.array_equal(np.unique(hand.uv_faces), np.arange(len(hand.uv)))
    assert 0 <= hand.uv.min() <= hand.uv.max() <= 1


def test_arrays_are_finite_and_read_only(hand):
    for side in ("right", "left"):
        arrays = hand_arrays(side)
        for field in attrs.fields(type(arrays)):
            array = getattr(arrays, field.name)
            if isinstance(array, np.ndarray):
                assert np.isfinite(array).all(), field.name
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 0


def test_weights_are_a_partition(hand):
    assert hand.lbs_weights.min() >= 0
    assert (hand.lbs_weights > 0).sum(axis=1).max() <= 4, "more joints than programs that show rigs support"
    np.testing.assert_allclose(hand.lbs_weights.sum(axis=1), 1.0, atol=1e-6)
    assert (hand.lbs_weights.max(axis=0) > 0.5).all(), "a joint that carries nothing"


def test_the_mesh_is_open_at_the_wrist_only(hand):
    mesh = trimesh.Trimesh(hand.v_template, hand.faces, process=False)
    rim = boundary_edges(hand.faces)
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 1, "a disk: one piece with one opening"
    assert len(rim) == len(np.unique(rim)) == 20
    assert np.abs(hand.v_template[rim.ravel(), 1]).max() < 0.01
    assert (hand.lbs_weights[np.unique(rim), 0] > 0.9).all()


@pytest.mark.parametrize("side", ["right", "left"])
def test_faces_point_outwards(side):
    hand = hand_arrays(side)
    mesh = trimesh.Trimesh(hand.v_template, hand.faces, process=False)
    trimesh.repair.fill_holes(mesh)
    assert 2.5e-4 < mesh.volume < 5e-4
    assert mesh.vertex_normals[hand.regions["palm"], 2].mean() > 0.5
    assert mesh.vertex_normals[hand.regions["back"], 2].mean() < -0.5


def test_frame(hand):
    np.testing.assert_allclose(joint(hand, "wrist"), 0.0, atol=1e-7)
    middle = joint(hand, "middle_mcp")
    assert middle[1] > 0.09
    np.testing.assert_allclose(middle[[0, 2]], 0.0, atol=1e-6)
    assert joint(hand, "index_mcp")[2] == pytest.approx(joint(hand, "little_mcp")[2], abs=1e-6)
    x = [landmark(hand, f"{finger}_mcp")[0] for finger in FINGERS]
    assert (np.diff(x) < -0.01).all(), "thumb at +x, little finger at -x"
    assert (hand.pads[1:, 2] > 0.7).all(), "the pads of the fingers look where the palm looks"
    assert hand.pads[0, 0] < -0.7, "the thumb's pad looks to the fingers"


def test_every_identity_keeps_the_frame(hand):
    def moved(name):
        return hand.joint_shapedirs[hand.joint_names.index(name)]

    np.testing.assert_allclose(moved("wrist"), 0.0, atol=1e-6)
    np.testing.assert_allclose(moved("middle_mcp")[[0, 2]], 0.0, atol=1e-6)
    np.testing.assert_allclose(moved("index_mcp")[2], moved("little_mcp")[2], atol=1e-6)


def test_identities_come_by_falling_variance(hand):
    variance = (hand.shapedirs**2).sum(axis=(0, 1))
    assert (np.diff(variance) < 1e-3 * variance[0]).all()
    assert variance[0] > 0.5 * variance.sum(), "size"


def test_the_mean_hand_has_adult_measures(hand):
    middle = [joint(hand, f"middle_{name}") for name in ("mcp", "pip", "dip")] + [hand.tips[2]]
    finger = np.linalg.norm(np.diff(middle, axis=0), axis=1).sum()
    # published means of adults, see the README; the wrist's crease is 18 mm from the joint
    assert finger + joint(hand, "middle_mcp")[1] - 0.018 == pytest.approx(0.187, abs=0.004)
    for names, published in {
        ("thumb_mcp", "thumb_ip"): 31.6,
        ("index_pip", "index_dip"): 22.4,
        ("middle_mcp", "middle_pip"): 44.6,
        ("ring_mcp", "ring_pip"): 41.4,
        ("little_mcp", "little_pip"): 32.7,
    }.items():
        length = 1e3 * np.linalg.norm(joint(hand, names[0]) - joint(hand, names[1]))
        assert length == pytest.approx(published, rel=0.1), names


def test_joints_lie_inside(hand):
    nearest = np.linalg.norm(hand.v_template[:, None] - hand.joints, axis=-1).argmin(axis=0)
    mesh = trimesh.Trimesh(hand.v_template, hand.faces, process=False)
    outward = np.einsum("jd,jd->j", hand.joints - hand.v_template[nearest], mesh.vertex_normals[nearest])
    assert (outward[1:] < -3e-3).all(), "at least 3 mm below the skin"


def test_parents_lead_to_the_wrist(hand):
    parent = {
        name: hand.joint_names[p] for name, p in zip(hand.joint_names[1:], hand.parents[1:], strict=True)
    }
    assert hand.parents[0] == -1
    assert parent["thumb_mcp"] == "thumb_cmc"
    assert parent["index_dip"] == "index_pip"
    assert parent["index_mcp"] == parent["middle_mcp"] == parent["little_cmc"] == "wrist"
    assert parent["little_mcp"] == "little_cmc"


def test_regions_fit_together(hand):
    regions = {name: set(vertices.tolist()) for name, vertices in hand.regions.items()}
    assert set(regions) == set(REGIONS)
    parts = [regions[name] for name in ("palm", "back", *FINGERS)]
    assert set.union(*parts) == regions["hand"]
    assert sum(map(len, parts)) == len(regions["hand"])
    for name in FINGERS:
        assert len(regions[name] & regions["nails"]) >= 6, name
        assert len(regions[name] & regions["tips"]) > 50, name


def test_landmarks_ride_on_their_joints(hand):
    for name, index in zip(hand.landmark_names, hand.landmark_joints, strict=True):
        finger = name.removesuffix("_tip")
        own = {"thumb": "thumb_ip"}.get(finger, f"{finger}_dip") if name.endswith("_tip") else name
        assert hand.joint_names[index] == own
        base = hand.tips[FINGERS.index(finger)] if name.endswith("_tip") else hand.joints[index]
        offset = landmark(hand, name) - base
        np.testing.assert_allclose(offset, hand.landmark_offsets[hand.landmark_names.index(name)], atol=1e-7)
        assert np.linalg.norm(offset) < 0.025


def test_the_left_hand_is_the_mirror_image(hand):
    left = hand_arrays("left")
    for name in ("v_template", "joints", "landmarks", "tips", "pads"):
        np.testing.assert_array_equal(getattr(left, name), getattr(hand, name) * FLIP)
    for name in ("shapedirs", "joint_shapedirs", "landmark_shapedirs"):
        np.testing.assert_array_equal(getattr(left, name), getattr(hand, name) * FLIP[:, None])
    np.testing.assert_array_equal(left.lbs_weights, hand.lbs_weights)
    # corresponding corners keep their place in the texture
    for a, b in zip(left.faces[::97], left.uv_faces[::97], strict=True):
        row = np.flatnonzero((np.sort(hand.faces, axis=1) == np.sort(a)).all(axis=1))[0]
        expected = dict(zip(hand.faces[row].tolist(), hand.uv_faces[row].tolist(), strict=True))
        assert dict(zip(a.tolist(), b.tolist(), strict=True)) == expected


def test_embeddings_have_the_points_of_the_scheme():
    right, left = hand21_right(), hand21_left()
    assert right.scheme.hash == left.scheme.hash
    assert (right.scheme.names[0], right.scheme.names[5], right.scheme.names[20]) == (
        "wrist",
        "index_mcp",
        "little_tip",
    )
    np.testing.assert_array_equal(right.indices, left.indices)
    assert (right.topology, left.topology) == ("anny-hand-right", "anny-hand-left")
