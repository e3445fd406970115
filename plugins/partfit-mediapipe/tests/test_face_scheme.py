import numpy as np
import pytest

from partfit.errors import InputError
from partfit_mediapipe.face_scheme import (
    canonical_vertices,
    contour_points,
    mediapipe468,
    mediapipe478,
    mirror_permutation,
)


def test_the_scheme_is_complete():
    scheme = mediapipe468()
    assert scheme.name == "mediapipe468"
    assert len(scheme) == len(set(scheme.names)) == 468
    assert np.array_equal(np.unique(scheme.triangles), np.arange(468))
    assert canonical_vertices().shape == (468, 3)


def test_the_mirror_is_exact_and_keeps_the_mesh():
    scheme, vertices = mediapipe468(), canonical_vertices()
    np.testing.assert_allclose(vertices[scheme.mirror] * [-1, 1, 1], vertices, atol=1e-7)
    assert np.array_equal(scheme.mirror[scheme.mirror], np.arange(468))
    for elements in (scheme.triangles, scheme.edges):
        assert {frozenset(e) for e in scheme.mirror[elements]} == {frozenset(e) for e in elements}


def test_the_mirror_swaps_left_and_right_names():
    scheme = mediapipe468()
    sided = [i for i, name in enumerate(scheme.names) if name.startswith("right_")]
    assert len(sided) == 13
    for index in sided:
        assert scheme.names[scheme.mirror[index]] == scheme.names[index].replace("right_", "left_")
        assert canonical_vertices()[index, 0] < 0


def test_named_points_lie_where_their_names_say():
    scheme, vertices = mediapipe468(), canonical_vertices()
    point = {name: vertices[index] for index, name in enumerate(scheme.names)}
    assert vertices[:, 2].argmax() == scheme.names.index("nose_tip")
    assert vertices[:, 1].argmax() == scheme.names.index("forehead_top")
    assert vertices[:, 1].argmin() == scheme.names.index("chin")
    column = (
        "nose_root",
        "nose_tip",
        "nose_base",
        "upper_lip_top",
        "upper_lip_bottom",
        "lower_lip_top",
        "chin",
    )
    heights = [point[name][1] for name in column]
    assert heights == sorted(heights, reverse=True)
    assert point["right_eye_top"][1] > point["right_eye_bottom"][1]
    assert abs(point["right_eye_outer_corner"][0]) > abs(point["right_eye_inner_corner"][0])
    assert 0.08 < np.ptp(vertices[:, 0]) < 0.2  # metres


def test_the_outline_goes_around_the_face():
    outline = canonical_vertices()[contour_points()]
    angles = np.sort(np.arctan2(outline[:, 1], outline[:, 0]))
    assert len(outline) == 36
    assert np.diff(angles, append=angles[0] + 2 * np.pi).max() < 0.5


def test_the_irises_follow_the_mesh():
    mesh, scheme = mediapipe468(), mediapipe478()
    assert scheme.name == "mediapipe478"
    assert len(scheme) == len(set(scheme.names)) == 478
    assert scheme.names[:468] == mesh.names
    assert np.array_equal(scheme.triangles, mesh.triangles)
    assert np.array_equal(scheme.mirror[:468], mesh.mirror)


def test_the_mirror_swaps_the_irises():
    scheme = mediapipe478()
    for index in range(468, 478):
        side, other = ("right_", "left_") if index < 473 else ("left_", "right_")
        assert scheme.names[scheme.mirror[index]] == scheme.names[index].replace(side, other)
    rims = scheme.edges[(scheme.edges >= 468).any(axis=1)]
    assert len(rims) == 8
    assert {frozenset(e) for e in scheme.mirror[rims]} == {frozenset(e) for e in rims.tolist()}


def test_a_lopsided_mesh_has_no_mirror():
    vertices = canonical_vertices()
    vertices[33] += 0.01
    with pytest.raises(InputError, match="not symmetric"):
        mirror_permutation(vertices)
