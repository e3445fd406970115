"""Networks as landmarkers: a network that finds coloured dots tells whether every map is right."""

from __future__ import annotations

import json
import math
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import partfit
from partfit.cli import main
from partfit.errors import ConfigError, InputError
from partfit.geometry.crops import Crop
from partfit.landmarks import LandmarkScheme, Region
from partfit.learning.backbones import BackboneConfig
from partfit.learning.calibration import Calibration
from partfit.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from partfit.learning.crops import CropRule, RegionMap
from partfit.learning.landmarker import CheckpointLandmarker, NetworkLandmarker
from partfit.learning.networks import LandmarkNetwork, NetworkConfig
from partfit.learning.shapes import box_of
from partfit.pipeline_config import Choice
from partfit.testing.conformance import LandmarkerConformance

PHOTO = str(Path(__file__).parents[2] / "examples" / "astronaut.jpg")

R = 64
#: Two red dots, which a flip exchanges, a green one and a blue one.
SCHEME = LandmarkScheme("dots4", ["red_left", "red_right", "green", "blue"], mirror=[1, 0, 2, 3])
#: Where they are in the crops that the network was made for, crop units.
SHAPE = np.array([[-0.2, -0.15], [0.2, -0.15], [0.0, 0.05], [0.0, 0.25]])
USUAL = 0.02


class Dots(nn.Module):
    """The middles of what is red in each half of a crop, of what is green, and of what is blue.

    The scales are 0.01 along x and 0.02 along y where there is such a thing, and half of the crop where not;
    the visibility tells that.
    """

    def forward(self, crops):
        axis = (torch.arange(crops.shape[-1]) + 0.5) / crops.shape[-1] - 0.5
        left = (axis < 0).float()
        mass = torch.stack([crops[:, 0] * left, crops[:, 0] * (1 - left), crops[:, 1], crops[:, 2]], dim=1)
        mass = (mass - 0.3).clamp_min(0)
        total = mass.sum(dim=(2, 3))
        x, y = (mass.sum(dim=2) * axis).sum(-1), (mass.sum(dim=3) * axis).sum(-1)
        position = torch.stack([x, y], dim=-1) / total.clamp_min(1e-6)[..., None]
        there = (total > 1)[..., None]
        raw = torch.where(there, torch.tensor([0.01, 0.02]), torch.tensor(0.5)).log()
        return torch.cat([position, raw, torch.where(there, 4.0, -4.0)], dim=-1)


def checkpoint(**options) -> Checkpoint:
    config = NetworkConfig(BackboneConfig("mobilenetv3_small_050"), R, visibility=True)
    network = LandmarkNetwork(config, options.pop("scheme", SCHEME))
    network.backbone, network.head = nn.Identity(), Dots()
    options = {"crop": CropRule(0.0), "calibration": Calibration(usual=USUAL)} | options
    return Checkpoint(network, SHAPE, **options)


class DotLandmarker(NetworkLandmarker):
    def __init__(self, config=None, **options):
        self._made = checkpoint(**options)
        super().__init__(config)

    def _load(self):
        return self._made


def drawn(crop: Crop, size=(300, 240), missing=()) -> tuple[np.ndarray, np.ndarray]:
    """A picture (width, height) with the dots where a crop has them, and their places in it."""
    places = crop.to_image((SHAPE + 0.5) * crop.resolution - 0.5)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    picture = np.zeros((size[1], size[0], 3))
    for k, channel in enumerate((0, 0, 1, 2)):
        if k not in missing:
            distance = np.hypot(x - places[k, 0], y - places[k, 1]) / (0.05 * crop.size)
            picture[..., channel] += 255 * np.clip(1.5 - distance, 0, 1)
    return picture.clip(0, 255).round().astype(np.uint8), places


def region_of(crop: Crop, **options) -> Region:
    return Region(crop.center, (crop.size, 0.8 * crop.size), crop.angle, **options)


CROPS = [
    Crop((150.0, 120.0), 128.0, resolution=R),
    Crop((131.3, 110.7), 171.9, 0.4, resolution=R),
    Crop((90.0, 130.0), 90.0, -0.3, resolution=R),
]


class TestDotLandmarker(LandmarkerConformance):
    def make(self):
        return DotLandmarker()

    def make_pictures(self):
        return [drawn(crop)[0] for crop in CROPS]

    def make_regions(self, pictures):
        regions = {drawn(crop)[0].tobytes(): region_of(crop) for crop in CROPS}
        return [[regions[picture.tobytes()]] for picture in pictures]


