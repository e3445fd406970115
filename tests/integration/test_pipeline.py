"""From a photograph to vertices with the default components."""

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

import partfit
from partfit.config import read_toml, write_toml
from partfit.errors import ComponentError, ConfigError, InputError
from partfit.fitting import FitStatus, LevenbergMarquardt
from partfit.images import load_picture
from partfit.landmarks import Landmarker, LandmarkScheme
from partfit.pipeline import Pipeline
from partfit.pipeline_config import Choice, PipelineConfig


@pytest.fixture(scope="module")
def face(pipeline, photo):
    (result,) = pipeline(photo)
    assert len(result) == 1
    return result[0]


def test_the_face_is_met(face):
    width, height = face.detection.box[2:] - face.detection.box[:2]
    assert face.status is FitStatus.CONVERGED
    assert face.rms_px < 0.015 * np.sqrt(width * height)
    distance = np.linalg.norm(face.projected() - face.detection.points, axis=1)
    assert np.median(distance) < 0.01 * np.sqrt(width * height)


def test_the_head_is_a_head_before_the_camera(face):
    extent = np.ptp(face.vertices, axis=0)
    assert 0.13 < extent[0] < 0.25  # metres
    assert 0.2 < extent[1] < 0.35
    assert 0.4 < face.vertices[:, 2].min() < 3
    nose, ear = face.vertices[face.model.topology.region("face")], face.model.topology.region("ears")
    assert nose[:, 2].min() < face.vertices[ear][:, 2].min(), "the face must look at the camera"


def test_she_smiles(face):
    names = face.model.group("expression").names
    expression = dict(zip(names, face.parameters["expression"], strict=True))
    assert expression["mouthSmileLeft"] > 0.2
    assert expression["mouthSmileRight"] > 0.2
    assert expression["eyeBlinkLeft"] < 0.4


def test_parameters_are_plausible(face):
    betas = face.parameters["betas"]
    assert np.sqrt((betas**2).mean()) < 1.2
    assert np.abs(betas).max() < 4.5
    expression = face.parameters["expression"]
    assert ((expression >= 0) & (expression <= 1)).all()
    for frozen in ("neck_pose", "jaw_pose"):
        assert (face.parameters[frozen] == 0).all()
    for unseen in ("leye_pose", "reye_pose"):  # no landmark rests on the irises
        assert np.degrees(np.abs(face.parameters[unseen])).max() < 1


def test_the_eyes_follow_the_irises_when_they_are_asked_for(photo, face):
    (looking,) = Pipeline(landmarker="mediapipe-face-iris")(photo)[0]
    assert len(looking.detection.points) == 478
    pixels = np.linalg.norm(looking.projected() - looking.detection.points, axis=1)[468:]
    assert pixels.max() < 2.5
    for eye in ("leye_pose", "reye_pose"):
        assert np.abs(looking.parameters[eye]).max() > 0.005
        assert np.degrees(np.abs(looking.parameters[eye])).max() < 10, "she looks into the camera"
    eyes = face.model.topology.region("left_eyeball")
    rest = np.setdiff1d(
        np.arange(len(face.vertices)), np.concatenate([eyes, face.model.topology.region("right_eyeball")])
    )
    assert np.linalg.norm(looking.vertices[rest] - face.vertices[rest], axis=1).mean() < 2e-3


def test_frames_differ_by_the_rigid_motion_only(face):
    model_frame = face.vertices_model_frame
    some = slice(None, None, 97)
    a, b = (np.linalg.norm(v[some, None] - v[None, some], axis=2) for v in (face.vertices, model_frame))
    np.testing.assert_allclose(a, b, atol=2e-6)
    topology = face.model.topology
    front, sides = (model_frame[topology.region(name), 2].mean() for name in ("face", "ears"))
    assert front > sides + 0.05, "the model frame looks along +z"


