import json
import pickle
import resource
import signal
import subprocess
import sys

import attrs
import numpy as np
import pytest

from partfit.errors import ConfigError, InputError
from partfit.landmarks import LandmarkScheme
from partfit.learning import packing
from partfit.learning.augmentation import AugmentationConfig
from partfit.learning.crops import CropRule
from partfit.learning.datasets import Dataset, Sample, SampleError
from partfit.learning.packing import SHARD_SIZE, UNKNOWN, PackedDataset, PackRule, cache_name, pack
from partfit.testing.datasets import BlobDataset

RULE = PackRule(extent=2.0, side=48)


def blobs(samples=10, **options):
    return BlobDataset(BlobDataset.Config(samples, **options))


def packed(dataset, folder, **options):
    pack(dataset, folder, RULE, **options)
    return PackedDataset(folder, dataset.scheme)


def content(folder):
    """The bytes of all files of shards, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("shard-*/*"))}


# -- what is stored


def test_a_stored_picture_is_the_square_around_the_box(tmp_path):
    dataset = blobs()
    samples = packed(dataset, tmp_path).read([3])
    sample = dataset[3]
    x0, y0, x1, y1 = sample.box
    side = 2.0 * max(x1 - x0, y1 - y0)
    np.testing.assert_allclose(samples.regions[0], [(x0 + x1) / 2, (y0 + y1) / 2, side])
    corner = samples.regions[0, :2] - side / 2
    expected = (sample.points - corner) / side * 48 - 0.5
    np.testing.assert_allclose(samples.points[0], expected, atol=1e-4)
    # each blob is where its landmark is: red halves and blue halves
    for point, column in zip(np.rint(samples.points[0]).astype(int), np.arange(12) % 4, strict=True):
        red, _, blue = samples.images[0, :, point[1], point[0]].astype(int)
        assert (red > blue + 50) == (column < 2)
        assert abs(red - blue) > 50


def test_rows_come_in_the_order_asked_for(tmp_path):
    samples = packed(blobs(SHARD_SIZE + 6), tmp_path).read([SHARD_SIZE + 1, 0, SHARD_SIZE - 1])
    assert samples.ids == (f"blobs-{SHARD_SIZE + 1}", "blobs-0", f"blobs-{SHARD_SIZE - 1}")
    assert samples.index.tolist() == [SHARD_SIZE + 1, 0, SHARD_SIZE - 1]


def test_visibility_is_stored(tmp_path):
    dataset = blobs(4, hidden=0.5)
    reader = packed(dataset, tmp_path)
    expected = [dataset[k].visible for k in range(4)]
    assert reader.knows_visibility
    assert np.array_equal(reader.read(range(4)).visible, expected)


class Told(Dataset):
    """A data set of given samples."""

    def __init__(self, samples, scheme):
        super().__init__()
        self.samples, self._scheme = samples, scheme

    @property
    def scheme(self):
        return self._scheme

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def test_unknown_visibility_and_places_stay_unknown(tmp_path):
    points = blobs()[0].points.copy()
    points[2] = np.nan
    told = Told([attrs.evolve(blobs()[0], visible=None, points=points)], blobs().scheme)
    reader = packed(told, tmp_path)
    samples = reader.read([0])
    assert not reader.knows_visibility
    assert (samples.visible == UNKNOWN).all()
    assert np.isnan(samples.points[0]).all(axis=1).nonzero()[0].tolist() == [2]


def test_the_evaluation_rule_stores_the_crop_itself():
    crop, box = CropRule(margin=0.2), np.array([10.0, 20, 50, 40])
    assert PackRule.for_evaluation(crop, 96).crop(box) == crop.crop(box, 96)


@pytest.mark.parametrize("options", [{"extent": 0.0}, {"extent": float("nan")}, {"side": 1}])
def test_wrong_rules_are_refused(options):
    with pytest.raises(ConfigError, match="expected an extent > 0 and a side"):
        PackRule(**{"extent": 2.0, "side": 48, **options})


# -- the same, whoever packs it


def test_two_workers_write_what_one_writes(tmp_path):
    dataset = blobs(2 * SHARD_SIZE + 5, bad=(7, SHARD_SIZE + 1))
    reports = [pack(dataset, tmp_path / str(n), RULE, workers=n, on_bad="skip") for n in (1, 2)]
    assert reports[0] == reports[1]
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert (tmp_path / "1/index.json").read_bytes() == (tmp_path / "2/index.json").read_bytes()


def test_packing_again_reads_nothing(tmp_path):
    class Unread(BlobDataset):
        def __getitem__(self, index):
            raise AssertionError("read again")

    Unread.__module__, Unread.__qualname__ = BlobDataset.__module__, BlobDataset.__qualname__
    report = pack(blobs(), tmp_path, RULE)
    assert pack(Unread(blobs().config), tmp_path, RULE) == report


def test_progress_counts_samples_and_begins_with_what_is_there(tmp_path):
    calls = []
    dataset = blobs(2 * SHARD_SIZE + 5)
    pack(dataset, tmp_path, RULE, progress=lambda *call: calls.append(call))
    total = len(dataset)
    assert calls == [(SHARD_SIZE, total), (2 * SHARD_SIZE, total), (total, total)]


#: Kills itself when two shards are packed: in the middle of the third, or while workers are.
KILLED = """
import os
import signal
import sys
from pathlib import Path

