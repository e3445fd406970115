"""Rigged files, read as the glTF 2.0 specification says, move as the models do."""

from __future__ import annotations

import functools
import json
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import partfit
from partfit.errors import InputError, OutputError
from partfit.geometry.camera import Camera
from partfit.gltf import write_rig
from partfit.meshes import Frame, Mesh
from partfit.models import ParameterGroup, SkinnedModel
from partfit.testing.strategies import rotvecs
from partfit.testing.synthetic import synthetic_model

FRAMES: tuple[Frame, ...] = ("camera", "model")
#: From the frame of a rig to the axes of files.
AXES = {"camera": np.array([1, -1, -1]), "model": np.ones(3)}
READERS = Path(__file__).parent / "gltf"


class Scene:
    """A .glb file and what its nodes show.

    Source: the glTF 2.0 specification, sections 3.5 to 3.7 and 3.10.
    """

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        json_length, json_type = struct.unpack_from("<I4s", data, 12)
        assert json_type == b"JSON"
        self.json = json.loads(data[20 : 20 + json_length])
        binary_length, binary_type = struct.unpack_from("<I4s", data, 20 + json_length)
        assert (json_length % 4, binary_length % 4, binary_type) == (0, 0, b"BIN\0")
        self.binary = data[28 + json_length :]
        assert len(self.binary) == binary_length == self.json["buffers"][0]["byteLength"]
        (self.mesh,) = self.json["meshes"]
        (self.primitive,) = self.mesh["primitives"]
        (self.skin,) = self.json["skins"]

    def view(self, view: int, component: int, count: int, width: int, offset: int = 0) -> np.ndarray:
        dtype = np.dtype({5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}[component])
        layout = self.json["bufferViews"][view]
        offset += layout.get("byteOffset", 0)
        assert offset % dtype.itemsize == 0
        assert "byteStride" not in layout
        return np.frombuffer(self.binary, dtype, count * width, offset).reshape(count, width)

    def accessor(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        count, component = accessor["count"], accessor["componentType"]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
        values = np.zeros((count, width))
        if "bufferView" in accessor:
            values += self.view(
                accessor["bufferView"], component, count, width, accessor.get("byteOffset", 0)
            )
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            where, what = sparse["indices"], sparse["values"]
            rows = self.view(where["bufferView"], where["componentType"], sparse["count"], 1)[:, 0]
            assert (np.diff(rows.astype(int)) > 0).all()
            values[rows] = self.view(what["bufferView"], component, sparse["count"], width)
        for name, bound in (("min", values.min(axis=0)), ("max", values.max(axis=0))):
            np.testing.assert_array_equal(accessor.get(name, bound), bound)
        return values

    def attribute(self, name: str) -> np.ndarray:
        return self.accessor(self.primitive["attributes"][name])

    def targets(self, name: str) -> np.ndarray:
        """(N, 3, E)."""
        targets = self.primitive.get("targets", [])
        return np.stack([self.accessor(target[name]) for target in targets], axis=2)

    @property
    def faces(self) -> np.ndarray:
        return self.accessor(self.primitive["indices"]).astype(int).reshape(-1, 3)

    def node(self, name: str) -> dict[str, Any]:
        (found,) = [node for node in self.json["nodes"] if node["name"] == name]
        return found

    def world(self) -> dict[int, np.ndarray]:
        """The transform (4, 4) of each node of the scene."""
        found: dict[int, np.ndarray] = {}
        todo = [(node, np.eye(4)) for node in self.json["scenes"][self.json["scene"]]["nodes"]]
        while todo:
            index, parent = todo.pop()
            node, local = self.json["nodes"][index], np.eye(4)
            local[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
            local[:3, 3] = node.get("translation", [0, 0, 0])
            assert index not in found
            found[index] = parent @ local
            todo += [(child, found[index]) for child in node.get("children", [])]
        return found

    def joint_matrices(self) -> np.ndarray:
        inverse_bind = self.accessor(self.skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        world = self.world()
        return np.stack([world[joint] for joint in self.skin["joints"]]) @ inverse_bind

    def influences(self) -> tuple[np.ndarray, np.ndarray]:
        """Joints and weights (N, 4 sets)."""
        names = sorted(name for name in self.primitive["attributes"] if name.startswith("JOINTS_"))
        joints = [self.attribute(name).astype(int) for name in names]
        weights = [self.attribute(name.replace("JOINTS", "WEIGHTS")) for name in names]
        return np.concatenate(joints, axis=1), np.concatenate(weights, axis=1)

    def vertices(self) -> np.ndarray:
        """The vertices (N, 3) in world space."""
        rest = self.attribute("POSITION")
        if "weights" in self.mesh:
            rest = rest + self.targets("POSITION") @ self.mesh["weights"]
        joints, weights = self.influences()
        blended = np.einsum("nk,nkab->nab", weights, self.joint_matrices()[joints])
        return np.einsum("nab,nb->na", blended, np.pad(rest, ((0, 0), (0, 1)), constant_values=1))[:, :3]

    def set(self, weights: np.ndarray, joint_rotvecs: np.ndarray) -> None:
        """Change the morph weights and the rotations of the joints."""
        self.mesh["weights"] = weights.tolist()
        for joint, rotvec in zip(self.skin["joints"], joint_rotvecs, strict=True):
            self.json["nodes"][joint]["rotation"] = Rotation.from_rotvec(rotvec).as_quat().tolist()

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Where the camera sees points (n, 3) of world space, in pixels of partfit."""
        camera = self.json["cameras"][0]
        perspective, (width, height) = camera["perspective"], camera["extras"]["image_size"]
        index = self.json["nodes"].index(self.node("camera"))
        local = np.pad(points, ((0, 0), (0, 1)), constant_values=1) @ np.linalg.inv(self.world()[index]).T
        half_height = np.tan(perspective["yfov"] / 2)
        across = local[:, 0] / -local[:, 2] / (half_height * perspective["aspectRatio"])
        up = local[:, 1] / -local[:, 2] / half_height
        return np.stack([(1 + across) / 2 * width - 0.5, (1 - up) / 2 * height - 0.5], axis=1)


def rig(model: SkinnedModel, x: torch.Tensor, frame: Frame, camera: Camera | None = None) -> Scene:
    with tempfile.TemporaryDirectory() as folder:
        write_rig(Path(folder) / "rig.glb", model, x, camera, frame)
        return Scene((Path(folder) / "rig.glb").read_bytes())


def state(model: SkinnedModel, seed: int = 0) -> torch.Tensor:
    """A random state (P,) a little away from the camera."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=model.n_parameters) * 0.5
    x[model.slices["transl"]] = [0.03, -0.02, 0.8]
    return torch.as_tensor(x)


def expected(model: SkinnedModel, x: torch.Tensor, frame: Frame) -> np.ndarray:
    """The vertices in the axes of files."""
    x = x.clone()
    if frame == "model":
        for name in ("global_orient", "transl"):
            x[model.slices[name]] = 0
    return model.vertices(x[None])[0].numpy() * AXES[frame]


def with_still_joints(model: SkinnedModel) -> SkinnedModel:
    """The model with joints that do not follow the expression, as a file's joints do not."""
    joint_dirs = model.arrays.joint_dirs.copy()
    joint_dirs[..., model.slices["expression"]] = 0
    arrays = attrs.evolve(model.arrays, joint_dirs=joint_dirs)
    return SkinnedModel(arrays, model.topology, model.coefficients, model.poses)


def with_texture(model: SkinnedModel) -> SkinnedModel:
    """The model with a texture that has seams: four charts, in which each triangle is in one."""
    topology, rng = model.topology, np.random.default_rng(5)
    charts = rng.integers(0, 4, size=(len(topology.faces), 1))
    corners = topology.faces * 4 + charts
    used, uv_faces = np.unique(corners, return_inverse=True)
    textured = attrs.evolve(topology, uv=rng.uniform(size=(len(used), 2)), uv_faces=uv_faces.reshape(-1, 3))
    return SkinnedModel(model.arrays, textured, model.coefficients, model.poses)


def meshed(model: SkinnedModel, n_faces: int = 500) -> SkinnedModel:
    """The model with random triangles, so that vertices belong to several."""
    rng = np.random.default_rng(6)
    n = model.topology.n_vertices
    faces = np.stack([rng.permutation(n)[:3] for _ in range(n_faces)])
    return SkinnedModel(
        model.arrays, attrs.evolve(model.topology, faces=faces), model.coefficients, model.poses
    )


@functools.cache
def anny_head() -> SkinnedModel:
    return partfit.create("model", "anny-head")


@functools.cache
def anny_hand() -> SkinnedModel:
    return partfit.create("model", "anny-hand", side="left")


MODELS = {
    "synthetic": lambda: with_texture(meshed(synthetic_model())),
    "anny-head": anny_head,
}


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> SkinnedModel:
    return MODELS[request.param]()


@pytest.fixture(params=[*MODELS, "anny-hand"])
def any_model(request: pytest.FixtureRequest) -> SkinnedModel:
    """The models with morph targets, and one without."""
    return {**MODELS, "anny-hand": anny_hand}[request.param]()


@pytest.mark.parametrize("frame", FRAMES)
def test_a_file_shows_the_state_it_was_written_in(any_model: SkinnedModel, frame: Frame) -> None:
    """With correctives, and with joints that follow the expression."""
    x = state(any_model)
    shown = rig(any_model, x, frame).vertices()[: any_model.topology.n_vertices]
    np.testing.assert_allclose(shown, expected(any_model, x, frame), atol=1e-6)


STILL = with_still_joints(synthetic_model(posedirs=False))


@settings(deadline=None)
@given(data=st.data(), frame=st.sampled_from(FRAMES))
def test_morph_targets_and_joints_move_it_as_the_parameters_do(data: st.DataObject, frame: Frame) -> None:
    poses = np.stack([data.draw(rotvecs()) for _ in range(5)])
    weights = np.array(data.draw(st.lists(st.floats(-2, 2), min_size=4, max_size=4)))
    check_moved(STILL, frame, weights, poses)


@pytest.mark.parametrize("frame", FRAMES)
def test_so_do_those_of_the_default_head(frame: Frame) -> None:
    rng = np.random.default_rng(3)
    check_moved(anny_head(), frame, rng.uniform(size=52), rng.normal(size=(5, 3)))


def check_moved(model: SkinnedModel, frame: Frame, weights: np.ndarray, poses: np.ndarray) -> None:
    """A file written in one state, moved to another by its nodes and weights, shows that."""
    x = state(model)
    scene = rig(model, x, frame)
    scene.set(weights, poses)
    if frame == "model":
        x[model.slices["transl"]] = 0
    np.testing.assert_allclose(
        scene.vertices()[: model.topology.n_vertices],
        moved(model, x, weights, poses) * AXES[frame],
        atol=1e-6,
    )


def moved(model: SkinnedModel, x: torch.Tensor, weights: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """The vertices with another expression and other poses."""
    x = x.clone()
    x[model.slices["expression"]] = torch.as_tensor(weights)
    x[model.slices["global_orient"].start : model.slices["transl"].start] = torch.as_tensor(poses.ravel())
    return model.vertices(x[None])[0].numpy()


def test_correctives_are_those_of_the_pose_and_the_expression_is_free_in_it() -> None:
    model = with_still_joints(synthetic_model())
    x, weights = state(model), np.array([0.3, -1, 0, 2])
    scene = rig(model, x, "camera")
    poses = model.rotvecs(x[None])[0].numpy()
    scene.set(weights, poses)
    np.testing.assert_allclose(scene.vertices(), moved(model, x, weights, poses) * AXES["camera"], atol=1e-6)


def test_single_precision_states_are_written_too() -> None:
    x = state(STILL)
    shown = rig(STILL, x.float(), "camera").vertices()
    np.testing.assert_allclose(shown, expected(STILL, x, "camera"), atol=1e-6)


def test_the_model_s_vertices_come_first_and_copies_follow_at_seams(model: SkinnedModel) -> None:
    topology, scene = model.topology, rig(model, state(model), "model")
    n, faces = topology.n_vertices, scene.faces
    uv, positions = scene.attribute("TEXCOORD_0"), scene.attribute("POSITION")
    assert len(uv) == len(positions) == n + n_copies(model) > n
    np.testing.assert_allclose(uv[faces], topology.uv[topology.uv_faces] * [1, -1] + [0, 1], atol=1e-7)
    # a copy is where, and whatever else, its vertex is
    source = np.arange(len(positions))
    source[faces] = topology.faces
    np.testing.assert_array_equal(source[:n], np.arange(n))
    for name in set(scene.primitive["attributes"]) - {"TEXCOORD_0"}:
        values = scene.attribute(name)
        np.testing.assert_array_equal(values, values[source])
    for name in ("POSITION", "NORMAL"):
        values = scene.targets(name)
        np.testing.assert_array_equal(values, values[source])


def n_copies(model: SkinnedModel) -> int:
    """How many texture coordinates vertices have beyond their first."""
    corners = zip(model.topology.faces.ravel(), model.topology.uv_faces.ravel(), strict=True)
    return len(set(corners)) - len(np.unique(model.topology.faces))


def test_without_texture_nothing_is_split() -> None:
    scene = rig(STILL, state(STILL), "model")
    assert "TEXCOORD_0" not in scene.primitive["attributes"]
    np.testing.assert_array_equal(scene.faces, STILL.topology.faces)
    assert len(scene.attribute("POSITION")) == STILL.topology.n_vertices


def test_normals_are_unit_and_follow_the_morph_targets(model: SkinnedModel) -> None:
    n, scene = model.topology.n_vertices, rig(model, state(model), "camera")
    normals, positions = scene.attribute("NORMAL"), scene.attribute("POSITION")
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    mesh = Mesh(positions[:n], model.topology.faces)
    np.testing.assert_allclose(normals[:n], mesh.normals, atol=2e-3)
    changes = scene.targets("NORMAL")
    k = int(np.abs(changes).sum(axis=(0, 1)).argmax())
    morphed = Mesh(positions[:n] + scene.targets("POSITION")[:n, :, k], model.topology.faces)
    assert np.abs(morphed.normals - mesh.normals).max() > 0.02
    np.testing.assert_allclose(normals[:n] + changes[:n, :, k], morphed.normals, atol=2e-3)


def test_weights_are_non_negative_and_sum_to_one(model: SkinnedModel) -> None:
    joints, weights = rig(model, state(model), "camera").influences()
    assert (weights >= 0).all()
    assert (joints[weights == 0] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    most = (model.arrays.lbs_weights[: model.topology.n_vertices] > 0).sum(axis=1).max()
    assert weights.shape[1] == {3: 4, 5: 8}[most]


def test_names_are_those_of_the_model() -> None:
    model, x = anny_head(), state(anny_head())
    scene = rig(model, x, "camera")
    assert scene.mesh["name"] == "anny-head"
    assert scene.mesh["extras"]["targetNames"] == list(model.group("expression").names)
    np.testing.assert_array_equal(scene.mesh["weights"], x[model.slices["expression"]])
    joints = [scene.json["nodes"][j]["name"] for j in scene.skin["joints"]]
    assert joints == ["neck", "head", "jaw", "left_eye", "right_eye"]
    assert scene.json["nodes"][scene.skin["joints"][1]]["children"] == scene.skin["joints"][2:]


def test_what_has_no_name_is_numbered() -> None:
    scene = rig(STILL, state(STILL), "model")
    names = [scene.json["nodes"][j]["name"] for j in scene.skin["joints"]]
    assert names == [f"joint{j}" for j in range(5)]
    assert scene.mesh["extras"]["targetNames"] == [f"expression{k}" for k in range(4)]


def test_a_model_without_expressions_has_no_morph_targets() -> None:
    model = synthetic_model()
    coefficients = [ParameterGroup("betas", 10)]
    plain = SkinnedModel(model.arrays, model.topology, coefficients, model.poses)
    scene = rig(plain, state(plain), "camera")
    assert "targets" not in scene.primitive
    assert "weights" not in scene.mesh
    np.testing.assert_allclose(scene.vertices(), expected(plain, state(plain), "camera"), atol=1e-6)


@pytest.mark.parametrize("frame", FRAMES)
def test_the_camera_sees_points_where_ours_does(frame: Frame) -> None:
    x, camera = state(STILL), Camera.for_images([(640, 480)], [700], dtype=torch.float64)
    scene = rig(STILL, x, frame, camera)
    pixels = camera.project(STILL.vertices(x[None]))[0].numpy()
    np.testing.assert_allclose(scene.pixels(scene.vertices()), pixels, atol=1e-3)
    if frame == "camera":
        np.testing.assert_allclose(
            scene.world()[scene.json["nodes"].index(scene.node("camera"))], np.eye(4), atol=1e-12
        )


def test_a_principal_point_off_the_middle_is_kept_beside_the_camera() -> None:
    size = torch.tensor([[640.0, 480.0]])
    camera = Camera(torch.tensor([700.0]), torch.tensor([[100.0, 50.0]]), size)
    scene = rig(STILL, state(STILL), "camera", camera)
    extras = {"focal": 700.0, "principal": [100.0, 50.0], "image_size": [640.0, 480.0]}
    assert scene.json["cameras"][0]["extras"] == extras


def test_without_a_camera_there_is_none() -> None:
    scene = rig(STILL, state(STILL), "model")
    assert "cameras" not in scene.json
    assert "camera" not in [node["name"] for node in scene.json["nodes"]]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    x = state(STILL)
    with pytest.raises(InputError, match=r"Unknown frame 'world'; known: camera, model"):
        write_rig(tmp_path / "a.glb", STILL, x, frame="world")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match=r"Cannot write .*a\.glb: No such file"):
        write_rig(tmp_path / "none" / "a.glb", STILL, x)
    for group in STILL.groups:
        x = state(STILL)
        x[STILL.slices[group.name].start] = torch.nan
        with pytest.raises(InputError, match="finite parameters"):
            write_rig(tmp_path / "a.glb", STILL, x)
    assert list(tmp_path.iterdir()) == []


def node(script: str, *arguments: Path) -> Any:
    """What a script of `tests/gltf` prints; skips the test where it cannot run."""
    if shutil.which("node") is None:
        pytest.skip("needs node (https://nodejs.org)")
    if not (READERS / "node_modules").is_dir():
        pytest.skip("needs the packages of tests/gltf: run `npm install` there, or `make test-all`")
    command = ["node", READERS / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("frame", FRAMES)
def test_khronos_validator_has_nothing_to_say(any_model: SkinnedModel, frame: Frame, tmp_path: Path) -> None:
    path = tmp_path / "rig.glb"
    write_rig(path, any_model, state(any_model), Camera.for_images([(640, 480)]), frame)
    issues = node("validate.mjs", path)
    # texture coordinates wait for a texture of the user's
    known = {"UNUSED_OBJECT": "/meshes/0/primitives/0/attributes/TEXCOORD_0"}
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues
    assert {issue["code"]: issue["pointer"] for issue in issues["messages"]} == known


@pytest.mark.slow
def test_three_js_bends_the_fingers_as_we_do(tmp_path: Path) -> None:
    model = anny_hand()
    x, bent = state(model), state(model)
    bent[model.columns(("global_orient", "hand_pose"))] = state(model, seed=9)[
        model.columns(("global_orient", "hand_pose"))
    ]
    write_rig(tmp_path / "rig.glb", model, x, Camera.for_images([(640, 480)]), "camera")
    poses = model.rotvecs(bent[None])[0].numpy()
    joints = Scene((tmp_path / "rig.glb").read_bytes()).skin["joints"]
    rotations = dict(zip(joints, Rotation.from_rotvec(poses).as_quat().tolist(), strict=True))
    (tmp_path / "state.json").write_text(json.dumps({"influences": [], "rotations": rotations}))
    shown = node("evaluate.mjs", tmp_path / "rig.glb", tmp_path / "state.json")
    vertices = np.reshape(shown["vertices"], (-1, 3))[: model.topology.n_vertices]
    np.testing.assert_allclose(vertices, expected(model, bent, "camera"), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("frame", FRAMES)
def test_three_js_moves_the_default_head_as_we_do(frame: Frame, tmp_path: Path) -> None:
    model, rng = anny_head(), np.random.default_rng(7)
    x, weights, poses = state(model), rng.uniform(size=52), rng.normal(size=(5, 3)) * 0.5
    write_rig(tmp_path / "rig.glb", model, x, Camera.for_images([(640, 480)]), frame)
    joints = Scene((tmp_path / "rig.glb").read_bytes()).skin["joints"]
    rotations = dict(zip(joints, Rotation.from_rotvec(poses).as_quat().tolist(), strict=True))
    states = {"influences": weights.tolist(), "rotations": rotations}
    (tmp_path / "state.json").write_text(json.dumps(states))
    shown = node("evaluate.mjs", tmp_path / "rig.glb", tmp_path / "state.json")
    assert shown["names"] == list(model.group("expression").names)
    if frame == "model":
        x[model.slices["transl"]] = 0
    vertices = np.reshape(shown["vertices"], (-1, 3))[: model.topology.n_vertices]
    np.testing.assert_allclose(vertices, moved(model, x, weights, poses) * AXES[frame], atol=1e-5)
