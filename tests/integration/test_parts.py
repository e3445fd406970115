"""Faces and hands, left and right, in one picture."""

import json

import attrs
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import partfit
from partfit.cli import main
from partfit.errors import ComponentError, ConfigError, InputError
from partfit.fitting import FitStatus
from partfit.images import load_picture
from partfit.landmarks import Landmarker, Region
from partfit.pipeline import Pipeline
from partfit.pipeline_config import Choice, PipelineConfig, RunConfig


@pytest.fixture(scope="module")
def picture(photo):
    """A portrait (512 x 512), a right hand to its right and the mirrored, left one further right."""
    hand = np.asarray(Image.open(photo.with_name("hand.png")).convert("RGB"))
    canvas = np.full((512, 512 + 2 * 330, 3), 120, np.uint8)
    canvas[:, :512] = np.asarray(Image.open(photo))
    canvas[50 : 50 + len(hand), 520 : 520 + hand.shape[1]] = hand
    canvas[50 : 50 + len(hand), 850 : 850 + hand.shape[1]] = hand[:, ::-1]
    return canvas


@pytest.fixture(scope="module")
def file(picture, tmp_path_factory):
    path = tmp_path_factory.mktemp("parts") / "scene.png"
    Image.fromarray(picture).save(path)
    return path


@pytest.fixture(scope="module")
def hands():
    return Pipeline("hand")


@pytest.fixture(scope="module")
def found(picture):
    (result,) = partfit.fit(picture, ["face", "hand"])
    return list(result)


def by_x(instances):
    return sorted(instances, key=lambda instance: instance.detection.box[0])


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_face_and_two_hands_are_fitted(found):
    assert [instance.part for instance in found] == ["face", "hand", "hand"]
    assert all(instance.status is not FitStatus.FAILED for instance in found)
    right, left = by_x(found[1:])
    assert (right.side, left.side) == ("right", "left")
    assert right.model.topology.name == "anny-hand-right"
    assert left.model.topology.name == "anny-hand-left"
    for hand in (right, left):
        width, height = hand.detection.box[2:] - hand.detection.box[:2]
        assert hand.rms_px < 0.06 * np.sqrt(width * height)
        assert 0.15 < np.ptp(hand.vertices, axis=0).max() < 0.3  # metres


def test_each_part_is_fitted_as_if_it_were_alone(found, hands, picture):
    alone = by_x(hands(picture)[0])
    for one, other in zip(by_x(found[1:]), alone, strict=True):
        np.testing.assert_allclose(one.vertices, other.vertices, atol=1e-5)


def test_mirrored_landmarks_give_the_mirrored_hand(hands, picture):
    loaded = load_picture(picture)
    (right,) = [d for d in hands.locate([loaded])[0] if d.side == "right"]
    mirrored = attrs.evolve(
        right,
        points=[loaded.size[0] - 1, 0] + right.points * [-1, 1],
        points_3d=right.points_3d * [-1, 1, 1],
        side="left",
        box=right.box,
    )
    one, other = hands.fit([loaded], [[right, mirrored]])[0]
    assert other.model.topology.name == "anny-hand-left"
    np.testing.assert_allclose(other.vertices * [-1, 1, 1], one.vertices, atol=1e-5)
    np.testing.assert_allclose(other.parameters["hand_pose"], one.parameters["hand_pose"], atol=1e-3)


def test_a_hand_without_a_side_is_refused(hands, picture):
    loaded = load_picture(picture)
    first, second = hands.locate([loaded])[0]
    with pytest.raises(InputError, match="hand 1 must say its side"):
        hands.fit([loaded], [[first, attrs.evolve(second, side=None)]])


def test_a_landmarker_that_tells_no_sides_is_named(picture):
    class Forgetful(Landmarker):
        inner = partfit.create("landmarker", "mediapipe-hand")
        scheme = inner.scheme

        def locate(self, images, regions):
            found = self.inner.locate(images, regions)
            return [[attrs.evolve(detection, side=None) for detection in own] for own in found]

    with pytest.raises(ComponentError, match=r"Forgetful.locate returned a detection without a side"):
        Pipeline("hand", landmarker=Forgetful())(picture)
    one_sided = Pipeline("hand", landmarker=Forgetful(), model=Choice("anny-hand", {"side": "left"}))
    assert [hand.side for hand in one_sided(picture)[0]] == ["left", "left"]


def test_a_side_that_was_chosen_is_taken_for_every_hand(picture):
    pipeline = Pipeline("hand", model=Choice("anny-hand", {"side": "right"}))
    found = pipeline(picture)[0]
    assert {hand.model.topology.name for hand in found} == {"anny-hand-right"}
    assert {hand.side for hand in found} == {"right"}
    assert {hand.detection.side for hand in found} == {"left", "right"}
    assert Pipeline.from_config(pipeline.to_config()).to_config() == pipeline.to_config()