import numpy as np

from partfit.learning.packing import PackRule, pack
from partfit.testing.datasets import BlobDataset

folder, workers = Path(sys.argv[1]), int(sys.argv[2])
save = np.save


def save_or_die(path, array):
    save(path, array)
    if workers == 1 and path.name == "visible.npy":
        die(None, None)


def die(done, total):
    if len(list(folder.glob("shard-*"))) >= 2:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    np.save = save_or_die
    rule = PackRule(extent=2.0, side=48)
    progress = die if workers > 1 else None
    pack(BlobDataset(BlobDataset.Config(600)), folder, rule, workers=workers, progress=progress)
"""


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_packing_goes_on_after_kill_9(tmp_path, workers):
    script, folder = tmp_path / "run.py", tmp_path / "packed"
    script.write_text(KILLED)
    # this waits for the workers too, since they hold its output open
    run = subprocess.run(
        [sys.executable, str(script), str(folder), str(workers)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    before, dataset = content(folder), blobs(600)
    assert 2 <= len(list(folder.glob("shard-*"))) < 600 // SHARD_SIZE
    if workers == 1:
        assert len(list(folder.glob(".shard-*"))) == 1
    with pytest.raises(InputError, match="half packed"):
        PackedDataset(folder, dataset.scheme)

    report = pack(dataset, folder, RULE)
    after = content(folder)
    assert report.packed == len(PackedDataset(folder, dataset.scheme)) == 600
    assert {name: after[name] for name in before} == before
    assert not list(folder.glob(".*"))
    pack(dataset, tmp_path / "uninterrupted", RULE)
    assert after == content(tmp_path / "uninterrupted")


# -- what is stale


@pytest.mark.parametrize(
    ("dataset", "rule", "message"),
    [
        (blobs(seed=1), RULE, r"config.seed = 0 \(now 1\)"),
        (blobs(11), RULE, r"config.samples = 10 \(now 11\), samples = 10 \(now 11\)"),
        (blobs(), PackRule(2.0, 50), r"side = 48 \(now 50\)"),
        (blobs(), PackRule(2.5, 48), r"extent = 2.0 \(now 2.5\)"),
        (Told([blobs()[0]], blobs().scheme), RULE, r"dataset = partfit.testing.datasets:BlobDataset"),
    ],
)
def test_a_folder_packed_otherwise_is_refused_and_what_differs_is_named(tmp_path, dataset, rule, message):
    pack(blobs(), tmp_path, RULE)
    before = content(tmp_path)
    with pytest.raises(InputError, match=message):
        pack(dataset, tmp_path, rule)
    assert content(tmp_path) == before


def test_another_version_of_the_code_is_refused_and_has_another_name(tmp_path):
    pack(blobs(), tmp_path, RULE, source="partfit-blobs 1.0.0")
    with pytest.raises(InputError, match=r"source = partfit-blobs 1.0.0 \(now partfit-blobs 1.0.1\)"):
        pack(blobs(), tmp_path, RULE, source="partfit-blobs 1.0.1")
    cases = [
        (blobs(), RULE, "a 1"),
        (blobs(), RULE, "a 2"),
        (blobs(seed=1), RULE, "a 1"),
        (blobs(), PackRule(2.0, 49), "a 1"),
    ]
    assert len({cache_name(*case) for case in cases}) == len(cases)
    assert cache_name(*cases[0]) == cache_name(blobs(), RULE, "a 1")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(
        InputError, match=r"expected an empty folder or a packed data set, found 'thesis.txt'"
    ):
        pack(blobs(), tmp_path, RULE)
    with pytest.raises(InputError, match=r"index\.json"):
        PackedDataset(tmp_path, blobs().scheme)


def test_another_scheme_is_refused(tmp_path):
    pack(blobs(), tmp_path, RULE)
    with pytest.raises(InputError, match="landmarks of the scheme 'other'"):
        PackedDataset(tmp_path, LandmarkScheme("other", ["a", "b"]))


# -- bad samples


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_sample_stops_packing_by_name(tmp_path, workers):
    dataset = blobs(SHARD_SIZE + 9, bad=(SHARD_SIZE + 3,))
    with pytest.raises(SampleError, match=f"Sample 'blobs-{SHARD_SIZE + 3}': expected blobs, found none"):
        pack(dataset, tmp_path, RULE, workers=workers)
    with pytest.raises(InputError, match="half packed"):
        PackedDataset(tmp_path, dataset.scheme)


def test_bad_samples_are_left_out_counted_and_listed(tmp_path):
    dataset = blobs(12, bad=(0, 5))
    report = pack(dataset, tmp_path, RULE, on_bad="skip")
    reader = PackedDataset(tmp_path, dataset.scheme)
    assert reader.report == report
    assert [(bad.index, bad.id) for bad in report.bad] == [(0, "blobs-0"), (5, "blobs-5")]
    assert str(report).splitlines() == [
        "10 samples, 2 left out:",
        "  blobs-0: expected blobs, found none.",
        "  blobs-5: expected blobs, found none.",
    ]
    assert len(reader) == 10
    assert reader.read(range(10)).index.tolist() == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    index = json.loads((tmp_path / "index.json").read_text())
    assert [bad["id"] for bad in index["bad"]] == ["blobs-0", "blobs-5"]


def test_samples_left_out_earlier_stop_a_run_that_is_to_stop(tmp_path):
    dataset = blobs(12, bad=(5,))
    pack(dataset, tmp_path, RULE, on_bad="skip")
    with pytest.raises(SampleError, match="blobs-5"):
        pack(dataset, tmp_path, RULE)


class Mendable(BlobDataset):
    """Blobs, of which some cannot be read until they are mended."""

    broken: frozenset = frozenset()

    def __getitem__(self, index):
        if index in self.broken:
            raise SampleError(f"blobs-{index}", "expected a picture, found none.")
        return super().__getitem__(index)


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_samples_that_were_mended_are_packed(tmp_path, on_bad):
    dataset = Mendable(BlobDataset.Config(2 * SHARD_SIZE + 3))
    dataset.broken = frozenset({5, SHARD_SIZE + 1, SHARD_SIZE + 2})
    assert len(pack(dataset, tmp_path / "mended", RULE, on_bad="skip").bad) == 3
    whole = tmp_path / "mended" / f"shard-{2:05d}"
    before = whole.stat()
    dataset.broken = frozenset({5})
    assert [bad.index for bad in pack(dataset, tmp_path / "mended", RULE, on_bad="skip").bad] == [5]
    dataset.broken = frozenset()
    assert pack(dataset, tmp_path / "mended", RULE, on_bad=on_bad).bad == ()
    assert len(PackedDataset(tmp_path / "mended", dataset.scheme)) == 2 * SHARD_SIZE + 3
    assert (whole.stat().st_ino, whole.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    pack(dataset, tmp_path / "at once", RULE)
    assert content(tmp_path / "mended") == content(tmp_path / "at once")
    assert not list((tmp_path / "mended").glob(".*"))


def test_samples_that_stay_bad_are_kept_as_they_are(tmp_path):
    dataset = Told([blobs()[0], attrs.evolve(blobs()[1], points=np.full((12, 2), np.nan))], blobs().scheme)
    pack(dataset, tmp_path, RULE, on_bad="skip")
    before = (tmp_path / "shard-00000").stat().st_ino
    pack(dataset, tmp_path, RULE, on_bad="skip")
    assert (tmp_path / "shard-00000").stat().st_ino == before


def test_a_shard_without_any_good_sample_is_fine_but_not_a_data_set(tmp_path):
    dataset = blobs(SHARD_SIZE + 4, bad=tuple(range(SHARD_SIZE)))
    assert packed(dataset, tmp_path / "a", on_bad="skip").read([3]).ids == (f"blobs-{SHARD_SIZE + 3}",)
    with pytest.raises(InputError, match="samples that can be used, found none"):
        pack(blobs(3, bad=(0, 1, 2)), tmp_path / "b", RULE, on_bad="skip")


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((3, 2)), "expected 12 landmarks, found 3"),
        (np.full((12, 2), np.nan), "some place is known, found none"),
    ],
)
def test_samples_whose_landmarks_cannot_be_used_are_bad(tmp_path, points, message):
    good = blobs()[0]
    sample = Sample("odd", good.image, points, good.box)
    with pytest.raises(SampleError, match=f"'odd': .*{message}"):
        pack(Told([sample], blobs().scheme), tmp_path, RULE)


def test_a_fault_of_the_data_set_itself_is_not_taken_for_a_bad_sample(tmp_path):
    class Faulty(BlobDataset):
        def __getitem__(self, index):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        pack(Faulty(), tmp_path, RULE, on_bad="skip")
    assert caught.value.__notes__ == ["This was sample number 0 of the data set."]


# -- for worker processes of a loader


def test_a_reader_is_sent_by_its_name_not_by_its_pictures(tmp_path):
    reader = packed(blobs(), tmp_path)
    sent = pickle.dumps(reader)
    assert len(sent) < reader.read(range(10)).images.nbytes / 10
    copy = pickle.loads(sent)
    assert np.array_equal(copy.read([4]).images, reader.read([4]).images)


def test_many_shards_need_few_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "SHARD_SIZE", 1)
    told = Told([attrs.evolve(blobs()[k % 10], id=str(k)) for k in range(160)], blobs().scheme)
    pack(told, tmp_path, PackRule(extent=2.0, side=4))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "index.json").open() as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 100, limits[1]))
        try:
            samples = PackedDataset(tmp_path, told.scheme).read(range(160))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert samples.ids == tuple(map(str, range(160)))
    assert np.array_equal(samples.images[0], samples.images[150])
    assert not np.array_equal(samples.images[0], samples.images[1])


def test_what_training_needs_is_stored():
    augmentation = AugmentationConfig(rotation=0.0, scale=(1.0, 1.0), shift=0.0)
    rule = PackRule.for_training(CropRule(0.1, (0.1, 0.1)), augmentation, 120, oversampling=1.0)
    assert rule == PackRule(round(1.2 * 122 / 120, 6), 122)


def test_the_largest_crop_reduces_the_stored_picture_by_two_at_most():
    augmentation = AugmentationConfig(scale=(0.4, 1.0), region_spread=(0.1, 0.0, 0.0))
    rule = PackRule.for_training(CropRule(), augmentation, 128)
    pixels_a_box_side = rule.side / rule.extent
    # 1.3 box sides with margins, 1 / 0.4 times that when the part is small, and two deviations of the jitter
    largest = 1.3 / 0.4 * np.exp(0.2)
    np.testing.assert_allclose(largest * pixels_a_box_side / 128, 2.0, rtol=0.01)
    usual = PackRule.for_training(CropRule(), AugmentationConfig(), 128)
    np.testing.assert_allclose(1.2 * usual.side / usual.extent / 128, 1.25, rtol=0.01)


def test_another_process_may_pack_the_same_meanwhile(tmp_path):
    class Overtaken(BlobDataset):
        def __getitem__(self, index):
            pack(blobs(), tmp_path, RULE)
            return super().__getitem__(index)

    Overtaken.__module__, Overtaken.__qualname__ = BlobDataset.__module__, BlobDataset.__qualname__
    assert pack(Overtaken(blobs().config), tmp_path, RULE).packed == 10
    pack(blobs(), tmp_path.with_name("alone"), RULE)
    assert content(tmp_path) == content(tmp_path.with_name("alone"))
    assert not list(tmp_path.glob(".*"))