class TestDotLandmarkerWithFlips(TestDotLandmarker):
    def make(self):
        return DotLandmarker(NetworkLandmarker.Config(flips=True, refine=0))


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("refine", [0, 1, 3])
def test_points_are_where_the_dots_are(crop, refine):
    picture, places = drawn(crop)
    [[found]] = DotLandmarker(NetworkLandmarker.Config(refine=refine)).locate([picture], [[region_of(crop)]])
    np.testing.assert_allclose(found.points, places, rtol=0, atol=0.003 * crop.size)
    assert found.score == 1.0


def test_scales_are_standard_deviations_in_pixels_of_the_picture():
    calibration = Calibration((2.0, 3.0), (2.0, 3.0), USUAL)
    landmarker = DotLandmarker(NetworkLandmarker.Config(refine=0), calibration=calibration)
    upright, turned = CROPS[0], attrs.evolve(CROPS[0], angle=math.pi / 2)
    for crop, order in ((upright, [0, 1]), (turned, [1, 0])):
        [[found]] = landmarker.locate([drawn(crop)[0]], [[region_of(crop)]])
        expected = np.array([0.01 * 2, 0.02 * 3]) * 128
        np.testing.assert_allclose(found.scale, np.tile(expected[order], (4, 1)), rtol=1e-5)


def test_hidden_landmarks_are_less_certain():
    calibration = Calibration((1.0, 1.0), (4.0, 4.0), USUAL)
    landmarker = DotLandmarker(NetworkLandmarker.Config(refine=0), calibration=calibration)
    picture, _ = drawn(CROPS[0], missing=[3])
    [[found]] = landmarker.locate([picture], [[region_of(CROPS[0])]])
    p = torch.tensor(-4.0).sigmoid().item()
    factor = math.sqrt(p + (1 - p) * 16)
    np.testing.assert_allclose(found.scale[3], 0.5 * factor * 128, rtol=1e-5)
    seen = (1 - p) * (1 - 0.015)  # visible, times 1 - sigma (thesis eq. 3.22)
    np.testing.assert_allclose(found.confidence, [seen, seen, seen, p * 0.5], rtol=1e-5)


def test_a_further_look_takes_out_shift_size_and_roll():
    """The network then sees the part as in training: what it sees is recorded."""
    landmarker, seen = DotLandmarker(NetworkLandmarker.Config(refine=2)), []
    landmarker.checkpoint.network.register_forward_hook(lambda m, i, o: seen.append(o.mean[0].numpy()))
    crop = CROPS[1]
    picture, _ = drawn(crop)
    poor = Region((crop.center[0] + 8, crop.center[1] - 6), (1.3 * crop.size,) * 2, crop.angle - 0.25)
    landmarker.locate([picture], [[poor]])
    first, _, last = (np.abs(points - SHAPE).max() for points in seen)
    assert first > 0.05
    assert last < 0.005


def test_a_further_look_is_the_crop_of_the_box_around_the_points():
    """Of a part that is seen from aside, and so narrower than usual, as training crops it: by its box."""
    narrow = SHAPE * [0.6, 1.0]
    narrow[2:] += [0.04, 0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "SHAPE", narrow)
        picture, _ = drawn(CROPS[0])
    landmarker, seen = DotLandmarker(NetworkLandmarker.Config(refine=1)), []
    landmarker.checkpoint.network.register_forward_hook(lambda m, i, o: seen.append(o.mean[0].numpy()))
    x, y = CROPS[0].center
    landmarker.locate([picture], [[Region((x + 7, y - 5), (1.2 * CROPS[0].size,) * 2)]])
    (middle, side), (usual_middle, usual_side) = box_of(seen[1]), box_of(SHAPE)
    np.testing.assert_allclose(side, usual_side, atol=0.01)
    np.testing.assert_allclose(middle, usual_middle, atol=0.01)


def test_a_further_look_goes_by_the_boxed_landmarks():
    """A blue dot that lies elsewhere than usual does not move the crop if boxes are those of the others."""
    longer = SHAPE.copy()
    longer[3] += [0.1, 0.08]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "SHAPE", longer)
        picture, _ = drawn(CROPS[0])
    seen = {}
    for boxed in (None, [0, 1, 2]):
        landmarker = DotLandmarker(NetworkLandmarker.Config(refine=3), boxed=boxed)
        points = seen.setdefault(boxed is None, [])
        landmarker.checkpoint.network.register_forward_hook(
            lambda m, i, o, points=points: points.append(o.mean[0].numpy())
        )
        landmarker.locate([picture], [[region_of(CROPS[0])]])
    (middle, side), (usual_middle, usual_side) = box_of(seen[False][-1][:3]), box_of(SHAPE[:3])
    np.testing.assert_allclose(side, usual_side, atol=0.01)
    np.testing.assert_allclose(middle, usual_middle, atol=0.01)
    assert abs(box_of(seen[True][-1][:3])[1] - usual_side) > 0.02


