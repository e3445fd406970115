"""The inside of the mouth, changed so that it stays behind the skin.

Upstream, identity and facial actions move the folds of the mouth's cavity little where they move the skin
before them much, so that the folds come out beside the nose or under the lip; and the lower front teeth
reach down into the chin. Both changes are linear in the positions, and so hold for every head.
"""

from __future__ import annotations

import numpy as np
from makehuman import SEGMENTS, HeadMesh
from scipy import sparse
from surface import closest_on_surface

#: Vertices of the base mesh where the lower teeth end in the chin, and those half way to their edge; of the
#: left side.
ROOTS = (14992, 14993, 14994, 14995, 14996, 14997, 14998, 14999, 15000)
MIDDLES = (15013, 15012, 15014, 15015, 15011, 15016, 15017, 15018, 15009)
#: By how much of the way to the middles the roots are shortened.
SHORTENED = 0.75
#: The cavity moves with the skin up to the first distance, by itself from the second on, metres.
SKIN_NEAR, SKIN_FAR = 6e-3, 12e-3
#: Near its border with the lips the cavity moves by itself: up to the first distance, from the second not.
LIPS_NEAR, LIPS_FAR = 8e-3, 12e-3


def shortened_roots(head: HeadMesh) -> sparse.csr_array:
    """(V, V) matrix that takes positions, or displacements, to those with short roots of the lower teeth."""
    roots, middles = head.at(list(ROOTS)), head.at(list(MIDDLES))
    roots = np.concatenate([roots, head.mirror[roots]])
    middles = np.concatenate([middles, head.mirror[middles]])
    roots, first = np.unique(roots, return_index=True)
    middles = middles[first]
    kept = np.ones(len(head.vertices))
    kept[roots] = 1 - SHORTENED
    moved = sparse.coo_array((np.full(len(roots), SHORTENED), (roots, middles)), shape=(len(kept),) * 2)
    return (sparse.diags_array(kept) + moved).tocsr()


def cavity_with_skin(head: HeadMesh, vertices: np.ndarray) -> sparse.csr_array:
    """(V, V) matrix that takes displacements to those whose cavity moves along with the skin before it.

    Args:
        head: The mesh.
        vertices: (V, 3) the head at which nearness is measured, left-right symmetric.
    """
    count = len(vertices)
    skin = head.segment == SEGMENTS.index("head")
    cavity = np.unique(head.faces[head.segment == SEGMENTS.index("mouth_cavity")])
    border = np.intersect1d(cavity, head.faces[skin])
    carriers = head.faces[skin & (head.texture_mask("lips") < 0.5)]
    nearest, barycentric = closest_on_surface(vertices[cavity], vertices, carriers)
    rows = np.repeat(cavity, 3)
    carried = sparse.coo_array((barycentric.ravel(), (rows, carriers[nearest].ravel())), shape=(count, count))
    carried = carried.tocsr()
    carried = (carried + carried[head.mirror][:, head.mirror]) / 2
    to_skin = np.linalg.norm(carried @ vertices - vertices, axis=1)[cavity]
    to_lips = np.linalg.norm(vertices[cavity][:, None] - vertices[border], axis=-1).min(axis=1)
    along = np.zeros(count)
    along[cavity] = np.clip((SKIN_FAR - to_skin) / (SKIN_FAR - SKIN_NEAR), 0, 1)
    along[cavity] *= np.clip((to_lips - LIPS_NEAR) / (LIPS_FAR - LIPS_NEAR), 0, 1)
    return (sparse.diags_array(along) @ carried + sparse.diags_array(1 - along)).tocsr()