def test_the_command_line_fits_parts_side_by_side(file, tmp_path):
    first = run("fit", file, "--part", "face,hand", "--out", tmp_path / "a", "--export-landmarks", "hand21")
    assert first.exit_code == 0, first.output
    documents = [json.loads((tmp_path / "a" / f"scene-{k}.json").read_text()) for k in range(3)]
    assert [document["part"] for document in documents] == ["face", "hand", "hand"]
    assert documents[0]["side"] is None
    assert {document["side"] for document in documents[1:]} == {"left", "right"}
    assert documents[0]["landmarks"] == {}
    assert len(documents[1]["landmarks"]["hand21"]) == 21
    again = run("fit", file, "--config", tmp_path / "a" / "partfit.toml", "--out", tmp_path / "b")
    assert again.exit_code == 0, again.output
    for k, document in enumerate(documents):
        other = json.loads((tmp_path / "b" / f"scene-{k}.json").read_text())
        assert other["parameters"] == document["parameters"]
    toml = (tmp_path / "a" / "partfit.toml").read_text()
    assert (tmp_path / "b" / "partfit.toml").read_text() == toml
    only_hands = run(
        "fit", file, "--config", tmp_path / "a" / "partfit.toml", "--part", "hand", "--out", tmp_path / "c"
    )
    assert only_hands.exit_code == 0, only_hands.output
    assert not (tmp_path / "c" / "scene-2.json").exists()


def test_landmarks_of_two_parts_can_be_fitted_again(file, tmp_path):
    located = run("landmarks", file, "--part", "face,hand", "--out", tmp_path)
    assert located.exit_code == 0, located.output
    landmarks = tmp_path / "scene-landmarks.json"
    fitted = run("fit", file, "--part", "face,hand", "--landmarks", landmarks, "--out", tmp_path / "fit")
    assert fitted.exit_code == 0, fitted.output
    direct = run("fit", file, "--part", "face,hand", "--out", tmp_path / "direct")
    assert direct.exit_code == 0, direct.output
    for k in range(3):
        one, other = (json.loads((tmp_path / d / f"scene-{k}.json").read_text()) for d in ("fit", "direct"))
        assert one["side"] == other["side"]
        for name, values in other["parameters"].items():
            np.testing.assert_allclose(one["parameters"][name], values, atol=1e-4)
    document = json.loads(landmarks.read_text())
    del document["detections"][1]["side"], document["detections"][2]["scale_3d"]
    landmarks.write_text(json.dumps(document))
    refused = run("fit", file, "--part", "face,hand", "--landmarks", landmarks, "--out", tmp_path / "no")
    assert refused.exit_code == 1
    assert "detections[2]: expected `points_3d` and `scale_3d` together" in refused.stderr


def test_what_only_one_part_can_have_is_refused_for_two(file, tmp_path):
    for option in (("--model", "anny-head"), ("--preset", "thesis")):
        result = run("fit", file, "--part", "face,hand", *option, "--out", tmp_path)
        assert result.exit_code == 1
        assert f"{option[0]} goes with one part, found face, hand" in result.stderr


def test_parts_of_one_picture_share_what_they_must(picture, hands):
    with pytest.raises(ConfigError, match="landmarker: goes with one part"):
        partfit.fit(picture, ["face", "hand"], landmarker="mediapipe-hand")
    with pytest.raises(ConfigError, match="expected different parts"):
        partfit.fit(picture, ["hand", "hand"])
    with pytest.raises(ConfigError, match="expected a FitSettings"):
        Pipeline("hand", settings={"min_confidence": 0.3})
    with pytest.raises(InputError, match="at least one pipeline"):
        partfit.fit(picture, [])
    with pytest.raises(ConfigError, match="one camera"):
        partfit.stream([hands, Pipeline("hand", focal=400.0)], [picture])
    with pytest.raises(ConfigError, match=r"\[\[pipelines\]\] for each part, found none"):
        RunConfig(())
    with pytest.raises(ConfigError, match="different parts, found face, face"):
        RunConfig((PipelineConfig(), PipelineConfig()))


