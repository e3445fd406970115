"""Rigged meshes for other programs: glTF 2.0 binary files with morph targets, skeleton and camera.

glTF moves a vertex as a skinned model does: base + sum_k weight_k target_k, then linear blend skinning by
each joint's world transform times its inverse bind matrix. So the base mesh is the model's rest mesh with
identity and pose correctives, and the targets are the columns of the group `expression`.

Source: the glTF 2.0 specification, sections 3.6 (accessors), 3.7.2.2 (morph targets), 3.7.3 (skins), 3.10
(cameras) and 4.4 (binary container).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from jaxtyping import Float, Int, UInt16
from scipy.spatial.transform import Rotation
from torch import Tensor

from partfit.errors import InputError
from partfit.files import atomic_write
from partfit.geometry.camera import Camera
from partfit.geometry.topology import vertex_normals
from partfit.meshes import Frame, Mesh
from partfit.models.base import Topology
from partfit.models.skinning import SkinnedModel

#: The coefficient group whose columns become morph targets.
EXPRESSION = "expression"

#: From the camera frame (y down, z forward) to the axes of files, and back.
_HALF_TURN = np.diag([1.0, -1.0, -1.0, 1.0])
#: What turns the frame of a rig to the axes of files.
_FILE_AXES = {"camera": _HALF_TURN, "model": np.eye(4)}
#: Smaller changes of a unit normal are rounding and are not written.
_NORMAL_NOISE = 1e-6
#: The nearest that the camera sees, metres; it sees infinitely far.
_NEAR = 0.01

# Numbers to which the specification gives a meaning.
_COMPONENT_TYPES = {"uint16": 5123, "uint32": 5125, "float32": 5126}
_ELEMENT_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963


def write_rig(
    path: str | Path,
    model: SkinnedModel,
    x: Float[Tensor, " parameters"],
    camera: Camera | None = None,
    frame: Frame = "camera",
) -> None:
    """Write a skinned model in one state as a rigged .glb: metres, y up, right-handed.

    - The mesh is at rest. Coefficients other than those of the group `expression` are applied, and so are
      the pose correctives of x: in another pose they stay what they are in this one.
    - The morph targets are the columns of `expression`, by its names (else `expression0`, ...), with the
      weights of x. They change the normals too.
    - The joints rest where all coefficients of x, those of `expression` too, place them, and stay there under
      other weights. Joints without names are `joint0`, ...
    - The first V vertices are the model's own, in order. Copies at the seams of the texture follow.
    - Skinning weights are the model's, without negative ones, scaled to the sum 1. A vertex of more than four
      joints needs a program that reads more than the first set of weights.

    Simple programs ignore skins and morph targets: they show the mesh at rest. The posed mesh is what
    `partfit.meshes.write_mesh` writes.

    Args:
        path: The file; it is replaced as a whole, or not at all.
        model: The model.
        x: (P,) its parameter vector.
        camera: The camera, a batch of one, to be placed in the scene; None for no camera. In glTF the
            principal point is the middle: the true one, the focal length and the size, in pixels, are extras.
        frame: `camera`: the posed mesh is as the camera at the origin sees it. `model`: without the rigid
            motion; the camera is where it is as seen from the model.

    Raises:
        InputError: if the frame is unknown, or a parameter is not finite.
        OutputError: if the file cannot be written.
    """
    if frame not in _FILE_AXES:
        raise InputError(f"Unknown frame {frame!r}; known: {', '.join(sorted(_FILE_AXES))}.")
    if not bool(torch.isfinite(x).all()):
        raise InputError("A rig needs finite parameters, found some that are not.")
    axes = _FILE_AXES[frame]
    fitted = _Rig.of(model, x)
    rig = fitted if frame == "camera" else _Rig.of(model, model.without_rigid_motion(x[None])[0])
    file = _File()
    mesh = _add_mesh(file, model.topology, rig)
    skin = _add_skeleton(file, rig, axes)
    file.show(file.add("nodes", name=model.topology.name, mesh=mesh, skin=skin))
    if camera is not None:
        _add_camera(file, camera, axes @ rig.motion @ np.linalg.inv(fitted.motion) @ _HALF_TURN)
    with atomic_write(path) as temporary:
        temporary.write_bytes(file.encode())


@attrs.frozen(eq=False)
class _Rig:
    """A skinned model in one state, in the terms of glTF.

    Attributes:
        vertices: (V, 3) at rest, without expression.
        targets: (E, V, 3) displacement by each expression coefficient.
        weights: (E,) the coefficients.
        target_names: Of the E targets.
        influences: (V, J) skinning weights.
        joints: (J, 3) at rest.
        joint_names: Of the J joints.
        parents: Parent of each joint, -1 for the root, joint 0.
        rotations: Of each joint against its parent.
        transl: (3,) added to the root.
    """

    vertices: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    target_names: tuple[str, ...]
    influences: np.ndarray
    joints: np.ndarray
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    rotations: Rotation
    transl: np.ndarray

    @classmethod
    def of(cls, model: SkinnedModel, x: Tensor) -> _Rig:
        """The state of a model at x (P,), in double precision."""
        arrays, n_vertices = model.arrays, model.topology.n_vertices
        x = x.detach().cpu().double()
        rotations = Rotation.from_rotvec(model.rotvecs(x[None])[0].numpy())
        coefficients = x[: arrays.shapedirs.shape[-1]].numpy()
        columns, names = _expression(model)
        identity = coefficients.copy()
        identity[columns] = 0
        vertices = arrays.v_template[:n_vertices] + arrays.shapedirs[:n_vertices] @ identity
        if arrays.posedirs is not None:
            features = (rotations.as_matrix()[1:] - np.eye(3)).ravel()
            vertices = vertices + arrays.posedirs[:n_vertices] @ features
        return cls(
            vertices=vertices,
            targets=np.ascontiguousarray(np.moveaxis(arrays.shapedirs[:n_vertices, :, columns], 2, 0)),
            weights=coefficients[columns],
            target_names=names,
            influences=arrays.lbs_weights[:n_vertices],
            joints=arrays.joints + arrays.joint_dirs @ coefficients,
            joint_names=arrays.joint_names or _numbered("joint", len(arrays.joints)),
            parents=arrays.parents,
            rotations=rotations,
            transl=x[model.slices["transl"]].numpy(),
        )

    @property
    def offsets(self) -> Float[np.ndarray, "joints 3"]:
        """Position of each joint against its parent's, at rest; of the root in the frame of the rig."""
        parents = np.array(self.parents[1:], dtype=int)
        return np.concatenate([self.joints[:1] + self.transl, self.joints[1:] - self.joints[parents]])

    @property
    def motion(self) -> Float[np.ndarray, "4 4"]:
        """How the root moves what rides on it from its place at rest."""
        motion = np.eye(4)
        motion[:3, :3] = self.rotations[0].as_matrix()
        motion[:3, 3] = self.offsets[0] - motion[:3, :3] @ self.joints[0]
        return motion


