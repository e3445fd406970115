"""The baked head and the landmark embeddings on it."""

import numpy as np
import pytest
import trimesh

from partfit.errors import InputError
from partfit.landmarks import LandmarkScheme
from partfit_anny.head_assets import TOPOLOGY, dense_face, embed, head_arrays

FLIP = np.array([-1.0, 1.0, 1.0])
JOINT_MIRROR = [0, 1, 2, 4, 3]
# mediapipe468 points whose place is known from their names in MediaPipe's own drawings
NOSE_TIP, FOREHEAD, CHIN, LIP_TOP, LIP_BOTTOM, LEFT_OUTER, RIGHT_OUTER = 1, 10, 152, 0, 17, 263, 33


def scheme(name: str, count: int) -> LandmarkScheme:
    return LandmarkScheme(name, tuple(str(index) for index in range(count)))


def rigid_motion(before, after):
    """The rotation and shift that take points nearest to others (Kabsch 1976)."""
    u, _, vt = np.linalg.svd((before - before.mean(axis=0)).T @ (after - after.mean(axis=0)))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    return lambda points: (points - before.mean(axis=0)) @ rotation + after.mean(axis=0)


@pytest.fixture(scope="module")
def head():
    return head_arrays()


@pytest.fixture(scope="module")
def mediapipe(head):
    return embed(scheme("mediapipe468", 468))


@pytest.fixture(scope="module")
def ibug(head):
    return embed(scheme("ibug68", 68))


def mirrored_rows(embedding, mirror):
    """Each row as a set of (vertex, weight) of the mirrored landmark."""
    return [
        {(int(mirror[i]), round(float(w), 12)) for i, w in zip(indices, weights, strict=True) if w}
        for indices, weights in zip(embedding.indices, embedding.weights, strict=True)
    ]


def rows(embedding):
    return mirrored_rows(embedding, np.arange(10_000))


def test_shapes_agree(head):
    V, F, K = 4706, 9276, 120
    assert head.v_template.shape == (V, 3)
    assert head.faces.shape == head.uv_faces.shape == (F, 3)
    assert head.shapedirs.shape == (V, 3, K)
    assert head.shape_symmetry.shape == (K,)
    assert head.exprdirs.shape == (V, 3, 52)
    assert len(set(head.expression_names)) == len(head.expression_std) == 52
    assert head.joints.shape == (5, 3)
    assert head.joint_shapedirs.shape == (5, 3, K)
    assert head.lbs_weights.shape == (V, 5)
    assert head.joint_names == ("neck", "head", "jaw", "left_eye", "right_eye")
    assert head.parents == (-1, 0, 1, 1, 1)
    assert np.array_equal(np.unique(head.faces), np.arange(V))
    assert np.array_equal(np.unique(head.uv_faces), np.arange(len(head.uv)))
    assert 0 <= head.uv.min() <= head.uv.max() <= 1


def test_arrays_are_finite_and_read_only(head):
    for name in ("v_template", "shapedirs", "exprdirs", "joints", "joint_shapedirs", "lbs_weights"):
        array = getattr(head, name)
        assert np.isfinite(array).all(), name
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_weights_are_a_partition(head):
    assert head.lbs_weights.min() >= 0
    np.testing.assert_allclose(head.lbs_weights.sum(axis=1), 1.0, atol=1e-6)


def test_everything_is_mirror_symmetric(head):
    mirror = head.mirror
    assert np.array_equal(mirror[mirror], np.arange(len(mirror)))
    np.testing.assert_allclose(head.v_template[mirror] * FLIP, head.v_template, atol=1e-9)
    np.testing.assert_allclose(head.joints[JOINT_MIRROR] * FLIP, head.joints, atol=1e-7)
    np.testing.assert_allclose(head.lbs_weights[mirror][:, JOINT_MIRROR], head.lbs_weights, atol=1e-7)
    flipped = head.shapedirs[mirror] * FLIP[:, None] * head.shape_symmetry
    np.testing.assert_allclose(flipped, head.shapedirs, atol=2e-6)
    triangles = {tuple(sorted(face)) for face in head.faces.tolist()}
    assert {tuple(sorted(face)) for face in mirror[head.faces].tolist()} == triangles