def test_one_picture_has_one_camera_on_the_command_line_too(file, tmp_path):
    config = tmp_path / "two.toml"
    config.write_text('[[pipelines]]\nfocal = 300.0\n[[pipelines]]\npart = "hand"\nfocal = 3000.0\n')
    result = run("fit", file, "--config", config, "--landmarks", "any.json", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "a picture has one camera" in result.stderr
    assert not (tmp_path / "out" / "partfit.toml").exists()


@pytest.mark.parametrize("options", [("--preset", "thesis"), ("--set", "settings.prior_weights={}")])
def test_what_a_run_writes_is_what_it_was(photo, tmp_path, options):
    assert run("fit", photo, *options, "--out", tmp_path / "a", "--no-overlay").exit_code == 0
    written = tmp_path / "a" / "partfit.toml"
    again = run("fit", photo, "--config", written, "--out", tmp_path / "b", "--no-overlay")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "b" / "partfit.toml").read_text() == written.read_text()
    one, other = (json.loads((tmp_path / d / "astronaut-0.json").read_text()) for d in "ab")
    assert one["parameters"] == other["parameters"]


def test_a_few_keys_are_a_configuration_in_python_too():
    few = {"part": "hand", "settings": {"min_confidence": 0.2}, "landmarker": {"options": {"looks": 2}}}
    config = Pipeline.from_config(few).to_config()
    assert config.settings == attrs.evolve(Pipeline("hand").settings, min_confidence=0.2)
    assert config.landmarker == Choice("mediapipe-hand", {"looks": 2})
    thesis = Pipeline.from_config({"preset": "thesis", "settings": {"min_confidence": 0.2}})
    assert thesis.settings == attrs.evolve(Pipeline(preset="thesis").settings, min_confidence=0.2)


@pytest.mark.parametrize("part", ["face,face", "", "face,", " , hand"])
def test_parts_must_differ(photo, tmp_path, part):
    result = run("fit", photo, "--part", part, "--out", tmp_path)
    assert result.exit_code == 1
    assert "--part: expected different names, separated by commas" in result.stderr


def test_a_key_of_one_of_several_parts_begins_with_the_part(file, tmp_path):
    parts = ("--part", "face,hand", "--out", tmp_path)
    result = run("fit", file, *parts, "--set", "hand.landmarker.options.looks=2")
    assert result.exit_code == 0, result.output
    face, hand = (tmp_path / "partfit.toml").read_text().split("[[pipelines]]")[1:]
    assert "looks = 2" in hand
    assert "looks" not in face
    refused = run("fit", file, *parts, "--set", "landmarker.options.looks=2")
    assert refused.exit_code == 1
    assert "as in hand.landmarker.options.looks=2" in refused.stderr


def test_parts_that_are_not_there_are_named(photo, tmp_path):
    one_of_two = run("fit", photo, "--part", "face", "--part", "hand", "--out", tmp_path)
    assert one_of_two.exit_code == 0
    assert "found" not in one_of_two.stderr
    Image.new("RGB", (64, 64)).save(tmp_path / "grey.png")
    none = run("fit", tmp_path / "grey.png", "--part", "face,hand", "--out", tmp_path)
    assert none.exit_code == 0
    assert "no face or hand found" in none.stderr


def test_an_earlier_fit_that_is_removed_is_named(photo, tmp_path):
    assert run("fit", photo, "--out", tmp_path, "--format", "obj").exit_code == 0
    second = run("fit", photo, "--part", "hand", "--out", tmp_path)
    assert (
        "removed from an earlier fit: astronaut-0.json, astronaut-0.obj, astronaut-overlay.png"
        in second.stderr
    )


def test_a_few_lines_are_a_configuration(file, tmp_path):
    config = tmp_path / "few.toml"
    config.write_text(
        '[[pipelines]]\npart = "hand"\n'
        "[pipelines.landmarker.options]\nlooks = 3\n[pipelines.settings]\nmin_confidence = 0.1\n"
    )
    result = run("fit", file, "--config", config, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    toml = (tmp_path / "partfit.toml").read_text()
    for line in ('name = "mediapipe-hand"', "looks = 3", "min_confidence = 0.1", 'kernel = "huber"'):
        assert line in toml
    config.write_text('part = "hnad"\n')
    unknown = run("fit", file, "--config", config, "--out", tmp_path)
    assert f"{config}: No recipe named 'hnad'. Did you mean 'hand'?" in unknown.stderr


def test_named_angles_keep_their_names_in_every_file(photo, tmp_path):
    formats = ("--format", "csv", "--format", "npz")
    result = run("fit", photo.with_name("hand.png"), "--part", "hand", "--out", tmp_path, *formats)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "hand-0.json").read_text())
    names = document["names"]["hand_pose"]
    assert len(names) == len(document["parameters"]["hand_pose"]) == 28
    header, row = (tmp_path / "hand-0.csv").read_text().splitlines()
    assert header.split(",")[2:] == names
    np.testing.assert_allclose(np.array(row.split(",")[2:], float), document["parameters"]["hand_pose"])
    with np.load(tmp_path / "hand-0.npz") as arrays:
        assert arrays["names/hand_pose"].tolist() == names