def _expression(model: SkinnedModel) -> tuple[slice, tuple[str, ...]]:
    """The columns of the group `expression` among the coefficients, and their names; none without it."""
    for group in model.coefficients:
        if group.name == EXPRESSION:
            return model.slices[EXPRESSION], group.names or _numbered(EXPRESSION, group.size)
    return slice(0, 0), ()


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}{i}" for i in range(count))


class _File:
    """A glTF document and its binary buffer, put together piece by piece."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.document: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "partfit"},
            "scene": 0,
            "scenes": [{"nodes": []}],
        }

    def add(self, kind: str, **entry: Any) -> int:
        """Append to one of the document's lists; returns the index there."""
        entries: list[dict[str, Any]] = self.document.setdefault(kind, [])
        entries.append(entry)
        return len(entries) - 1

    def show(self, node: int) -> None:
        """Make a node a root of the scene."""
        self.document["scenes"][0]["nodes"].append(node)

    def view(self, array: np.ndarray, **entry: Any) -> int:
        """Append the bytes of an array to the buffer, aligned to 4 bytes."""
        data = array.tobytes()
        start = len(self.binary)
        self.binary += data + b"\0" * (-len(data) % 4)
        return self.add("bufferViews", buffer=0, byteOffset=start, byteLength=len(data), **entry)

    def accessor(self, array: np.ndarray, target: int | None = None, *, bounds: bool = False) -> int:
        """A typed view of an array, one element a row; `target` says what a graphics card uses it for."""
        use = {} if target is None else {"target": target}
        return self.add("accessors", **_layout(array, bounds), bufferView=self.view(array, **use))

    def sparse(self, array: np.ndarray, *, bounds: bool = False) -> int:
        """As `accessor`, but only the rows that are not zero are stored."""
        rows = np.flatnonzero(array.any(axis=1))
        rows = rows if len(rows) else np.array([0])  # the specification wants one
        indices = rows.astype(_index_type(len(array)))
        stored = {
            "count": len(rows),
            "indices": {"bufferView": self.view(indices), "componentType": _component_type(indices)},
            "values": {"bufferView": self.view(array[rows])},
        }
        return self.add("accessors", **_layout(array, bounds), sparse=stored)

    def encode(self) -> bytes:
        """The binary container."""
        document = {**self.document, "buffers": [{"byteLength": len(self.binary)}]}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(self.binary), b"BIN\0") + self.binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _add_mesh(file: _File, topology: Topology, rig: _Rig) -> int:
    source, uv, faces = _split_at_seams(topology)
    base = Mesh(rig.vertices, topology.faces)

    def split(array: np.ndarray) -> np.ndarray:
        return array[source].astype(np.float32)

    attributes = {
        "POSITION": file.accessor(split(base.vertices), _VERTEX_BUFFER, bounds=True),
        "NORMAL": file.accessor(split(base.normals), _VERTEX_BUFFER),
    }
    if uv is not None:
        attributes["TEXCOORD_0"] = file.accessor(uv.astype(np.float32), _VERTEX_BUFFER)
    for i, (joints, weights) in enumerate(_influences(rig.influences)):
        attributes[f"JOINTS_{i}"] = file.accessor(joints[source], _VERTEX_BUFFER)
        attributes[f"WEIGHTS_{i}"] = file.accessor(weights[source], _VERTEX_BUFFER)
    clay = {"metallicFactor": 0.0, "roughnessFactor": 0.8}
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": file.accessor(faces.ravel().astype(_index_type(len(source))), _INDEX_BUFFER),
        "material": file.add("materials", name="clay", doubleSided=True, pbrMetallicRoughness=clay),
    }
    if not rig.target_names:
        return file.add("meshes", name=topology.name, primitives=[primitive])
    normals = _normal_changes(rig.vertices, rig.targets, topology.faces)
    primitive["targets"] = [
        {"POSITION": file.sparse(split(moved), bounds=True), "NORMAL": file.sparse(split(turned))}
        for moved, turned in zip(rig.targets, normals, strict=True)
    ]
    return file.add(
        "meshes",
        name=topology.name,
        primitives=[primitive],
        weights=rig.weights.tolist(),
        extras={"targetNames": list(rig.target_names)},
    )


