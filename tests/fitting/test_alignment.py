import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from partfit.fitting.alignment import align_to_landmarks
from partfit.geometry.camera import Camera
from partfit.testing.strategies import rotvecs


def pose_error(shape, r, t, focal=600.0, weights=None, noise=0.0):
    rotation = Rotation.from_rotvec(r).as_matrix()
    camera = Camera.for_images([(640, 480)], [focal], dtype=torch.float64)
    points = torch.as_tensor(shape @ rotation.T + t)[None]
    pixels = camera.project(points) + noise
    weights = torch.ones(1, len(shape), dtype=torch.float64) if weights is None else weights
    found, translation = align_to_landmarks(torch.as_tensor(shape)[None], pixels, weights, camera)
    angle = Rotation.from_matrix(found[0].numpy() @ rotation.T).magnitude()
    return angle, np.abs(translation[0].numpy() - t).max()


@given(rotvecs(), st.integers(0, 20), st.floats(-0.2, 0.2))
def test_any_pose_is_found_without_an_initial_guess(r, seed, x):
    shape = np.random.default_rng(seed).normal(size=(30, 3)) * [0.06, 0.09, 0.05]
    angle, shift = pose_error(shape, r, np.array([x, 0.05, 0.9]))
    assert angle < 0.05
    assert shift < 0.03


@pytest.mark.parametrize("tilt", [0.3, -0.3, 0.8, -0.8])
def test_a_flat_shape_has_two_poses_and_the_better_one_is_taken(tilt):
    shape = np.random.default_rng(0).normal(size=(30, 3)) * [0.08, 0.08, 0.0]
    angle, _ = pose_error(shape, [tilt, 0.1, 0.2], np.array([0.0, 0.0, 0.5]))
    assert angle < 0.08


def test_ignored_landmarks_do_not_matter():
    rng = np.random.default_rng(1)
    shape = rng.normal(size=(30, 3)) * 0.07
    weights = torch.ones(1, 30, dtype=torch.float64)
    weights[:, :5] = 0
    noise = torch.zeros(1, 30, 2, dtype=torch.float64)
    noise[:, :5] = 500
    clean = pose_error(shape, [0.3, 0.2, 0.1], np.array([0, 0, 0.8]), weights=weights)
    spoilt = pose_error(shape, [0.3, 0.2, 0.1], np.array([0, 0, 0.8]), weights=weights, noise=noise)
    assert spoilt == pytest.approx(clean, abs=1e-9)


def test_the_rotation_is_proper():
    shape = np.random.default_rng(2).normal(size=(10, 3)) * 0.07
    camera = Camera.for_images([(640, 480)], dtype=torch.float64)
    pixels = torch.as_tensor(np.random.default_rng(3).uniform(0, 480, size=(1, 10, 2)))
    rotation, _ = align_to_landmarks(
        torch.as_tensor(shape)[None], pixels, torch.ones(1, 10, dtype=torch.float64), camera
    )
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64)[None])
    assert torch.linalg.det(rotation).item() == pytest.approx(1)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_landmarks_that_lie_anywhere_hardly_turn_the_pose(share):
    """60 poses of 100 points, which the pose without them would meet; and the others of the batch stay."""
    rng = np.random.default_rng(4)
    batch = 60
    shape = torch.as_tensor(rng.normal(size=(batch, 100, 3)) * [0.06, 0.09, 0.05])
    rotation = torch.as_tensor(Rotation.random(batch, random_state=5).as_matrix())
    place = torch.tensor([0.05, 0.0, 0.9], dtype=torch.float64)
    camera = Camera.for_images([(640, 480)] * batch, dtype=torch.float64)
    clean = camera.project(shape @ rotation.mT + place) + torch.as_tensor(rng.normal(size=(batch, 100, 2)))
    lost = torch.as_tensor(rng.random((batch, 100)) < share)
    lost[:2] = False
    pixels = torch.where(lost[..., None], torch.as_tensor(rng.uniform(0, 480, size=clean.shape)), clean)
    weights = torch.ones(batch, 100, dtype=torch.float64)
    found, without = (align_to_landmarks(shape, points, weights, camera) for points in (pixels, clean))
    angles = Rotation.from_matrix((found[0] @ rotation.mT).numpy()).magnitude()
    assert angles.max() < 0.1
    assert torch.equal(found[0][:2], without[0][:2])
    assert torch.equal(found[1][:2], without[1][:2])
