"""The same vertices and joints as smplx and body-models, over 200 random draws."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import partfit
from partfit.testing.official.mano import TIPS, write_mano

N_DRAWS = 200
SIDES = ("right", "left")
#: smplx's joints and tip vertices in the order of `hand21`.
IN_SMPLX = (
    0,
    13,
    14,
    15,
    "thumb",
    1,
    2,
    3,
    "index",
    4,
    5,
    6,
    "middle",
    10,
    11,
    12,
    "ring",
    7,
    8,
    9,
    "little",
)


def mano(folder, side, **options):
    """The left file taken as it is, as the peers take it."""
    return partfit.create("model", "mano", path=str(folder), side=side, left_shapedirs="file", **options)


def draws(n_pose, dtype, seed=0):
    """Shapes, root rotations of any angle up to half a turn, poses, translations."""
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(N_DRAWS, 3))
    orient = axes / np.linalg.norm(axes, axis=1, keepdims=True) * rng.uniform(0, np.pi, (N_DRAWS, 1))
    values = {
        "betas": rng.normal(size=(N_DRAWS, 10)),
        "global_orient": orient,
        "hand_pose": rng.normal(size=(N_DRAWS, n_pose)) * 0.5,
        "transl": rng.normal(size=(N_DRAWS, 3)) * 0.3,
    }
    return {name: torch.as_tensor(value, dtype=dtype) for name, value in values.items()}


def check(model, parameters, vertices, joints, tolerance):
    x = model.pack(parameters, like=parameters["betas"])
    for own, other in ((model.vertices(x), vertices), (model.joints(x), joints)):
        torch.testing.assert_close(own, other.to(own.dtype), rtol=0, atol=tolerance)
    in_order = [vertices[:, TIPS[i]] if isinstance(i, str) else joints[:, i] for i in IN_SMPLX]
    own = model.points(x)[:, 778:]
    torch.testing.assert_close(own, torch.stack(in_order, dim=1).to(own.dtype), rtol=0, atol=tolerance)


class TestSmplx:
    @pytest.fixture
    def smplx(self):
        return pytest.importorskip("smplx")

    def peer(self, smplx, entries, cls="MANO", **options):
        struct = smplx.utils.Struct(**entries)
        return getattr(smplx, cls)(model_path="", data_struct=struct, batch_size=N_DRAWS, **options)

    @pytest.mark.parametrize("side", SIDES)
    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("n_pca", [None, 6, 12])
    def test_single_precision(self, smplx, entries, folder, side, flat, n_pca):
        pca = {"use_pca": False} if n_pca is None else {"use_pca": True, "num_pca_comps": n_pca}
        peer = self.peer(smplx, entries[side], flat_hand_mean=flat, **pca)
        own = {} if n_pca is None else {"pose": "pca", "n_pca": n_pca}
        model = mano(folder, side, flat_hand_mean=flat, **own)
        parameters = draws(n_pca or 45, torch.float32)
        with torch.no_grad():
            out = peer(**parameters)
        check(model, parameters, out.vertices, out.joints, 1e-5)

    @pytest.mark.parametrize("side", SIDES)
    def test_all_components(self, smplx, entries, folder, side):
        """smplx takes 45 components for rotvecs; the rotvecs that they stand for are given to it here."""
        peer = self.peer(smplx, entries[side], use_pca=False)
        model = mano(folder, side, pose="pca", n_pca=45)
        parameters = draws(45, torch.float32)
        components = torch.as_tensor(entries[side]["hands_components"], dtype=torch.float32)
        with torch.no_grad():
            out = peer(**{**parameters, "hand_pose": parameters["hand_pose"] @ components})
        check(model, parameters, out.vertices, out.joints, 1e-5)

    @pytest.mark.parametrize("side", SIDES)
    def test_double_precision_by_rotation_matrices(self, smplx, entries, tmp_path, side):
        """`MANOLayer` takes matrices, adds no mean pose, and rounds the arrays to single precision."""
        rounded = {name: _rounded(value) for name, value in entries[side].items()}
        write_mano(tmp_path / f"MANO_{side.upper()}.pkl", rounded)
        peer = self.peer(smplx, rounded, "MANOLayer", dtype=torch.float64)
        model = mano(tmp_path, side)
        parameters = draws(45, torch.float64)
        rotvecs = parameters["hand_pose"] + torch.as_tensor(rounded["hands_mean"])
        with torch.no_grad():
            out = peer(
                betas=parameters["betas"],
                global_orient=_matrices(parameters["global_orient"]),
                hand_pose=_matrices(rotvecs),
                transl=parameters["transl"],
            )
        check(model, parameters, out.vertices, out.joints, 1e-10)

    def test_a_mended_left_file(self, smplx, entries, folder):
        """By default the shape directions of the official left file are mirrored, as users of smplx do."""
        mended = {**entries["left"], "shapedirs": entries["left"]["shapedirs"] * [[-1.0], [1.0], [1.0]]}
        peer = self.peer(smplx, mended, use_pca=False)
        parameters = draws(45, torch.float32)
        with torch.no_grad():
            out = peer(**parameters)
        model = partfit.create("model", "mano", path=str(folder), side="left")
        check(model, parameters, out.vertices, out.joints, 1e-5)


class TestBodyModels:
    @pytest.fixture
    def body_models(self):
        return pytest.importorskip("body_models.mano.torch")

    @pytest.mark.parametrize("side", SIDES)
    @pytest.mark.parametrize("flat", [False, True])
    def test_single_precision(self, body_models, folder, side, flat):
        peer = body_models.MANO(model_path=folder / f"MANO_{side.upper()}.pkl", flat_hand_mean=flat)
        self.compare(peer, mano(folder, side, flat_hand_mean=flat))

    def test_npz(self, body_models, entries, tmp_path):
        write_mano(tmp_path / "MANO_RIGHT.npz", entries["right"])
        peer = body_models.MANO(model_path=tmp_path / "MANO_RIGHT.npz")
        self.compare(peer, mano(tmp_path, "right"))

    @staticmethod
    def compare(peer, model):
        """Its `wrist_rotation` is our `global_orient`; its `global_rotation` is about the origin."""
        parameters = draws(45, torch.float32)
        given = {
            "hand_pose": parameters["hand_pose"].unflatten(1, (15, 3)),
            "wrist_rotation": parameters["global_orient"],
            "shape": parameters["betas"],
            "global_translation": parameters["transl"],
        }
        vertices, joints = peer.forward_vertices(**given), peer.forward_skeleton(**given)[..., :3, 3]
        check(model, parameters, vertices, joints, 1e-5)


def _rounded(value):
    reals = isinstance(value, np.ndarray) and value.dtype == np.float64
    return value.astype(np.float32).astype(np.float64) if reals else value


def _matrices(rotvecs):
    matrices = Rotation.from_rotvec(rotvecs.reshape(-1, 3).numpy()).as_matrix()
    return torch.as_tensor(matrices).reshape(len(rotvecs), -1, 3, 3)