def _split_at_seams(
    topology: Topology,
) -> tuple[Int[np.ndarray, " split"], Float[np.ndarray, "split 2"] | None, Int[np.ndarray, "faces 3"]]:
    """One vertex for each texture coordinate that a vertex has.

    Returns:
        The model's vertex (N,) that each is a copy of, the first V being the model's own in order; the
        texture coordinates (N, 2), v pointing down, zero for a vertex without a face; and the faces. Without
        texture coordinates nothing is split.
    """
    own = np.arange(topology.n_vertices)
    if topology.uv is None or topology.uv_faces is None:
        return own, None, topology.faces
    corners = np.stack([topology.faces.ravel(), topology.uv_faces.ravel()], axis=1)
    pairs, corner_pairs = np.unique(corners, axis=0, return_inverse=True)
    copied = np.append(False, np.diff(pairs[:, 0]) == 0)
    number = pairs[:, 0].copy()
    number[copied] = len(own) + np.arange(copied.sum())
    source = np.concatenate([own, pairs[copied, 0]])
    uv = np.zeros((len(source), 2))
    uv[number] = topology.uv[pairs[:, 1]] * [1, -1] + [0, 1]
    return source, uv, number[corner_pairs.reshape(topology.faces.shape)]


def _normal_changes(
    vertices: Float[np.ndarray, "vertices 3"],
    targets: Float[np.ndarray, "targets vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
) -> Iterator[Float[np.ndarray, "vertices 3"]]:
    """What each morph target at weight 1 adds to the normals."""
    normals = vertex_normals(vertices, faces)
    for target in targets:
        change = vertex_normals(vertices + target, faces) - normals
        yield np.where(np.abs(change) < _NORMAL_NOISE, 0, change)


def _influences(
    influences: Float[np.ndarray, "vertices joints"],
) -> list[tuple[UInt16[np.ndarray, "vertices 4"], Float[np.ndarray, "vertices 4"]]]:
    """Sets of four joints of each vertex, by falling weight, and the weights; zeros where it has no more."""
    weights = np.maximum(influences, 0)
    n_slots = 4 * math.ceil((weights > 0).sum(axis=1).max() / 4)
    weights = np.pad(weights, ((0, 0), (0, n_slots)))
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :n_slots]
    weights = np.take_along_axis(weights, joints, axis=1)
    joints[weights == 0] = 0
    weights = weights / weights.sum(axis=1, keepdims=True)
    fours = [np.s_[:, i : i + 4] for i in range(0, n_slots, 4)]
    return [(joints[four].astype(np.uint16), weights[four].astype(np.float32)) for four in fours]