def test_most_identity_is_symmetric(head):
    # the teeth follow the components and do not shape them
    teeth = [*head.regions["upper_teeth"], *head.regions["lower_teeth"]]
    variance = (np.delete(head.shapedirs, teeth, axis=0) ** 2).sum(axis=(0, 1))
    assert variance[head.shape_symmetry == 1].sum() > 0.95 * variance.sum()
    assert (np.diff(variance) < 1e-5 * variance[0]).all()


@pytest.mark.parametrize("side", ["left_eyeball", "right_eyeball"])
def test_eyeballs_are_closed_spheres_about_their_joint(head, side):
    chosen = head.regions[side]
    triangles = head.faces[np.isin(head.faces, chosen).all(axis=1)]
    eyeball = trimesh.Trimesh(head.v_template, triangles, process=False)
    assert eyeball.is_watertight
    assert eyeball.volume > 0
    joint = head.joint_names.index("left_eye" if side == "left_eyeball" else "right_eye")
    radius = np.linalg.norm(head.v_template[chosen] - head.joints[joint], axis=1)
    assert 0.012 < radius.min() < radius.max() < 0.018
    assert (head.lbs_weights[chosen] == np.eye(5)[joint]).all()


def test_faces_point_outwards(head):
    mesh = trimesh.Trimesh(head.v_template, head.faces, process=False)
    nose = head.regions["face"][head.v_template[head.regions["face"], 2].argmax()]
    assert mesh.vertex_normals[nose, 2] > 0.7


def test_mean_head_has_adult_measures(head):
    at = {int(base): index for index, base in enumerate(head.base_index)}
    menton, sellion, glabella, back, euryon, zygion = (at[i] for i in (732, 132, 237, 5389, 7702, 7037))
    v = head.v_template
    # published means of adults, millimetres, see README
    measures = {
        63.2: np.linalg.norm(head.joints[3] - head.joints[4]),
        149.9: 2 * abs(v[euryon, 0]),
        139.3: 2 * abs(v[zygion, 0]),
        118.0: np.linalg.norm(v[menton] - v[sellion]),
        192.4: np.linalg.norm(v[glabella] - v[back]),
    }
    for published, found in measures.items():
        assert abs(found * 1e3 - published) < 0.02 * published


def test_pupil_distance_varies_as_in_adults(head):
    dirs = head.joint_shapedirs[3, 0] - head.joint_shapedirs[4, 0]
    assert 2.5e-3 < np.linalg.norm(dirs) < 4.5e-3


def test_frame(head):
    np.testing.assert_allclose(head.joints[3:].mean(axis=0), 0.0, atol=1e-7)
    assert head.joints[head.joint_names.index("left_eye"), 0] > 0
    assert head.joints[0, 1] < head.joints[1, 1] < 0
    assert (head.joints[:2, 2] < 0).all()
    assert head.v_template[:, 1].max() > 0.1


def test_expression_priors_follow_distinctness(head):
    std = dict(zip(head.expression_names, head.expression_std, strict=True))
    assert head.expression_std.min() > 0.1
    assert head.expression_std.max() == pytest.approx(0.35)
    assert std["jawOpen"] == pytest.approx(0.35)
    for name in ("noseSneerLeft", "browDownRight", "mouthUpperUpLeft"):
        assert std[name] < 0.6 * std["mouthSmileLeft"]