def test_regions_are_mapped_to_the_boxes_of_training():
    regions, rule = RegionMap(0.8, (0.1, -0.05)), CropRule(0.1)
    landmarker, seen = DotLandmarker(NetworkLandmarker.Config(refine=0), regions=regions, crop=rule), []
    landmarker.checkpoint.network.register_forward_hook(lambda m, i, o: seen.append(o.mean[0].numpy()))
    target = CROPS[1]
    side = target.size / (0.8 * 1.2)  # of the region: its box has margins of a tenth on both sides
    c, s = math.cos(target.angle), math.sin(target.angle)
    center = np.array(target.center) - side * np.array([[c, -s], [s, c]]) @ [0.1, -0.05]
    picture, _ = drawn(target)
    landmarker.locate([picture], [[Region(tuple(center), (side, side / 2), target.angle)]])
    np.testing.assert_allclose(seen[0], SHAPE, rtol=0, atol=0.003)


@pytest.mark.parametrize("flips", [False, True])
def test_a_region_without_the_part_is_rejected(flips):
    landmarker = DotLandmarker(NetworkLandmarker.Config(flips=flips))
    nothing = np.zeros((100, 120, 3), np.uint8)
    picture, _ = drawn(CROPS[0])
    found = landmarker.locate([nothing, picture], [[Region((60, 50), (80, 80))], [region_of(CROPS[0])]])
    assert [len(own) for own in found] == [0, 1]
    kept = DotLandmarker(NetworkLandmarker.Config(min_score=0.0, refine=0))
    [[detection]] = kept.locate([nothing], [[Region((60, 50), (80, 80))]])
    assert detection.score == pytest.approx(USUAL / 0.5)


HAND = LandmarkScheme("dots4-hand", SCHEME.names, mirror=range(4))
#: Not symmetric, as a hand is not.
FINGERS = np.array([[-0.2, -0.15], [0.25, -0.05], [0.1, 0.1], [-0.1, 0.25]])


class HandLandmarker(DotLandmarker):
    """Of right hands only: they have the first red dot higher than the second; others make it unsure."""

    def __init__(self, config=None, **options):
        super().__init__(config, **{"scheme": HAND, "side": "right"} | options)

        def unsure(module, inputs, raw):
            wrong = raw[:, 0, 1] > raw[:, 1, 1]
            return raw + 1.5 * wrong[:, None, None] * torch.tensor([0, 0, 1, 1, 0])

        self.checkpoint.network.head.register_forward_hook(unsure)


def hand(mirror: bool) -> tuple[np.ndarray, np.ndarray, Crop]:
    crop = attrs.evolve(CROPS[1], mirror=mirror)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "SHAPE", FINGERS)
        return *drawn(crop), crop


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("told", [True, False])
def test_the_other_side_is_seen_flipped(side, told):
    """A flipped right hand is a left one; of a region without a side the network finds out."""
    picture, places, crop = hand(side == "left")
    landmarker = HandLandmarker(NetworkLandmarker.Config(refine=0))
    [[found]] = landmarker.locate([picture], [[region_of(crop, side=side if told else None)]])
    assert found.side == side
    np.testing.assert_allclose(found.points, places, rtol=0, atol=0.003 * crop.size)


def test_points_of_the_other_side_are_in_the_order_of_the_mirror():
    crop = attrs.evolve(CROPS[1], mirror=True)
    picture, places = drawn(crop)
    landmarker = DotLandmarker(side="right")
    [[found]] = landmarker.locate([picture], [[region_of(crop, side="left")]])
    np.testing.assert_allclose(found.points, places[SCHEME.mirror], rtol=0, atol=0.003 * crop.size)


def test_a_flipped_look_is_refined_too():
    picture, places, crop = hand(mirror=True)
    landmarker = HandLandmarker(NetworkLandmarker.Config(refine=2))
    landmarker.checkpoint = landmarker._made = attrs.evolve(landmarker.checkpoint, shape=FINGERS)
    poor = Region(
        (crop.center[0] + 5, crop.center[1] - 6), (1.2 * crop.size,) * 2, crop.angle - 0.2, side="left"
    )
    seen = []
    landmarker.checkpoint.network.register_forward_hook(lambda m, i, o: seen.append(o.mean[0].numpy()))
    [[found]] = landmarker.locate([picture], [[poor]])
    np.testing.assert_allclose(found.points, places, rtol=0, atol=0.003 * crop.size)
    assert np.abs(seen[0] - FINGERS).max() > 0.05
    assert np.abs(seen[-1] - FINGERS).max() < 0.005