def test_a_point_set_to_null_is_left_out_in_space_too(hands, photo, tmp_path):
    picture = photo.with_name("hand.png")
    assert run("landmarks", picture, "--part", "hand", "--out", tmp_path).exit_code == 0
    landmarks = tmp_path / "hand-landmarks.json"
    document = json.loads(landmarks.read_text())
    (detection,) = document["detections"]
    tip = detection["names"].index("index_tip")
    poses = []
    for wild in (0.0, 0.5):
        detection["points"][tip] = None
        detection["points_3d"][tip][0] += wild
        landmarks.write_text(json.dumps(document))
        fitted = run("fit", picture, "--part", "hand", "--landmarks", landmarks, "--out", tmp_path / "fit")
        assert fitted.exit_code == 0, fitted.output
        poses.append(json.loads((tmp_path / "fit" / "hand-0.json").read_text())["parameters"]["hand_pose"])
    np.testing.assert_array_equal(*poses)


def test_single_keys_can_be_set(photo, tmp_path):
    keys = [
        "settings.min_confidence=0.25",
        "fitter.options.damping=additive",
        "settings.stages.1.iterations=7",
    ]
    chosen = [word for key in keys for word in ("--set", key)]
    result = run("fit", photo, *chosen, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    toml = (tmp_path / "partfit.toml").read_text()
    assert "min_confidence = 0.25" in toml
    assert 'damping = "additive"' in toml
    assert "iterations = 7" in toml
    for setting, message in (
        ("settings.min_confidence=2", "min_confidence: expected a number in [0, 1]"),
        ("landmarker.optons.looks=8", 'Did you mean "options"?'),
        ("device.x=1", "nothing that 'x' could name"),
        ("settings.stages.9.kernel=none", "nothing that '9' could name"),
        ("settings.stages.9=1", "nothing that '9' could name"),
        ("settings.stages.0.free.0.x=1", "nothing that 'x' could name"),
        ("device", "expected KEY=VALUE"),
        ("part=hand", "Use --part hand"),
        ("landmarker=mediapipe-face", "Use --landmarker mediapipe-face"),
    ):
        refused = run("fit", photo, "--set", setting, "--out", tmp_path)
        assert refused.exit_code == 1
        assert message in refused.stderr


def hand_picture(photo):
    return np.asarray(Image.open(photo.with_name("hand.png")).convert("RGB"))


def cut_by_the_border(photo):
    return hand_picture(photo)[60:, 130:]  # without fingertips and little finger


def overlapping(photo):
    hand = hand_picture(photo)
    canvas = np.full((400, 480, 3), 120, np.uint8)
    canvas[:, :320] = hand
    canvas[:, 230:] = hand[:, ::-1][:, 70:]  # a left hand over the thumb of the right one
    return canvas


def glove_like_blob(photo):
    y, x = np.mgrid[0:300, 0:300]
    mitten = ((x - 150) / 70) ** 2 + ((y - 160) / 110) ** 2 < 1
    mitten |= ((x - 230) / 45) ** 2 + ((y - 190) / 25) ** 2 < 1
    return np.where(mitten[..., None], np.array([190, 140, 110]), 90).astype(np.uint8)


def a_face_alone(photo):
    return np.asarray(Image.open(photo).convert("RGB"))


@pytest.mark.parametrize(
    ("make", "expected"),
    [(cut_by_the_border, 1), (overlapping, 2), (glove_like_blob, 0), (a_face_alone, 0)],
)
def test_odd_pictures_of_hands(hands, photo, make, expected):
    (result,) = hands(make(photo))
    assert len(result) == expected
    for hand in result:
        check_possible(hand)


def test_a_glove_that_is_taken_for_a_hand_is_a_possible_hand(hands, photo):
    """The landmarker, made to accept anything, and told where to look."""
    picture = load_picture(glove_like_blob(photo))
    landmarker = partfit.create("landmarker", "mediapipe-hand", threshold=0.0)
    whole = Region((149.5, 149.5), (300.0, 300.0))
    (detections,) = landmarker.locate([picture.pixels], [[whole]])
    (found,) = hands.fit([picture], [detections])
    assert len(found) == 1
    check_possible(found[0])


def check_possible(hand):
    assert hand.status is not FitStatus.FAILED
    assert np.isfinite(hand.vertices).all()
    assert hand.vertices[:, 2].min() > 0
    pose = hand.model.group("hand_pose")
    assert (hand.parameters["hand_pose"] >= pose.lower - 1e-5).all()
    assert (hand.parameters["hand_pose"] <= pose.upper + 1e-5).all()


def test_overlapping_hands_keep_their_sides(hands, photo):
    (result,) = hands(overlapping(photo))
    assert {hand.side for hand in result} == {"left", "right"}
