"""What `mano` makes of its options and of the variants of its file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import partfit
from partfit.errors import ConfigError, InputError
from partfit.fitting import FitStatus
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.model_files import write_model_file
from partfit.models.base import ForwardModeLandmarks
from partfit.pipeline import Choice
from partfit.testing.official.mano import TIPS, write_mano

MIRROR = np.array([-1.0, 1.0, 1.0])
#: What a mirror does to rotvecs.
MIRROR_ROTVEC = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)


def mano(path, **options):
    return partfit.create("model", "mano", path=str(path), **options)


def states(model, batch=3, seed=0, size=0.5):
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(batch, model.n_parameters, generator=generator, dtype=torch.float64)


def mirrored_state(model, x):
    parameters = model.unpack(x.clone())
    parameters["global_orient"] = parameters["global_orient"] * MIRROR_ROTVEC
    parameters["transl"] = parameters["transl"] * torch.as_tensor(MIRROR)
    if model.config.pose == "axis-angle":
        parameters["hand_pose"] = parameters["hand_pose"] * MIRROR_ROTVEC.repeat(15)
    return model.pack(parameters, like=x)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_every_kind_of_file_loads_alike(entries, folder, tmp_path, suffix, side):
    path = tmp_path / f"MANO_{side.upper()}{suffix}"
    if suffix == ".npz":
        write_mano(path, entries[side])
    else:
        write_model_file(path, entries[side], {})
    x = states(mano(folder, side=side))
    for own in (path, tmp_path):
        expected = mano(folder, side=side).points(x)
        torch.testing.assert_close(mano(own, side=side).points(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("left_shapedirs", ["auto", "file", "flipped"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_single_precision_and_any_order_in_memory_load_alike(entries, tmp_path, side, left_shapedirs):
    """Arrays column by column are what transposed ones are written as."""
    single, turned = ({}, {})
    for name, value in entries[side].items():
        reals = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        single[name] = value.astype(np.float32) if reals else value
        turned[name] = np.asfortranarray(single[name].astype(np.float64)) if reals else value
    models = []
    for kind, content in (("single", single), ("turned", turned)):
        write_mano(tmp_path / f"{kind}.npz", content)
        models.append(mano(tmp_path / f"{kind}.npz", side=side, left_shapedirs=left_shapedirs))
    x = states(models[0])
    torch.testing.assert_close(*(model.points(x) for model in models), rtol=0, atol=1e-12)
    own = mano_of(entries, tmp_path, side, left_shapedirs)
    torch.testing.assert_close(models[0].points(x), own.points(x), rtol=0, atol=1e-6)


def mano_of(entries, folder, side, left_shapedirs):
    write_mano(folder / "own.npz", entries[side])
    return mano(folder / "own.npz", side=side, left_shapedirs=left_shapedirs)


def test_a_folder_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert mano(f"~/{folder.name}").topology.name == "mano-right"


def test_a_root_without_a_parent_may_be_minus_one(entries, folder, tmp_path):
    tree = entries["right"]["kintree_table"].copy()
    tree[0, 0] = -1
    write_mano(tmp_path / "MANO_RIGHT.npz", {**entries["right"], "kintree_table": tree})
    x = states(mano(folder))
    torch.testing.assert_close(mano(tmp_path).points(x), mano(folder).points(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"pose": "pca", "n_pca": 10}, {"flat_hand_mean": True}])
@pytest.mark.parametrize("left", ["MANO_RIGHT.pkl", "MANO_LEFT.pkl"])
def test_a_left_hand_is_the_mirror_image_of_a_right_one(folder, left, options):
    """Whether it comes from the right file or, with its shape directions mirrored, from the left one."""
    right, left = mano(folder, **options), mano(folder / left, side="left", **options)
    x = states(right)
    expected = right.points(x) * torch.as_tensor(MIRROR)
    torch.testing.assert_close(left.points(mirrored_state(right, x)), expected, rtol=0, atol=1e-12)


def test_the_shape_directions_of_the_official_left_file_can_be_kept(folder, entries, tmp_path):
    def dirs(path, choice):
        return mano(path, side="left", left_shapedirs=choice).arrays.shapedirs[:778]

    official = entries["left"]["shapedirs"]
    np.testing.assert_array_equal(dirs(folder, "file"), official)
    np.testing.assert_array_equal(dirs(folder, "flipped"), official * MIRROR[:, None])
    np.testing.assert_array_equal(dirs(folder, "auto"), official * MIRROR[:, None])
    sound = {**entries["left"], "shapedirs": official * MIRROR[:, None]}
    write_mano(tmp_path / "MANO_LEFT.npz", sound)
    np.testing.assert_array_equal(dirs(tmp_path, "auto"), sound["shapedirs"])
    np.testing.assert_array_equal(dirs(tmp_path, "flipped"), official)


@pytest.mark.parametrize("seed", range(4))
def test_the_side_is_told_by_the_content_however_it_is_turned(entries, tmp_path, seed):
    turn = Rotation.random(random_state=seed).as_matrix()
    for content, name in (("right", "MANO_LEFT"), ("left", "MANO_RIGHT")):
        turned = {**entries[content], "v_template": entries[content]["v_template"] @ turn.T}
        turned["hands_mean"] = (entries[content]["hands_mean"].reshape(-1, 3) @ turn.T).ravel()
        path = tmp_path / f"{name}.npz"
        write_mano(path, turned)
        assert mano(path, side="left").topology.name == "mano-left"
        if content == "right":
            mano(path)
        else:
            with pytest.raises(InputError, match="expected a right hand, found a left hand, the other hand"):
                mano(path)


def test_a_hand_is_told_without_a_mean_pose_by_its_thumb(entries, tmp_path):
    for side in ("right", "left"):
        write_mano(tmp_path / f"{side}.npz", {**entries[side], "hands_mean": np.zeros(45)})
    mano(tmp_path / "right.npz")
    with pytest.raises(InputError, match="the other hand"):
        mano(tmp_path / "left.npz")


def test_components_and_rotvecs_meet(entries, folder):
    """rotvecs = mean + coefficients @ components, without the mean for a flat hand."""
    for flat in (False, True):
        free = mano(folder, flat_hand_mean=flat)
        components = mano(folder, pose="pca", n_pca=9, flat_hand_mean=flat)
        x = states(components)
        coefficients = components.unpack(x)["hand_pose"]
        by_hand = coefficients @ torch.as_tensor(entries["right"]["hands_components"][:9])
        y = free.pack({**components.unpack(x), "hand_pose": by_hand}, like=x)
        torch.testing.assert_close(components.points(x), free.points(y), rtol=0, atol=1e-12)
        mean = torch.zeros(45, dtype=x.dtype) if flat else torch.as_tensor(entries["right"]["hands_mean"])
        torch.testing.assert_close(
            components.rotvecs(x)[:, 1:].flatten(1), by_hand + mean, rtol=0, atol=1e-12
        )


def test_the_prior_is_that_of_the_poses_in_the_file(entries, folder):
    """However the pose is written, the most likely one is their mean, and the spread is theirs."""
    mean, spread = entries["right"]["hands_mean"], entries["right"]["hands_coeffs"].std(axis=0, ddof=1)
    for options in ({}, {"flat_hand_mean": True}, {"pose": "pca", "n_pca": 45}):
        model = mano(folder, **options)
        group = model.group("hand_pose")
        x = model.pack(
            {"hand_pose": torch.as_tensor(group.prior_mean.copy())[None]}, like=torch.zeros(1, dtype=float)
        )
        np.testing.assert_allclose(model.rotvecs(x)[0, 1:].flatten(), mean, atol=1e-9)
        step = entries["right"]["hands_components"][0] * spread[0]
        coordinates = np.linalg.pinv(group.basis) @ step
        assert np.linalg.norm(group.sqrt_information @ coordinates) == pytest.approx(1, rel=1e-6)


def test_a_file_without_poses_has_a_plain_prior(entries, tmp_path):
    write_mano(tmp_path / "hand.npz", {k: v for k, v in entries["right"].items() if k != "hands_coeffs"})
    group = mano(tmp_path / "hand.npz", pose="pca", n_pca=7).group("hand_pose")
    np.testing.assert_array_equal(group.information, np.eye(7))
    np.testing.assert_allclose(group.prior_mean, 0, atol=1e-12)


def test_tips_are_vertices_and_names_are_those_of_hand21(folder):
    model = mano(folder)
    x = states(model)
    names = model.topology.virtual_points
    assert names[:6] == ("wrist", "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip", "index_mcp")
    points = dict(zip(names, model.points(x)[:, 778:].unbind(1), strict=True))
    for finger, vertex in TIPS.items():
        torch.testing.assert_close(points[f"{finger}_tip"], model.vertices(x)[:, vertex])
    scheme = pytest.importorskip("partfit_mediapipe.hand_scheme").hand21()
    assert model.embedding("hand21").scheme.hash == scheme.hash
    with pytest.raises(InputError, match="hand21"):
        model.embedding("ibug68")


@pytest.mark.parametrize("size", [0.3, 3.0])
@pytest.mark.parametrize("options", [{}, {"pose": "pca", "n_pca": 20, "side": "left"}])
def test_the_jacobian_is_that_of_automatic_differentiation(folder, options, size):
    """On joints, tips, and points inside triangles; poses up to several turns."""
    model = mano(folder, **options)
    x = states(model, batch=2, size=size)
    rng = np.random.default_rng(0)
    corners = model.topology.faces[rng.integers(0, len(model.topology.faces), 40)]
    scheme = LandmarkScheme("inside40", [f"p{i}" for i in range(40)])
    inside = LandmarkEmbedding(scheme, model.topology.name, corners, rng.dirichlet(np.ones(3), 40))
    for embedding in (model.embedding("hand21"), inside):
        projection = torch.randn(2, len(embedding.scheme), 2, 3, dtype=torch.float64)
        own = model.landmarks(embedding, x).linearize(x)
        automatic = ForwardModeLandmarks(model, embedding, x).linearize(x)
        jacobians = [each.jacobian(projection, tuple(model.slices)) for each in (own, automatic)]
        torch.testing.assert_close(*jacobians, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("option", [{"n_betas": 11}, {"n_betas": 0}, {"n_pca": 46}, {"pose": "quaternion"}])
def test_options_out_of_range_are_refused(folder, option):
    with pytest.raises(ConfigError, match=next(iter(option))):
        mano(folder, **option)


def test_the_path_is_required():
    with pytest.raises(ConfigError, match="path: missing"):
        partfit.create("model", "mano")


def test_a_photograph_is_fitted(hand_like_folder):
    """The whole way, with the Anny hand in MANO's format; MediaPipe sees the wrist elsewhere."""
    pytest.importorskip("partfit_mediapipe", reason="the recipe names partfit-mediapipe's components")
    picture = Path(__file__).parents[3] / "examples" / "hand.png"
    (result,) = partfit.fit([picture], "hand", model=Choice("mano", {"path": str(hand_like_folder)}))
    (hand,) = result
    assert hand.pipeline.recipe.model == "mano"
    assert hand.detection.side == "right"
    assert hand.status is not FitStatus.FAILED
    assert hand.rms_px < 0.04 * np.ptp(hand.detection.points[:, 1])


@pytest.mark.parametrize("side", ["left", "right"])
def test_views_of_it_alone_show_the_palm_with_the_fingers_up(hand_like_folder, side):
    """Its front is that of the conventions: fingers up, palm in front, the thumb of a right hand at +x."""
    hand = mano(hand_like_folder, side=side)
    points = hand.points(torch.zeros(1, hand.n_parameters, dtype=torch.float64))[0].numpy()
    upright = hand.topology.facing(points)[778:] * [1, -1, -1]
    tips = dict(zip(hand.topology.virtual_points, upright, strict=True))
    assert tips["middle_tip"][1] - tips["wrist"][1] > 0.1
    thumb = tips["thumb_tip"][0] - tips["wrist"][0]
    assert (thumb if side == "right" else -thumb) > 0.02
    assert np.isclose(np.linalg.det(hand.topology.front), 1)