def test_what_cannot_be_is_refused():
    one_way = attrs.evolve(SCHEME, mirror=None)
    with pytest.raises(ConfigError, match="flips"):
        DotLandmarker(NetworkLandmarker.Config(flips=True), scheme=one_way)
    with pytest.raises(ConfigError, match="flips"):
        HandLandmarker(NetworkLandmarker.Config(flips=True))
    with pytest.raises(InputError, match="side 'left'"):
        HandLandmarker(scheme=one_way).locate([drawn(CROPS[0])[0]], [[region_of(CROPS[0], side="left")]])
    with pytest.raises(InputError, match="1 pictures and 0 lists"):
        DotLandmarker().locate([drawn(CROPS[0])[0]], [])
    with pytest.raises(ConfigError, match="device: expected a device of this machine, found 'nonsense'"):
        DotLandmarker(NetworkLandmarker.Config(device="nonsense"))
    for options in ({"refine": -1}, {"min_score": 1.5}, {"batch_size": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            NetworkLandmarker.Config(**options)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network that puts the points of `mediapipe468` where they are in the example, whatever it sees."""
    photo = partfit.Pipeline()
    picture = partfit.images.load_picture(PHOTO)
    [[detection]] = photo.locate([picture])
    [[region, *_]] = photo.detector.detect([picture.pixels])
    network = LandmarkNetwork(NetworkConfig(BackboneConfig("mobilenetv3_small_050"), R), detection.scheme)
    crop = RegionMap().crop(region, CropRule(), R)
    mean = (crop.from_image(detection.points) + 0.5) / R - 0.5
    network.head.initialise(torch.from_numpy(mean).float(), torch.zeros(0, *mean.shape))
    path = tmp_path_factory.mktemp("trained") / "net.safetensors"
    save_checkpoint(Checkpoint(network, mean), path)
    return path, detection.points


def test_the_path_of_a_network_is_a_landmarker(file):
    path, points = file
    for given in (f"checkpoint:{path}", Choice("checkpoint", {"path": str(path)})):
        pipeline = partfit.Pipeline(landmarker=given)
        assert isinstance(pipeline.landmarker, CheckpointLandmarker)
        assert pipeline.to_config().landmarker == Choice("checkpoint", {"path": str(path)})
    [[detection]] = pipeline.locate([partfit.images.load_picture(PHOTO)])
    assert np.abs(detection.points - points).max() < 10


def test_another_detector_than_the_one_it_was_made_for_is_told(file, tmp_path):
    checkpoint = attrs.evolve(load_checkpoint(file[0]), detector="head-finder")
    save_checkpoint(checkpoint, tmp_path / "net.safetensors")
    with pytest.warns(UserWarning, match="'head-finder' and gets those of 'mediapipe-face'"):
        partfit.Pipeline(landmarker=f"checkpoint:{tmp_path / 'net.safetensors'}")


def test_the_command_line_takes_it(file, tmp_path, monkeypatch):
    path, points = file
    monkeypatch.chdir(path.parent)
    arguments = ["--landmarker", f"checkpoint:{path.name}", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, ["landmarks", PHOTO, *arguments, "--set", "landmarker.options.refine=0"])
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads((tmp_path / "astronaut-landmarks.json").read_text())
    assert np.abs(np.array(document["detections"][0]["points"]) - points).max() < 10
    done = CliRunner().invoke(main, ["fit", PHOTO, *arguments, "--no-overlay", "--format", "npz"])
    assert (done.exit_code, done.stderr) == (0, "")
    result = json.loads((tmp_path / "astronaut-0.json").read_text())
    assert result["landmarker"] == "checkpoint"
    assert result["rms_px"] < 10
    assert str(path) in (tmp_path / "partfit.toml").read_text()


def test_a_missing_network_is_named_with_where_to_get_it(tmp_path):
    done = CliRunner().invoke(
        main, ["landmarks", PHOTO, "--landmarker", "checkpoint:nothing.safetensors", "--out", str(tmp_path)]
    )
    assert done.exit_code == 1
    assert "nothing.safetensors: expected a checkpoint" in done.stderr
    assert "partfit train" in done.stderr
    with pytest.raises(ConfigError, match=r"path: missing.*partfit train"):
        partfit.create("landmarker", "checkpoint")


@pytest.mark.parametrize("text", ["lm", "partfit:checkpoint", "checkpoint", "checkpoint:a/b c.safetensors"])
def test_a_choice_is_its_text(text):
    choice = Choice.of_text(text)
    assert choice.text == text
    assert (choice.name == "checkpoint" and choice.options != {}) == text.startswith("checkpoint:")