def test_a_resized_picture_gives_the_same_head(pipeline, photo, face):
    image = Image.open(photo)
    larger = np.asarray(image.resize((1024, 1024), Image.Resampling.BICUBIC))
    twice = pipeline(larger)[0][0]
    expected = (face.detection.points + 0.5) * 2 - 0.5
    size = np.sqrt(np.prod(twice.detection.box[2:] - twice.detection.box[:2]))
    assert np.linalg.norm(twice.detection.points - expected, axis=1).mean() < 0.02 * size
    assert np.linalg.norm(twice.vertices - face.vertices, axis=1).mean() < 0.03 * face.vertices[:, 2].mean()


def test_several_faces_in_pictures_of_mixed_sizes(pipeline, photo):
    one = np.asarray(Image.open(photo))
    two = np.concatenate(
        [one[:300, 80:380], np.full((300, 40, 3), 90, np.uint8), one[:300, 100:400, ::1]], axis=1
    )
    nothing = np.full((50, 300, 3), 127, np.uint8)
    results = pipeline([two, nothing, one])
    assert [len(result) for result in results] == [2, 0, 1]
    for result in results:
        for instance in result:
            assert instance.status is FitStatus.CONVERGED
    alone = pipeline(one)[0][0]
    np.testing.assert_allclose(results[2][0].vertices, alone.vertices, atol=5e-5)


def test_a_rotated_photograph(pipeline, photo, face):
    quarter = np.rot90(np.asarray(Image.open(photo)))
    turned = pipeline(np.asarray(Image.open(photo).rotate(30, expand=True, fillcolor=(128, 128, 128))))[0]
    assert len(turned) == 1
    assert turned[0].status is FitStatus.CONVERGED
    betas = turned[0].parameters["betas"]
    assert (
        np.linalg.norm(betas - face.parameters["betas"]) < 0.6 * np.linalg.norm(face.parameters["betas"]) + 2
    )
    for result in pipeline(quarter):
        for instance in result:
            assert instance.status is not FitStatus.FAILED