def test_actions_do_what_their_names_say(head):
    def moved(name, region):
        return head.exprdirs[region, :, head.expression_names.index(name)].mean(axis=0)

    jaw = head.regions["face"][head.lbs_weights[head.regions["face"], 2] > 0.9]
    assert moved("jawOpen", jaw)[1] < -0.01
    lips = head.regions["lips"]
    left = lips[head.v_template[lips, 0] > 0.015]
    right = lips[head.v_template[lips, 0] < -0.015]
    assert moved("mouthSmileLeft", left)[1] > 0.005
    assert abs(moved("mouthSmileLeft", right)).max() < 0.002


def test_regions_fit_together(head):
    regions = {name: set(vertices.tolist()) for name, vertices in head.regions.items()}
    assert regions["face"] <= regions["skin"] <= regions["head"]
    assert regions["head_without_neck"] < regions["head"]
    assert regions["lips"] & regions["face"]
    for other in ("ears", "left_eyeball", "right_eyeball", "mouth_cavity", "tongue"):
        shared = regions["face"] & regions[other]
        assert len(shared) <= (40 if other in ("ears", "mouth_cavity") else 0), other
    for name in ("face", "skin", "lips", "ears", "head_without_neck"):
        assert set(head.mirror[head.regions[name]].tolist()) == regions[name], name
    assert set(head.mirror[head.regions["left_eyeball"]].tolist()) == regions["right_eyeball"]


def test_teeth_come_last_and_ride_on_head_and_jaw(head):
    upper, lower = head.regions["upper_teeth"], head.regions["lower_teeth"]
    assert np.array_equal(np.union1d(upper, lower), np.arange(4570, 4706))
    assert (np.isin(head.faces, [*upper, *lower]).any(axis=1) == (np.arange(9276) >= 9084)).all()
    for name, vertices, joint in (("upper_teeth", upper, 1), ("lower_teeth", lower, 2)):
        assert (head.lbs_weights[vertices] == np.eye(5)[joint]).all(), name
        assert set(head.mirror[vertices].tolist()) == set(vertices.tolist()), name
        for region, others in head.regions.items():
            if region not in ("head", "head_without_neck", name):
                assert not np.isin(vertices, others).any(), (name, region)
    assert head.v_template[upper, 1].mean() > head.v_template[lower, 1].mean() + 0.01


def test_lower_teeth_follow_the_chin_as_one_piece(head):
    lower, upper = head.regions["lower_teeth"], head.regions["upper_teeth"]
    chin = head.regions["face"][head.lbs_weights[head.regions["face"], 2] > 0.9]
    for name, strength in zip(head.expression_names, np.moveaxis(head.exprdirs, 2, 0), strict=True):
        assert np.abs(strength[upper]).max() < 2e-4, name
        if not name.startswith("jaw"):
            assert np.abs(strength[lower]).max() < 2e-4, name
            continue
        moved = head.v_template + strength
        with_chin = rigid_motion(head.v_template[chin], moved[chin])(head.v_template[lower])
        assert np.linalg.norm(with_chin - moved[lower], axis=1).max() < 5e-3, name
        as_one = rigid_motion(head.v_template[lower], moved[lower])(head.v_template[lower])
        assert np.linalg.norm(as_one - moved[lower], axis=1).max() < 1e-3, name


def test_actions_leave_the_eyeballs_to_their_joints(head):
    eyeballs = [*head.regions["left_eyeball"], *head.regions["right_eyeball"]]
    assert (head.exprdirs[eyeballs] == 0).all()
    lids = head.exprdirs[head.regions["face"], :, head.expression_names.index("eyeLookDownLeft")]
    assert np.abs(lids).max() > 2e-3


@pytest.mark.parametrize(("name", "count"), [("mediapipe468", 468), ("ibug68", 68)])
def test_sparse_embeddings_lie_on_the_face(head, name, count):
    embedding = embed(scheme(name, count))
    assert embedding.topology == TOPOLOGY
    assert embedding.weights.min() >= 0
    assert np.isin(embedding.indices, head.regions["face"]).all()
    assert embedding.reliability.min() >= 0.1
    points = embedding.apply(head.v_template)
    assert len(np.unique(points.round(7), axis=0)) == count


