"""Shapes up to a similarity, compared with shapes and similarities that are known."""

from __future__ import annotations

import cmath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partfit.errors import InputError
from partfit.learning.crops import CropRule
from partfit.learning.packing import PackedDataset, PackRule, pack
from partfit.learning.shapes import box_of, crop_shapes, similarity, typical_shape
from partfit.testing.datasets import BlobDataset

seeds = st.integers(0, 2**32 - 1)


def moved(shape, a, b):
    z = a * (shape[:, 0] + 1j * shape[:, 1]) + b
    return np.stack([z.real, z.imag], axis=-1)


@given(seeds, st.floats(0.2, 5), st.floats(-3.1, 3.1), st.booleans())
def test_a_similarity_is_found_again(seed, scale, angle, weighted):
    """Whatever lies elsewhere with a weight of 0."""
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(7, 2))
    points, weight = moved(shape, scale * cmath.exp(1j * angle), 2 - 3j), np.ones(7)
    if weighted:
        points[:2], weight[:2] = rng.normal(size=(2, 2)), 0.0
    found = similarity(shape, points, weight)
    assert abs(found - scale * cmath.exp(1j * angle)) < 1e-5 * scale


def test_a_similarity_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    shape, points, weight = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), rng.uniform(0.1, 1, 6)
    x, y = shape.T
    A = np.concatenate([np.stack([x, -y, x**0, 0 * x], 1), np.stack([y, x, 0 * x, x**0], 1)])
    w = np.sqrt(np.tile(weight, 2))
    a, b, *_ = np.linalg.lstsq(A * w[:, None], points.T.ravel() * w, rcond=None)[0]
    assert abs(similarity(shape, points, weight) - (a + 1j * b)) < 1e-6


def test_one_point_has_no_size():
    assert similarity(np.ones((3, 2)), np.eye(3)[:, :2], np.ones(3)) == 1
    assert similarity(np.zeros((1, 2)), np.ones((1, 2)), np.ones(1)) == 1


def world(seed, n=400, spread=0.5):
    """A shape, and samples of it that are turned, larger and smaller, and shifted, with holes."""
    rng = np.random.default_rng(seed)
    shape = rng.uniform(-0.5, 0.5, (9, 2))
    turns = rng.uniform(-spread, spread, n)
    a = np.exp(rng.uniform(-0.2, 0.2, n) + 1j * np.concatenate([turns, -turns])[:n])
    b = rng.normal(scale=0.03, size=(n, 2)) @ [1, 1j]
    samples = np.stack([moved(shape, *ab) for ab in zip(a, b, strict=True)])
    return shape, samples, rng


@pytest.mark.parametrize("holes", [False, True])
@given(seed=seeds)
def test_turns_do_not_shrink_it(holes, seed):
    """The form is exactly that of the samples; the plain mean is smaller."""
    shape, samples, rng = world(seed)
    if holes:
        samples[rng.random(samples.shape[:2]) < 0.2] = np.nan
    found = typical_shape(samples)
    a = similarity(shape, found, np.ones(9))
    centred = moved(shape - shape.mean(axis=0), a, 0)
    np.testing.assert_allclose(found - found.mean(axis=0), centred, atol=1e-6)
    assert abs(cmath.phase(a)) < 0.1


@given(seeds)
def test_it_lies_as_the_samples_do(seed):
    """Its box is as large as theirs, and where they are; the mean turn is none."""
    _, samples, _ = world(seed)
    found = typical_shape(samples)
    (middle, side), (middles, sides) = box_of(found), box_of(samples)
    np.testing.assert_allclose(side, np.median(sides), rtol=1e-9)
    np.testing.assert_allclose(middle, np.median(middles, axis=0), atol=1e-9)
    turns = [similarity(found, sample, np.ones(9)) for sample in samples]
    assert abs(sum(a / abs(a) for a in turns).imag) < 1e-6 * len(turns)


@given(seeds)
def test_the_box_may_be_that_of_some_points(seed):
    _, samples, _ = world(seed)
    found = typical_shape(samples, np.array([1, 4, 6]))
    (middle, side), (middles, sides) = box_of(found[[1, 4, 6]]), box_of(samples[:, [1, 4, 6]])
    np.testing.assert_allclose(side, np.median(sides), rtol=1e-9)
    np.testing.assert_allclose(middle, np.median(middles, axis=0), atol=1e-9)


@given(seeds)
def test_a_sample_without_any_boxed_point_is_left_out(seed):
    _, samples, _ = world(seed)
    expected = typical_shape(samples[1:], np.array([1, 4, 6]))
    samples[0, [1, 4, 6]] = np.nan
    np.testing.assert_allclose(typical_shape(samples, np.array([1, 4, 6])), expected)
    samples[:, [1, 4, 6]] = np.nan
    with pytest.raises(InputError, match="one of them within the box"):
        typical_shape(samples, np.array([1, 4, 6]))


@given(seeds)
def test_equal_samples_are_their_own_typical_shape(seed):
    shape = np.random.default_rng(seed).normal(size=(5, 2))
    np.testing.assert_allclose(typical_shape(np.stack([shape] * 3)), shape, atol=1e-9)


def test_points_that_are_never_known_lie_in_the_middle_of_the_others():
    _, samples, _ = world(1)
    samples[:, 4] = np.nan
    found = typical_shape(samples)
    others = np.delete(found, 4, axis=0)
    np.testing.assert_allclose(found[4], others.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(others, typical_shape(np.delete(samples, 4, axis=1)), atol=1e-6)


def test_a_scheme_of_one_point_has_a_shape_too():
    np.testing.assert_allclose(typical_shape(np.array([[[0.1, 0.2]], [[0.3, 0.2]]])), [[0.2, 0.2]])


def test_nothing_known_is_refused():
    with pytest.raises(InputError, match="two points are known, one of them within the box"):
        typical_shape(np.full((3, 4, 2), np.nan))


def test_shapes_of_a_data_set_are_those_of_its_crops(tmp_path):
    dataset, rule = BlobDataset(BlobDataset.Config()), CropRule(0.2)
    pack(dataset, tmp_path, PackRule.for_evaluation(rule, 32))
    found = crop_shapes(PackedDataset(tmp_path, dataset.scheme), rule)
    assert len(found) == len(dataset)
    for i in (0, 7):
        sample = dataset[i]
        expected = (rule.crop(sample.box, 32).from_image(sample.points) + 0.5) / 32 - 0.5
        np.testing.assert_allclose(found[i], expected, atol=1e-5)
    assert len(crop_shapes(PackedDataset(tmp_path, dataset.scheme), rule, samples=5)) == 5