def _add_skeleton(file: _File, rig: _Rig, axes: Float[np.ndarray, "4 4"]) -> int:
    """A root node that turns the rig to the axes of files, below it a node for each joint, and the skin."""
    quaternions = rig.rotations.as_quat(canonical=True)
    nodes = [
        file.add("nodes", name=name, translation=offset.tolist(), rotation=quaternion.tolist())
        for name, offset, quaternion in zip(rig.joint_names, rig.offsets, quaternions, strict=True)
    ]
    for node, parent in zip(nodes[1:], rig.parents[1:], strict=True):
        file.document["nodes"][nodes[parent]].setdefault("children", []).append(node)
    file.show(file.add("nodes", name="rig", **_placement(axes), children=nodes[:1]))
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(nodes), 1, 1))
    inverse_bind[:, 3, :3] = -rig.joints  # matrices are stored by columns
    matrices = file.accessor(inverse_bind.reshape(-1, 16))
    return file.add("skins", joints=nodes, skeleton=nodes[0], inverseBindMatrices=matrices)


def _add_camera(file: _File, camera: Camera, pose: Float[np.ndarray, "4 4"]) -> None:
    """A camera that looks along its -z, with its pose."""
    focal, (width, height) = camera.focal[0].item(), camera.size[0].tolist()
    perspective = {
        "yfov": 2 * math.atan(height / (2 * focal)),
        "aspectRatio": width / height,
        "znear": _NEAR,
    }
    extras = {"focal": focal, "principal": camera.principal[0].tolist(), "image_size": [width, height]}
    index = file.add("cameras", name="camera", type="perspective", perspective=perspective, extras=extras)
    file.show(file.add("nodes", name="camera", camera=index, **_placement(pose)))


def _placement(pose: Float[np.ndarray, "4 4"]) -> dict[str, list[float]]:
    """A rigid motion as the properties of a node."""
    quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat(canonical=True)
    return {"translation": pose[:3, 3].tolist(), "rotation": quaternion.tolist()}


def _layout(array: np.ndarray, bounds: bool) -> dict[str, Any]:
    """What an accessor says of an array (n,) or (n, width)."""
    width = 1 if array.ndim == 1 else array.shape[1]
    layout = {
        "componentType": _component_type(array),
        "count": len(array),
        "type": _ELEMENT_TYPES[width],
    }
    if bounds:
        layout |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
    return layout


def _component_type(array: np.ndarray) -> int:
    return _COMPONENT_TYPES[array.dtype.name]


def _index_type(count: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type for indices below `count`; its largest number has another meaning."""
    return np.uint16 if count < np.iinfo(np.uint16).max else np.uint32
