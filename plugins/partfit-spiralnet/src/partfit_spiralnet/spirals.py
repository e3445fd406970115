"""Spirals: the neighbourhood of each vertex of a triangle mesh as a sequence.

Source: Gong, Chen, Bronstein & Zafeiriou, "SpiralNet++: A fast and highly efficient mesh convolution
operator", ICCV workshops 2019; thesis section 3.3.2 and figure 3.9.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Shaped

from partfit.errors import InputError
from partfit.geometry import topology

#: The axis of the mesh's frame along which spirals start: up, in the frame of models.
START_AXIS = 1
#: To how many decimals directions are compared, so that rounding does not decide between equal ones.
START_DECIMALS = 6


def spiral_sequences(
    vertices: Shaped[np.ndarray, "vertices 3"],
    faces: Shaped[np.ndarray, "faces 3"],
    length: int,
    dilation: int = 1,
) -> Int[np.ndarray, "vertices length"]:
    """The spiral around each vertex: every `dilation`-th of the vertices that it walks over.

    It starts with the vertex itself, its centre. Then follow the vertices one edge away, in order, then those
    two edges away, and so on: its rings. A ring is walked counter-clockwise seen from outside. The first one
    starts at the neighbour that lies highest, by the angle of the edge with the y axis (of equal ones, at
    that of the lowest index), so that the same place in the sequence means much the same direction
    everywhere; each further ring starts next to the end and the start of the one before.

    At a border a ring is an arc, or several. Each is walked from its clockwise end to the other, beginning
    with the arc in which a closed ring would have started; the arcs of a first ring are in the order of the
    vertices at which they begin. Once no vertex is left that edges lead to, the centre fills the rest: it
    belongs to the same component and brings in nothing that is not there.

    The spirals do not depend on the order of the faces.

    Args:
        vertices: (V, 3) positions, in any unit.
        faces: (F, 3) vertex indices, see `partfit.geometry.topology.check_mesh`.
        length: How many vertices a spiral has, its centre included, at least 1.
        dilation: The step along the walk: 2 takes its 1st, 3rd, 5th ... vertex and so reaches further.

    Returns:
        (V, length) vertex indices.

    Raises:
        ShapeError: if an array has another shape.
        InputError: if the mesh is not valid, or `length` or `dilation` is below 1.
    """
    if length < 1 or dilation < 1:
        raise InputError(f"length and dilation must be at least 1, found {length} and {dilation}.")
    vertices, faces = topology.check_mesh(vertices, faces)
    fans = _fans(vertices, faces)
    reach = (length - 1) * dilation + 1
    walks = [_walk(centre, fans, reach)[::dilation] for centre in range(len(vertices))]
    return np.array(walks, dtype=np.int64).reshape(len(vertices), length)


def _fans(vertices: np.ndarray, faces: np.ndarray) -> list[list[int]]:
    """The neighbours of each vertex, counter-clockwise, from where its spiral turns to them first."""
    following: list[dict[int, int]] = [{} for _ in vertices]
    for a, b, c in faces.tolist():
        following[a][b], following[b][c], following[c][a] = c, a, b
    return [_fan(i, after, vertices) for i, after in enumerate(following)]


def _fan(centre: int, after: dict[int, int], vertices: np.ndarray) -> list[int]:
    """The neighbours of a vertex in order, given which of them follows which.

    They form one closed cycle, or an open arc at a border; where fans of triangles touch in the vertex there
    are several, which come in the order of their first neighbours.
    """
    starts = sorted(set(after) - set(after.values()))
    fans = [_follow(start, after) for start in starts]
    left = set(after).difference(*fans)
    while left:
        fans.append(_follow(_highest(centre, left, vertices), after))
        left = left.difference(fans[-1])
    return [neighbour for fan in sorted(fans) for neighbour in fan]


def _follow(start: int, after: dict[int, int]) -> list[int]:
    """The neighbours from `start` on, until there is no further one or the first comes again."""
    fan = [start]
    while (neighbour := after.get(fan[-1], start)) != start:
        fan.append(neighbour)
    return fan


def _highest(centre: int, neighbours: set[int], vertices: np.ndarray) -> int:
    """The neighbour whose edge from the centre points up most."""
    candidates = np.array(sorted(neighbours))
    edges = vertices[candidates] - vertices[centre]
    edge_lengths = np.linalg.norm(edges, axis=1)
    rise = np.divide(
        edges[:, START_AXIS], edge_lengths, out=np.zeros_like(edge_lengths), where=edge_lengths > 0
    )
    return int(candidates[rise.round(START_DECIMALS).argmax()])


def _walk(centre: int, fans: list[list[int]], reach: int) -> list[int]:
    """The first `reach` vertices of the walk around a vertex."""
    walk, inner, ring = [centre], {centre}, fans[centre]
    seen = {centre, *ring}
    while ring and len(walk) < reach:
        walk += ring
        inner, ring = set(ring), _next_ring(inner, ring, fans, seen)
        seen.update(ring)
    return (walk + [centre] * reach)[:reach]


def _next_ring(inner: set[int], ring: list[int], fans: list[list[int]], seen: set[int]) -> list[int]:
    """The vertices one edge beyond a ring, in order; `inner` is the ring before it.

    Around each vertex of the ring, counter-clockwise from within, they come in the order in which the next
    ring runs past it.
    """
    outer: dict[int, None] = {}
    for vertex in ring:
        fan = fans[vertex]
        turn = next(i for i, neighbour in enumerate(fan) if neighbour in inner)
        outer.update((w, None) for w in fan[turn:] + fan[:turn] if w not in seen)
    return _from_gap(list(outer), fans)


def _from_gap(ring: list[int], fans: list[list[int]]) -> list[int]:
    """The ring turned so that no arc of it is cut in two, its first vertex in the first arc."""
    if ring and ring[0] not in fans[ring[-1]]:
        return ring
    for i in range(len(ring) - 1, 0, -1):
        if ring[i] not in fans[ring[i - 1]]:
            return ring[i:] + ring[:i]
    return ring