def test_mediapipe_rows_are_symmetric(head, mediapipe):
    # a landmark's counterpart is the one at its mirrored place
    points = mediapipe.apply(head.v_template)
    distance = np.linalg.norm(points[:, None] * FLIP - points[None], axis=-1)
    partner = distance.argmin(axis=1)
    assert distance.min(axis=1).max() < 1e-9
    assert partner[LEFT_OUTER] == RIGHT_OUTER
    assert (partner == np.arange(468)).sum() == 28
    flipped = mirrored_rows(mediapipe, head.mirror)
    assert [flipped[p] for p in partner] == rows(mediapipe)
    np.testing.assert_array_equal(mediapipe.reliability[partner], mediapipe.reliability)


def test_mediapipe_points_are_in_their_places(head, mediapipe):
    points = mediapipe.apply(head.v_template)
    reliable = mediapipe.reliability > 0.2
    assert points[NOSE_TIP, 2] == points[:, 2].max()
    assert points[CHIN, 1] < points[LIP_BOTTOM, 1] < points[LIP_TOP, 1] < points[NOSE_TIP, 1] < 0
    assert points[FOREHEAD, 1] == points[:, 1].max()
    assert points[LEFT_OUTER, 0] > 0.03
    assert points[RIGHT_OUTER, 0] < -0.03
    assert np.abs(points[reliable, 0]).max() < 0.07
    assert mediapipe.reliability[[FOREHEAD, CHIN, 234, 454]].max() <= 0.2
    assert reliable.sum() > 340


def test_lids_frame_the_eyeballs(head, mediapipe):
    points = mediapipe.apply(head.v_template)
    for upper, lower, joint in ((386, 374, 3), (159, 145, 4)):
        eye = head.joints[joint]
        assert points[lower, 1] < eye[1] < points[upper, 1]
        assert np.linalg.norm(points[upper] - eye) < 0.02
        assert np.linalg.norm(points[lower] - eye) < 0.02


def test_ibug_points_are_in_their_places(head, ibug):
    points = ibug.apply(head.v_template)
    right_to_left = np.diff(points[:17, 0])
    assert (right_to_left > 0).sum() >= 14
    assert points[8, 1] == points[:, 1].min()
    assert (np.diff(points[27:31, 1]) < 0).all()
    assert (points[17:27, 1] > points[36:48, 1].max()).all()
    assert points[36:42, 0].max() < 0 < points[42:48, 0].min()
    for upper, lower in ((51, 62), (62, 66), (66, 57), (57, 8)):
        assert points[upper, 1] > points[lower, 1]
    assert (ibug.reliability[:17] == 0.2).all()
    mirror = [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    np.testing.assert_allclose(points[mirror] * FLIP, points, atol=1e-9)


def test_dense_face(head):
    embedding = dense_face()
    faces = embedding.scheme.triangles
    points = embedding.apply(head.v_template)
    assert 1500 <= len(embedding.scheme) <= 2000
    assert embedding.scheme.names[:2] == ("v0000", "v0001")
    assert np.array_equal(embedding.indices[:, 0], head.regions["face"])
    np.testing.assert_allclose(points[embedding.scheme.mirror] * FLIP, points, atol=1e-9)
    mesh = trimesh.Trimesh(points, faces, process=False)
    assert np.array_equal(np.unique(faces), np.arange(len(points)))
    assert mesh.body_count == 1
    assert mesh.euler_number == 1 - 3, "a disk with three holes: two eyes and the mouth"


def test_unknown_schemes_are_refused():
    with pytest.raises(InputError, match=r"scheme 'wflw98'; it has ibug68, mediapipe468, mediapipe478 and"):
        embed(scheme("wflw98", 98))
    with pytest.raises(InputError, match="has 478 points; the embedding has 468"):
        embed(scheme("mediapipe468", 478))
