import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partfit.landmarks import LandmarkScheme
from partfit.learning.backbones import BackboneConfig
from partfit.learning.batches import Batch
from partfit.learning.calibration import Calibration
from partfit.learning.curves import Curves, read_curves
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit.learning.evaluation import area_under_curve, evaluate
from partfit.learning.networks import LandmarkNetwork, NetworkConfig
from partfit.learning.pictures import TILE, draw_samples
from partfit.pipeline_config import Choice


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_the_area_is_the_share_of_pairs_in_the_right_order(pairs):
    scores, positive = np.array([s for s, _ in pairs], dtype=float), np.array([p for _, p in pairs])
    if positive.all() or not positive.any():
        return
    right = scores[positive][:, None] - scores[~positive][None]
    expected = np.mean(np.where(right == 0, 0.5, right > 0))
    assert area_under_curve(scores, positive) == pytest.approx(expected)


def test_figures_are_those_of_the_definitions():
    scheme = LandmarkScheme("three", ["a", "b", "c"])
    config = NetworkConfig(
        BackboneConfig("mobilenetv3_small_050"), 64, likelihood=Choice("ngll"), visibility=True
    )
    torch.manual_seed(0)
    network = LandmarkNetwork(config, scheme)
    rng = np.random.default_rng(0)
    batches, errors, z, areas, total = [], [], [], [], 0.0
    for size in (3, 2):
        images = torch.rand(size, 3, 64, 64)
        points = torch.as_tensor(rng.uniform(-0.4, 0.4, (size, 3, 2)), dtype=torch.float32)
        weight = torch.tensor([[1.0, 2.0, 0.0]]).repeat(size, 1)
        visible = torch.tensor([[1.0, 0.0, np.nan]]).repeat(size, 1)
        # crops of 40 picture pixels, turned, around boxes of 20 x 30
        c, s = 40 * np.cos(0.3), 40 * np.sin(0.3)
        matrix = torch.tensor([[c, -s, 50.0], [s, c, 60.0]], dtype=torch.float32).repeat(size, 1, 1)
        box = torch.tensor([[40.0, 45.0, 60.0, 75.0]]).repeat(size, 1)
        targets = LandmarkTargets(points, weight, visible)
        batches.append(Batch(images, targets, ("x",) * size, torch.arange(size), box, matrix))
        with torch.no_grad():
            said = network.eval()(images)
        for k in range(size):
            for landmark, w in ((0, 1.0), (1, 2.0)):
                difference = (said.mean - points)[k, landmark].numpy().astype(float)
                sigma = said.scale[k, landmark].numpy().astype(float)
                errors.append((w, np.hypot(*difference)))
                z += list(difference / sigma)
                total += w * sum(0.5 * (difference / sigma) ** 2 + np.log(sigma) + 0.5 * np.log(2 * np.pi))
            a, b = said.visibility[k, :2].tolist()
            areas.append(0.5 if a == b else float(a > b))
    network.train()
    values = evaluate(network, batches)
    assert network.training
    weights, distances = np.array(errors).T
    mean = (weights * distances).sum() / weights.sum()
    assert values["error_px"] == pytest.approx(mean * 64, rel=1e-5)
    assert values["error_box"] == pytest.approx(mean * 40 / np.sqrt(20 * 30), rel=1e-5)
    assert values["nll"] == pytest.approx(total / weights.sum(), rel=1e-4)
    assert values["rms_z"] == pytest.approx(np.sqrt(np.mean(np.square(z))), rel=1e-4)
    assert values["robust_z"] == pytest.approx(np.median(np.abs(z)) / 0.67448975, rel=1e-4)
    assert values["visibility_auc"] == pytest.approx(np.mean(areas))
    halved = evaluate(network, batches, Calibration((2.0, 2.0), (2.0, 2.0)))
    assert halved["rms_z"] == pytest.approx(values["rms_z"] / 2, rel=1e-5)
    assert halved["error_px"] == values["error_px"]


def test_curves_go_on_after_the_rows_of_a_step(tmp_path):
    curves = Curves(tmp_path, 0)
    for step in (1, 2, 3):
        curves.add(step, "train", {"loss": float(step), "odd": float("nan")})
    curves.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "cur')  # killed while writing
    assert [row["step"] for row in read_curves(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    curves = Curves(tmp_path, 2)
    curves.add(3, "train", {"loss": 7.0})
    curves.close()
    rows = read_curves(tmp_path / "metrics.jsonl")
    assert rows[1:] == [
        {"step": 2, "curve": "train", "loss": 2.0, "odd": None},
        {"step": 3, "curve": "train", "loss": 7.0},
    ]


def test_samples_are_drawn_where_they_are_predicted_in_the_colours_of_their_scales():
    mean = torch.tensor([[[-0.25, -0.25], [0.25, 0.25]]]).repeat(5, 1, 1)
    log_scale = torch.tensor([0.001, 0.5]).log()[None, :, None].repeat(5, 1, 2)
    picture = draw_samples(torch.zeros(5, 3, 32, 32), LandmarkDistribution(mean, log_scale))
    assert picture.shape == (2 * TILE, 4 * TILE, 3)
    certain, uncertain = picture[TILE // 4, TILE // 4], picture[3 * TILE // 4, 3 * TILE // 4]
    assert certain[1] > 200 > certain[0]
    assert uncertain[0] > 200 > uncertain[1]
    assert (picture[TILE // 2, TILE // 2] == 0).all()