def test_a_bad_picture_among_good_ones(pipeline, photo, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    results = pipeline([broken, photo])
    assert isinstance(results[0].error, InputError)
    assert "broken.jpg" in str(results[0].error)
    assert len(results[0]) == 0
    assert len(results[1]) == 1


def test_fit_raises_for_a_single_bad_picture(tmp_path):
    with pytest.raises(InputError, match=r"missing\.jpg"):
        partfit.fit(tmp_path / "missing.jpg")
    (result,) = partfit.fit([tmp_path / "missing.jpg"])
    assert isinstance(result.error, InputError)


def test_landmarks_that_are_unknown_are_left_out(pipeline, photo, face):
    picture = load_picture(photo)
    points, scale = face.detection.points.copy(), face.detection.scale.copy()
    points[:100] = np.nan
    scale[100:150] = np.inf
    spoilt = attrs.evolve(face.detection, points=points, scale=scale)
    hopeless = attrs.evolve(face.detection, points=np.full((468, 2), np.nan))
    fitted, failed = pipeline.fit([picture], [[spoilt, hopeless]])[0]
    assert fitted.status is FitStatus.CONVERGED
    assert failed.status is FitStatus.FAILED
    assert "0 of 468 landmarks are usable" in failed.message
    assert np.isfinite(fitted.vertices).all()


def test_the_thesis_preset_frees_all(photo):
    instance = Pipeline(preset="thesis")(photo)[0][0]
    assert instance.status is not FitStatus.FAILED
    assert (instance.parameters["jaw_pose"] != 0).any()
    assert instance.result.problem.weighting == "confidence"


def test_float64_and_float32_agree(pipeline, photo, face):
    precise = Pipeline(dtype="float64")(photo)[0][0]
    assert precise.result.x.dtype == torch.float64
    np.testing.assert_allclose(face.vertices, precise.vertices, atol=3e-3)


def test_focal_lengths(photo):
    given = Pipeline(focal=1500.0)(photo)[0][0]
    assert given.camera.focal.tolist() == [1500.0]
    wide = Pipeline(field_of_view=np.pi / 2)(photo)[0][0]
    assert wide.camera.focal.tolist() == pytest.approx([512 * np.sqrt(2) / 2])
    assert wide.vertices[:, 2].mean() < given.vertices[:, 2].mean()


def test_objects_may_be_passed_for_names(photo):
    pipeline = Pipeline(model=partfit.create("model", "anny-head", n_betas=20), fitter=LevenbergMarquardt())
    assert pipeline(photo)[0][0].parameters["betas"].shape == (20,)
    assert pipeline.component_names["fitter"] == "LevenbergMarquardt"
    with pytest.raises(ConfigError, match="was given as an object"):
        pipeline.to_config()


def test_configurations_round_trip(tmp_path):
    pipeline = Pipeline(
        model=Choice("anny-head", {"n_betas": 20}), fitter=Choice("lm", {"damping": "additive"}), focal=900.0
    )
    write_toml(pipeline.to_config(), tmp_path / "a.toml")
    again = Pipeline.from_config(read_toml(tmp_path / "a.toml", PipelineConfig))
    assert again.to_config() == pipeline.to_config()
    assert again.model.group("betas").size == 20
    assert again.fitter.config.damping == "additive"


def test_wrong_configurations_are_refused():
    with pytest.raises(ConfigError, match=r"modl.*Did you mean"):
        Pipeline.from_config({"modl": {"name": "anny-head"}})
    with pytest.raises(ComponentError, match="Did you mean 'anny-head'"):
        _ = Pipeline(model="any-head").model
    with pytest.raises(ConfigError, match=r"no preset 'thesys'.*thesis"):
        Pipeline(preset="thesys")
    with pytest.raises(ConfigError, match="not both"):
        Pipeline(focal=100.0, field_of_view=1.0)
    for wrong, message in [
        ({"focal": -5.0}, "focal: expected a length in pixels"),
        ({"field_of_view": 4.0}, "radians between 0 and pi"),
        ({"device": "gpu"}, "device: expected a device of this machine, found 'gpu'"),
        ({"dtype": "float16"}, "expected 'float32' or 'float64', found 'float16'"),
        (
            {"fitter": LevenbergMarquardt},
            "fitter: expected a name, a Choice or a Fitter object, found the class",
        ),
        (
            {"model": LevenbergMarquardt()},
            "model: expected .* ParametricModel object, found a LevenbergMarquardt",
        ),
    ]:
        with pytest.raises(ConfigError, match=message):
            Pipeline(**wrong)


def test_a_recipe_may_be_passed_and_has_no_name_to_write_down(photo):
    recipe = partfit.create("recipe", "face")
    pipeline = Pipeline(attrs.evolve(recipe, part="my-face", model="anny-head"))
    assert len(pipeline(photo)[0]) == 1
    with pytest.raises(ConfigError, match="part: was given as an object"):
        pipeline.to_config()
    qualified = Pipeline("partfit-anny:face")
    assert Pipeline.from_config(qualified.to_config()).config.part == "partfit-anny:face"


def test_landmarks_alone_need_no_model(photo):
    pipeline = Pipeline(model="no-such-model")
    (detections,) = pipeline.locate([load_picture(photo)])
    assert len(detections) == 1
    with pytest.raises(ComponentError, match="no-such-model"):
        pipeline(photo)


class Mute(Landmarker):
    scheme = LandmarkScheme("mediapipe468", [f"p{i}" for i in range(468)])

    def locate(self, images, regions):
        return None


def test_a_plugin_that_answers_nonsense_is_named(photo):
    with pytest.raises(ComponentError, match=r"Mute\.locate returned None; expected one list for each of 1"):
        Pipeline(landmarker=Mute())(photo)


def test_a_batch_size_of_nothing_is_refused(pipeline, photo):
    with pytest.raises(InputError, match="batch_size: expected 1 or more"):
        list(pipeline.stream([photo], batch_size=0))
