"""From a picture back to the foot that was photographed."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import partfit
from partfit.cli import main
from partfit.geometry.camera import Camera
from partfit_foot.foot import Foot
from partfit_foot.markers import SCHEME, left_markers, right_markers
from partfit_foot.photograph import example_state, photograph
from partfit_foot.stickers import StickerDetector, StickerLandmarker

MARKERS = {"left": left_markers, "right": right_markers}


@pytest.fixture(scope="module", params=["left", "right"])
def taken(request):
    """A foot, its parameters and its picture."""
    model = Foot(Foot.Config(request.param))
    x = example_state(model)
    return model, x, photograph(model, x)


def test_stickers_are_found_where_they_are(taken):
    model, x, picture = taken
    ((found,),) = StickerLandmarker().locate([picture], StickerDetector().detect([picture]))
    landmarks = model.landmarks(MARKERS[model.config.side](), x).points(x)
    expected = Camera.for_images([picture.shape[1::-1]]).to(x).project(landmarks)[0].numpy()
    away = np.linalg.norm(found.points - expected, axis=1)
    assert found.side == model.config.side
    assert away.max() < 1.5
    assert (found.confidence == 1).all()


def test_a_sticker_that_is_hidden_is_not_known(taken):
    _, _, picture = taken
    regions = StickerDetector().detect([picture])
    ((found,),) = StickerLandmarker().locate([picture], regions)
    instep = SCHEME.names.index("instep")
    x, y = np.rint(found.points[instep]).astype(int)
    covered = picture.copy()
    covered[y - 8 : y + 9, x - 8 : x + 9] = 128
    ((fewer,),) = StickerLandmarker().locate([covered], regions)
    assert np.flatnonzero(~fewer.usable).tolist() == [instep]
    assert fewer.confidence[instep] == 0


def test_the_foot_is_recovered(taken):
    """To 1.5 mm on average in the model's frame, and to a hundredth of the distance in the camera's."""
    model, x, picture = taken
    ((instance,),) = partfit.fit([picture], "foot")
    assert instance.side == model.config.side
    assert instance.rms_px < 0.5
    own_shape = model.vertices(model.without_rigid_motion(x))[0].numpy()
    away_mm = 1e3 * np.linalg.norm(instance.vertices_model_frame - own_shape, axis=1)
    assert away_mm.mean() < 1.5
    assert away_mm.max() < 3
    placed_mm = 1e3 * np.linalg.norm(instance.vertices - model.vertices(x)[0].numpy(), axis=1)
    assert placed_mm.max() < 10
    truth = model.unpack(x)
    assert np.abs(instance.parameters["foot_pose"] - truth["foot_pose"][0].numpy()).max() < np.radians(4)
    assert np.abs(instance.parameters["betas"] - truth["betas"][0].numpy()).max() < 0.5


def test_it_is_a_part_on_the_command_line(taken, tmp_path):
    model, x, picture = taken
    Image.fromarray(picture).save(tmp_path / "foot.png")
    arguments = [
        "fit",
        str(tmp_path / "foot.png"),
        "--part",
        "foot",
        "--out",
        str(tmp_path / "out"),
        "--panel",
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "out" / "foot-0.json").read_text())
    assert document["side"] == model.config.side
    assert document["names"]["betas"] == ["length", "width", "arch", "toe_length"]
    length = model.unpack(x)["betas"][0, 0].item()
    assert abs(document["parameters"]["betas"][0] - length) < 0.3
    assert (tmp_path / "out" / "foot-0.glb").exists()
