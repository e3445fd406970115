import math

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from partfit.errors import ConfigError
from partfit.geometry.crops import extract_crops
from partfit.learning.augmentation import AugmentationConfig
from partfit.learning.batches import (
    BatchSampler,
    EvaluationBatches,
    TrainingBatches,
    augmented_batch,
    make_batch,
    seeded,
    shape_statistics,
)
from partfit.learning.crops import CropRule
from partfit.learning.packing import PackedDataset, PackRule, pack
from partfit.testing.datasets import BlobDataset

CROP = CropRule(0.1, (0.05, 0.15))
R = 64
EVERYTHING = AugmentationConfig(vertical_flip=0.3, region_spread=(0.05, 0.05, 0.05))
PLAIN = AugmentationConfig(
    horizontal_flip=0.0, rotation=0.0, scale=(1.0, 1.0), shift=0.0, cutout=0.0, blur=0.0, noise=0.0
)


@pytest.fixture(scope="module")
def dataset():
    return BlobDataset(BlobDataset.Config(40, hidden=0.3))


@pytest.fixture(scope="module")
def packed(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    pack(dataset, folder, PackRule.for_training(CROP, EVERYTHING, R))
    return PackedDataset(folder, dataset.scheme)


def training(packed, augmentation=EVERYTHING, batch_size=8, seed=0):
    return TrainingBatches(packed, batch_size, R, CROP, augmentation, seed)


def assert_equal(a, b):
    assert a.ids == b.ids
    for name in ("images", "boxes", "matrix", "index"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    for name in ("points", "weight", "visible"):
        x, y = getattr(a.targets, name), getattr(b.targets, name)
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


# -- content


@pytest.mark.parametrize("augmentation", [None, EVERYTHING])
def test_targets_map_back_to_the_landmarks_of_the_data_set(packed, dataset, augmentation):
    if augmentation is None:
        batch = make_batch(packed, range(40), CROP, R)
    else:
        batch = augmented_batch(packed, range(40), CROP, R, augmentation, seeded(1))
    points = batch.to_picture(batch.targets.points)
    flipped = torch.linalg.det(batch.matrix[:, :, :2]) < 0
    assert flipped.any() == (augmentation is not None)
    for k in range(40):
        sample = dataset[int(batch.index[k])]
        order = dataset.scheme.mirror if flipped[k] else np.arange(12)
        np.testing.assert_allclose(points[k], sample.points[order], atol=2e-3)
        np.testing.assert_allclose(batch.boxes[k], sample.box, atol=2e-3)
        assert batch.ids[k] == sample.id
    assert (batch.targets.weight == 1).all()


def test_blobs_lie_under_the_targets_and_the_visibility_is_true(packed):
    augmentation = attrs.evolve(EVERYTHING, hue=0.0, saturation=0.0, grey=0.0, noise=0.0, gamma=0.0)
    batch = augmented_batch(packed, range(40), CROP, R, augmentation, seeded(2))
    pixels = ((batch.targets.points + 0.5) * R - 0.5).round().long()
    flipped = torch.linalg.det(batch.matrix[:, :, :2]) < 0
    checked = hidden = 0
    for k, number in np.ndindex(40, 12):
        x, y = pixels[k, number].tolist()
        if not (1 <= x < R - 1 and 1 <= y < R - 1):
            continue
        red, green, blue = batch.images[k, :, y, x].tolist()
        visible = batch.targets.visible[k, number].item()
        if visible:
            assert green > 0.2
            assert (red > blue) == ((number % 4 < 2) != flipped[k].item())
            checked += 1
        hidden += not visible
    assert checked > 200
    assert hidden > 60


def test_what_lies_outside_the_crop_is_not_in_sight(packed):
    near = attrs.evolve(PLAIN, scale=(1.6, 1.6))
    batch = augmented_batch(packed, range(40), CROP, R, near, seeded(3))
    outside = (batch.targets.points.abs() > 0.5).any(dim=-1)
    assert outside.any()
    assert not batch.targets.visible[outside].any()
    assert batch.targets.weight.all()


def test_unknown_places_have_no_weight_and_follow_the_mirror(tmp_path):
    class Partly(BlobDataset):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            points = sample.points.copy()
            points[0] = np.nan
            return attrs.evolve(sample, points=points, visible=None)

    partly = Partly()
    pack(partly, tmp_path, PackRule.for_training(CROP, EVERYTHING, R))
    batch = training(PackedDataset(tmp_path, partly.scheme), batch_size=32)[0]
    flipped = torch.linalg.det(batch.matrix[:, :, :2]) < 0
    assert 0 < flipped.sum() < 32
    unknown = torch.where(flipped, 3, 0)  # the mirror of blob 0 is blob 3
    assert (batch.targets.weight.sum(dim=1) == 11).all()
    assert (batch.targets.weight[torch.arange(32), unknown] == 0).all()
    assert batch.targets.points.isfinite().all()
    assert batch.targets.visible is None


def test_evaluation_goes_through_all_samples_in_order(packed):
    batches = EvaluationBatches(packed, 16, R, CROP)
    listed = [batches[k] for k in range(len(batches))]
    assert [len(batch) for batch in listed] == [16, 16, 8]
    assert torch.cat([batch.index for batch in listed]).tolist() == list(range(40))
    with pytest.raises(IndexError, match=r"0\.\.2, found 3"):
        batches[3]


def test_evaluation_sees_what_is_seen_in_use(dataset, tmp_path):
    pack(dataset, tmp_path, PackRule.for_evaluation(CROP, R))
    batch = EvaluationBatches(PackedDataset(tmp_path, dataset.scheme), 4, R, CROP)[0]
    for k in range(4):
        sample = dataset[k]
        crop = CROP.crop(sample.box, R)
        seen = extract_crops(torch.tensor(sample.image).permute(2, 0, 1), [crop])[0] / 255
        assert (batch.images[k] - seen).abs().max() <= 0.5 / 255 + 1e-4
        np.testing.assert_allclose(
            (batch.targets.points[k] + 0.5) * R - 0.5, crop.from_image(sample.points), atol=1e-3
        )


def test_a_batch_goes_to_a_device(packed):
    batch = training(packed)[0].to("meta")
    tensors = [
        batch.images,
        batch.boxes,
        batch.matrix,
        batch.index,
        *attrs.astuple(batch.targets, recurse=False),
    ]
    assert all(tensor.is_meta for tensor in tensors)


# -- order


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_an_epoch_goes_through_the_samples_once(n, batch_size, seed, epoch):
    sampler = BatchSampler(n, batch_size, seed)
    steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
    rows = np.concatenate([sampler.batch(step) for step in steps])
    assert len(rows) == len(set(rows.tolist())) == (n // batch_size * batch_size if n >= batch_size else n)
    assert set(rows.tolist()) <= set(range(n))
    assert len(sampler.batch(0)) == sampler.size


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20))
def test_a_batch_follows_from_its_step_alone(steps):
    sampler = BatchSampler(23, 5, 7)
    for step in steps:
        assert np.array_equal(sampler.batch(step), BatchSampler(23, 5, 7).batch(step))


def test_epochs_and_seeds_have_their_own_orders():
    sampler, other = BatchSampler(50, 50, 0), BatchSampler(50, 50, 1)
    orders = [sampler.batch(0), sampler.batch(1), other.batch(0)]
    assert len({tuple(order.tolist()) for order in orders}) == 3


def test_resuming_at_a_step_gives_the_batches_of_an_uninterrupted_run(packed):
    torch.manual_seed(0)
    whole = list(DataLoader(training(packed), batch_size=None, sampler=range(12)))
    torch.manual_seed(1)
    resumed = list(DataLoader(training(packed), batch_size=None, sampler=range(7, 12)))
    for a, b in zip(whole[7:], resumed, strict=True):
        assert_equal(a, b)
    assert not torch.equal(whole[0].images, whole[5].images)
    assert not torch.equal(whole[0].matrix, training(packed, seed=1)[0].matrix)


def test_a_sample_varies_from_epoch_to_epoch(packed):
    batches = training(packed, batch_size=40)
    first, second = (batch.matrix[batch.index.argsort()] for batch in (batches[0], batches[1]))
    assert not (first == second).all(dim=2).all(dim=1).any()
    # nor does the place in the batch decide: the angles of the crops there
    angles = [torch.atan2(batches[k].matrix[:, 0, 1], batches[k].matrix[:, 1, 1]) for k in range(2)]
    assert not torch.isclose(*angles).any()


def test_loader_processes_change_nothing(packed):
    loader = DataLoader(training(packed), batch_size=None, sampler=range(6), num_workers=2)
    for step, batch in enumerate(loader):
        assert_equal(batch, training(packed)[step])


# -- what is refused


def test_a_scheme_without_a_mirror_refuses_flips(dataset, packed, tmp_path):
    packed = PackedDataset(packed.folder, attrs.evolve(dataset.scheme, mirror=None))
    with pytest.raises(ConfigError, match="'blobs' has no mirror"):
        training(packed)
    assert len(training(packed, PLAIN)[0]) == 8


def test_an_augmentation_that_needs_more_than_is_stored_is_refused(packed):
    with pytest.raises(
        ConfigError, match=r"at least \d\.\d+ box sides, found \d\.\d+\. Pack the data set again"
    ):
        training(packed, attrs.evolve(EVERYTHING, shift=0.3))


@pytest.mark.parametrize(("n", "batch_size"), [(0, 4), (4, 0)])
def test_no_samples_and_no_batch_are_refused(n, batch_size):
    with pytest.raises(ConfigError, match="samples and a batch size >= 1"):
        BatchSampler(n, batch_size, 0)


# -- shapes


def test_shape_statistics_are_the_principal_components_of_the_training_shapes(packed):
    mean, directions = shape_statistics(packed, CROP, EVERYTHING, directions=24, seed=3)
    assert mean.shape == (12, 2)
    assert directions.shape == (24, 12, 2)
    # with as many directions as coordinates they make up the covariance of shapes drawn like these
    shapes = torch.cat(
        [training(packed, seed=s)[k].targets.points for s in range(40) for k in range(5)]
    ).flatten(1)
    covariance = torch.cov(shapes.T)
    D = directions.flatten(1)
    assert (D.T @ D - covariance).norm() < 0.35 * covariance.norm()
    torch.testing.assert_close(mean.flatten(), shapes.mean(dim=0), atol=0.06, rtol=0)
    # orthogonal, the largest first
    norms = D.norm(dim=1)
    assert (norms[:-1] >= norms[1:] - 1e-6).all()
    off = (D @ D.T) - torch.diag(norms**2)
    assert off.abs().max() < 1e-5


def test_shape_statistics_without_variation_are_those_of_the_packed_landmarks(packed):
    rule = CropRule(0.1, (0.1, 0.1))
    mean, directions = shape_statistics(packed, rule, PLAIN, directions=5)
    batch = make_batch(packed, range(40), rule, R)
    shapes = batch.targets.points.flatten(1)
    torch.testing.assert_close(mean.flatten(), shapes.mean(dim=0), atol=1e-5, rtol=0)
    deviations = torch.linalg.svdvals(shapes - shapes.mean(dim=0)) / math.sqrt(40)
    torch.testing.assert_close(directions.flatten(1).norm(dim=1), deviations[:5], atol=1e-5, rtol=1e-4)


def test_shape_statistics_are_the_same_each_time_and_know_no_global_seed(packed):
    torch.manual_seed(0)
    first = shape_statistics(packed, CROP, EVERYTHING, 64)
    torch.manual_seed(1)
    again = shape_statistics(packed, CROP, EVERYTHING, 64)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first[1]) == 24  # no more than there are coordinates


def test_one_shape_has_no_directions(dataset, tmp_path):
    pack(BlobDataset(BlobDataset.Config(1)), tmp_path, PackRule.for_training(CROP, PLAIN, R))
    mean, directions = shape_statistics(PackedDataset(tmp_path, dataset.scheme), CROP, PLAIN, 64)
    assert mean.isfinite().all()
    assert directions.shape == (0, 12, 2)


def test_two_shapes_have_one_direction(dataset, tmp_path):
    pack(BlobDataset(BlobDataset.Config(2)), tmp_path, PackRule.for_training(CROP, PLAIN, R))
    mean, directions = shape_statistics(PackedDataset(tmp_path, dataset.scheme), CROP, PLAIN, 64)
    assert directions.shape == (1, 12, 2)
    # the two lie one deviation to each side of their mean
    assert mean.isfinite().all()
    assert directions.abs().max() > 0
