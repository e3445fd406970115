"""Mesh files keep every vertex, its place and its order, in the axes that other programs expect."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from partfit.errors import InputError, OutputError
from partfit.files import MESH_FORMATS, MeshFormat
from partfit.meshes import Frame, Mesh, read_mesh, write_mesh

# A tetrahedron, its faces counter-clockwise from outside in a right-handed frame, and a loose vertex.
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [7, 8, 9]], dtype=np.float32) / 10
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


@st.composite
def meshes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(3, 12))
    coordinates = st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, 1e-8, -0.1, 1 / 3])
    vertices = draw(hnp.arrays(np.float32, (n, 3), elements=coordinates))
    faces = draw(hnp.arrays(np.int64, (draw(st.integers(1, 8)), 3), elements=st.integers(0, n - 1)))
    return vertices, faces


@pytest.mark.parametrize("frame", ["camera", "model"])
@pytest.mark.parametrize("mesh_format", MESH_FORMATS)
@settings(max_examples=40, deadline=None)
@given(mesh=meshes())
def test_round_trip_is_exact(
    mesh_format: MeshFormat, frame: Frame, mesh: tuple[np.ndarray, np.ndarray]
) -> None:
    vertices, faces = mesh
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mesh.{mesh_format}"
        write_mesh(path, vertices, faces, frame)
        back = read_mesh(path, frame)
    np.testing.assert_array_equal(back.vertices.astype(np.float32), vertices)
    np.testing.assert_array_equal(back.faces, faces)


@pytest.mark.parametrize("mesh_format", MESH_FORMATS)
def test_files_are_y_up_and_keep_their_orientation(tmp_path: Path, mesh_format: MeshFormat) -> None:
    for frame, axes in (("camera", [1, -1, -1]), ("model", [1, 1, 1])):
        write_mesh(tmp_path / f"a.{mesh_format}", VERTICES[:4], FACES, frame)
        loaded = trimesh.load_mesh(tmp_path / f"a.{mesh_format}")
        corners = VERTICES[:4] * axes
        np.testing.assert_allclose(loaded.bounds, [corners.min(axis=0), corners.max(axis=0)], atol=1e-7)
        # diag(1, -1, -1) is a rotation: the volume keeps its sign
        assert loaded.volume == pytest.approx(0.1 * 0.2 * 0.3 / 6, rel=1e-5)


def test_the_glb_file_is_gltf_2(tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.glb", VERTICES, FACES)
    data = (tmp_path / "a.glb").read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    json_length, json_type = struct.unpack_from("<I4s", data, 12)
    assert json_type == b"JSON"
    document = json.loads(data[20 : 20 + json_length])
    binary = data[20 + json_length + 8 :]

    def values(index: int, dtype: str, width: int) -> np.ndarray:
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        return np.frombuffer(binary, dtype, accessor["count"] * width, start).reshape(-1, width)

    (primitive,) = document["meshes"][0]["primitives"]
    positions = values(primitive["attributes"]["POSITION"], "<f4", 3)
    normals = values(primitive["attributes"]["NORMAL"], "<f4", 3)
    np.testing.assert_array_equal(positions, VERTICES * [1, -1, -1])
    np.testing.assert_array_equal(values(primitive["indices"], "<u4", 1), FACES.reshape(-1, 1))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    outwards = positions[:4] - positions[:4].mean(axis=0)
    assert (np.einsum("nd,nd->n", normals[:4], outwards) > 0).all()


def test_normals_of_a_sphere_are_its_radii(tmp_path: Path) -> None:
    sphere = trimesh.creation.icosphere(subdivisions=4)
    write_mesh(tmp_path / "a.obj", sphere.vertices, sphere.faces, "model")
    lines = (tmp_path / "a.obj").read_text().splitlines()
    normals = np.array([line.split()[1:] for line in lines if line.startswith("vn ")], dtype=float)
    np.testing.assert_allclose(normals, sphere.vertices, atol=7e-3)
    np.testing.assert_allclose(Mesh(sphere.vertices, sphere.faces).normals, normals, atol=1e-4)


def test_a_vertex_without_a_face_has_a_unit_normal() -> None:
    normals = Mesh(VERTICES, FACES).normals
    np.testing.assert_array_equal(normals[4], [0, 0, 1])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (VERTICES[:, :2], FACES, r"vertices of a mesh: expected shape \(n, 3\), n > 0, found \(5, 2\)"),
        (VERTICES[:0], FACES, r"vertices of a mesh: .*found \(0, 3\)"),
        (VERTICES, FACES[:, :2], r"faces of a mesh: .*found \(4, 2\)"),
        (VERTICES, FACES.astype(float), "must be integers, found float64"),
        (VERTICES, FACES + 2, "vertices 0 to 4, found 2 to 5"),
        (VERTICES, FACES - 1, "vertices 0 to 4, found -1 to 2"),
        (np.where(VERTICES > 0.8, np.nan, VERTICES), FACES, "1 vertices .* not finite, the first is 4"),
    ],
)
def test_arrays_that_are_no_mesh_are_refused(
    tmp_path: Path, vertices: np.ndarray, faces: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_mesh(tmp_path / "a.obj", vertices, faces)
    assert list(tmp_path.iterdir()) == []


def test_unknown_formats_and_frames_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown mesh format 'stl' of .*a\.stl; known: glb, obj, ply"):
        write_mesh(tmp_path / "a.stl", VERTICES, FACES)
    with pytest.raises(InputError, match=r"Unknown mesh format ''"):
        read_mesh(tmp_path / "a")
    with pytest.raises(InputError, match=r"Unknown frame 'world'; known: camera, model"):
        write_mesh(tmp_path / "a.obj", VERTICES, FACES, "world")  # type: ignore[arg-type]


def test_files_that_cannot_be_written_or_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Cannot write .*none.a\.ply: No such file"):
        write_mesh(tmp_path / "none" / "a.ply", VERTICES, FACES)
    with pytest.raises(InputError, match=r"Cannot read the mesh .*a\.ply: No such file"):
        read_mesh(tmp_path / "a.ply")
    for mesh_format in MESH_FORMATS:
        (tmp_path / f"a.{mesh_format}").write_text("no mesh")
        with pytest.raises(InputError, match=rf"a\.{mesh_format} is not a mesh that can be read"):
            read_mesh(tmp_path / f"a.{mesh_format}")
