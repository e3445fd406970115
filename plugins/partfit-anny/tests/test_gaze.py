"""The irises on the eyeballs, and the gaze that a fit takes from them."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from partfit.fitting import FitProblem, LevenbergMarquardt, Stage
from partfit.geometry.camera import Camera
from partfit_anny.embeddings import mediapipe468, mediapipe478
from partfit_anny.head import AnnyHead
from partfit_anny.head_assets import head_arrays

RIGHT, LEFT = slice(468, 473), slice(473, 478)
MIRROR = [5, 8, 7, 6, 9, 0, 3, 2, 1, 4]


@pytest.fixture(scope="module")
def head():
    return head_arrays()


@pytest.fixture(scope="module")
def irises(head):
    return mediapipe478().apply(head.v_template)[468:]


def test_the_mesh_is_that_of_mediapipe468():
    mesh, full = mediapipe468(), mediapipe478()
    assert np.array_equal(full.indices[:468], mesh.indices)
    assert np.array_equal(full.weights[:468], mesh.weights)
    assert np.array_equal(full.reliability[:468], mesh.reliability)


def test_irises_lie_on_the_eyeballs(head):
    full = mediapipe478()
    assert np.isin(full.indices[RIGHT], head.regions["right_eyeball"]).all()
    assert np.isin(full.indices[LEFT], head.regions["left_eyeball"]).all()


def test_irises_have_the_size_and_the_order_of_mediapipe(irises):
    # as it lies in the picture of an upright face: right (+x), top, left, bottom
    for center, *rim in irises.reshape(2, 5, 3):
        assert [point.argmax() for point in (np.array(rim)[:, 0], np.array(rim)[:, 1])] == [0, 1]
        assert [point.argmin() for point in (np.array(rim)[:, 0], np.array(rim)[:, 1])] == [2, 3]
        for one, other in ((0, 2), (1, 3)):
            assert np.linalg.norm(rim[one] - rim[other]) == pytest.approx(11.7e-3, abs=2e-4)
        assert center[2] > max(point[2] for point in rim)
    np.testing.assert_allclose(irises[MIRROR] * [-1, 1, 1], irises, atol=1e-9)


def test_eyes_look_nearly_ahead_at_rest(head, irises):
    for center, joint in ((irises[0], head.joints[4]), (irises[5], head.joints[3])):
        gaze = (center - joint) / np.linalg.norm(center - joint)
        assert math.degrees(math.acos(gaze[2])) < 5


@pytest.fixture(scope="module")
def fitted():
    """The parameters of heads with turned eyes, by landmarks with 0.5 pixels of noise, and their fit."""
    model = AnnyHead(AnnyHead.Config(n_betas=30))
    rng = np.random.default_rng(3)
    batch = 6
    truth = np.zeros((batch, model.n_parameters))
    truth[:, model.slices["betas"]] = 0.7 * rng.normal(size=(batch, 30))
    expression = model.group("expression")
    for name, amount in (("jawOpen", 0.2), ("mouthSmileLeft", 0.4), ("browInnerUp", 0.3)):
        truth[:, model.slices["expression"].start + expression.names.index(name)] = amount
    # the model looks along +z; half a turn about x makes it face the camera
    turns = np.array([math.pi, 0.0, 0.0]) + rng.uniform(-0.25, 0.25, size=(batch, 3))
    truth[:, model.slices["global_orient"]] = turns
    gaze = rng.uniform([-0.25, -0.4], [0.25, 0.4], size=(batch, 2))
    for side in ("leye_pose", "reye_pose"):
        truth[:, model.slices[side].start : model.slices[side].start + 2] = gaze
    truth[:, model.slices["transl"]] = [0.0, 0.0, 0.7]
    truth = torch.as_tensor(truth)
    camera = Camera.for_images([(640, 640)] * batch, dtype=torch.float64)
    embedding = mediapipe478()
    points = camera.project(model.landmarks(embedding, truth).points(truth))
    points = points + torch.as_tensor(rng.normal(size=points.shape)) * 0.5
    rigid = ("global_orient", "transl")
    free = ("betas", "expression", *rigid, "leye_pose", "reye_pose")
    problem = FitProblem(
        model,
        embedding,
        points,
        torch.full_like(points, 0.5),
        torch.ones(points.shape[:2], dtype=torch.float64),
        camera,
        stages=(Stage(rigid, 10), Stage(free, 30)),
    )
    return model, truth.numpy(), LevenbergMarquardt().fit(problem).x.numpy()


@pytest.mark.parametrize("side", ["leye_pose", "reye_pose"])
def test_a_fit_finds_the_gaze_while_the_head_turns(fitted, side):
    model, truth, found = fitted

    def gaze(x):
        """Directions (B, 3) of view in the head and in the camera frame."""
        eye, root = (Rotation.from_rotvec(x[:, model.slices[name]]) for name in (side, "global_orient"))
        in_head = eye.apply([0.0, 0.0, 1.0])
        return in_head, root.apply(in_head)

    assert np.degrees(np.abs(truth[:, model.slices[side]]).max()) > 15
    for true, fit in zip(gaze(truth), gaze(found), strict=True):
        assert np.degrees(np.arccos((true * fit).sum(axis=1))).max() < 2.0
