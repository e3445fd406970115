"""Faces as people have them, and things before them that leave enough in sight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import partfit
from partfit.embedding_finder import EmbeddingFinder
from partfit.models.base import ParametricModel
from partfit_synthetic import occluders
from partfit_synthetic.hair import COLOURS
from partfit_synthetic.scene import Scene
from partfit_synthetic.skin import random_look
from partfit_synthetic.states import typical_shape


@pytest.fixture(scope="module")
def head() -> ParametricModel:
    return partfit.create("model", "anny-head")


def landmarks(model: ParametricModel, betas: np.ndarray) -> np.ndarray:
    parts = [betas if group.name == "betas" else group.prior_mean for group in model.groups]
    with torch.no_grad():
        points = model.points(torch.as_tensor(np.concatenate(parts)).float()[None])[0].numpy()
    return EmbeddingFinder(partfit.default_registry(), ()).find("ibug68", model).apply(points)


def test_the_typical_shape_is_a_wider_face_with_smaller_eyes_near_the_models_mean(head: ParametricModel):
    step = typical_shape(head)
    mean, moved = landmarks(head, np.zeros(len(step))), landmarks(head, step)

    def length(points: np.ndarray, one: int, other: int) -> float:
        return float(np.linalg.norm(points[one] - points[other]) / np.linalg.norm(points[0] - points[16]))

    for one, other in ((36, 45), (27, 33), (19, 37)):
        assert length(moved, one, other) < 0.97 * length(mean, one, other)
    assert length(moved, 4, 12) > 1.01 * length(mean, 4, 12)
    assert 1 < np.linalg.norm(step) < 0.5 * np.sqrt(len(step))
    np.testing.assert_array_equal(step, typical_shape(partfit.create("model", "anny-head")))


def test_a_model_without_a_face_keeps_its_mean():
    assert not typical_shape(partfit.create("model", "anny-hand")).any()


def test_things_before_a_part_mostly_leave_half_of_it_in_sight():
    # a ball of a head's size, half a metre before the camera, that things hide from it
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(4000, 3))
    part = 0.1 * ball / np.linalg.norm(ball, axis=1, keepdims=True) + [0.0, 0.0, 0.5]
    near = part[part[:, 2] < 0.46]
    hidden = []
    for k in range(60):
        things = occluders.occluder_things(part, np.random.default_rng(k))
        scene = Scene([(thing.vertices, thing.faces) for thing in things]) if things else None
        hidden.append(scene.blocked(near, -near).mean() if scene else 0.0)
    assert np.mean(np.array(hidden) > 0.75) < 0.1
    assert np.mean(np.array(hidden) > 0.02) > 0.6


def test_grey_hair_comes_with_age():
    dark, grey = np.array(COLOURS[0][0]), np.array(COLOURS[-1][0])
    ages = [
        np.mean([random_look(None, hair, np.random.default_rng(k)).age for k in range(200)])
        for hair in (dark, grey)
    ]
    assert ages[1] > ages[0] + 0.2
