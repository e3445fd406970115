"""Renderings against closed forms: spheres, planes and single triangles."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import trimesh
from hypothesis import assume, given
from hypothesis import strategies as st

from partfit.colours import map_colours
from partfit.errors import InputError, ShapeError
from partfit.images import Picture
from partfit.landmarks import Detection, LandmarkScheme
from partfit.meshes import Mesh
from partfit.rendering import (
    PANEL_TILE,
    draw_landmarks,
    draw_overlay,
    draw_panel,
    draw_view,
    inside_tolerance,
    render,
    shade,
    visible_points,
)
from partfit.results import landmarks_image

SIZE = (120, 90)
FOCAL = 100.0
PRINCIPAL = (59.5, 44.5)


def sphere(center: tuple[float, float, float], radius: float, subdivisions: int = 5) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return Mesh(np.asarray(ball.vertices) + center, np.asarray(ball.faces))


def rectangle(x: tuple[float, float], y: tuple[float, float], z: float) -> Mesh:
    """A rectangle at a depth, its outside towards the camera."""
    corners = np.array([[x[0], y[0], z], [x[1], y[0], z], [x[1], y[1], z], [x[0], y[1], z]])
    return Mesh(corners, np.array([[0, 2, 1], [0, 3, 2]]))


def rays(size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) unit directions through the pixel centres."""
    u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    directions = np.stack([(u - PRINCIPAL[0]) / FOCAL, (v - PRINCIPAL[1]) / FOCAL, np.ones(u.shape)], axis=-1)
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def first_hits(directions: np.ndarray, mesh: Mesh) -> np.ndarray:
    """The first face that each ray from the origin meets, -1 for none: a = t d - u (b - a) - v (c - a)."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    hits = []
    for d in directions:
        system = np.stack([np.broadcast_to(d, a.shape), a - b, a - c], axis=-1)
        t, u, v = np.linalg.solve(system, a[..., None])[..., 0].T
        t = np.where((t > 0) & (u >= 0) & (v >= 0) & (u + v <= 1), t, np.inf)
        hits.append(t.argmin() if np.isfinite(t).any() else -1)
    return np.array(hits)


def detection(points: np.ndarray, confidence: float | np.ndarray = 1.0) -> Detection:
    scheme = LandmarkScheme("test", [f"p{i}" for i in range(len(points))])
    return Detection(scheme, points, np.ones(points.shape), np.broadcast_to(confidence, len(points)))


class TestRender:
    def test_a_sphere_has_its_projected_outline_and_depth(self) -> None:
        center, radius = np.array([0.08, -0.05, 1.0]), 0.25
        rendering = render([sphere(tuple(center), radius)], FOCAL, PRINCIPAL, SIZE)
        # a ray of unit direction d meets the sphere where t^2 - 2 t d.c + |c|^2 - r^2 = 0
        directions = rays(SIZE)
        along = directions @ center
        discriminant = along**2 - (center @ center - radius**2)
        hit = discriminant > 0
        off_the_rim = np.abs(discriminant) > 2e-3
        seen = rendering.face_index >= 0
        np.testing.assert_array_equal(seen[off_the_rim], hit[off_the_rim])
        assert hit.sum() > 1500
        inner = hit & off_the_rim
        depth = (along - np.sqrt(np.maximum(discriminant, 0))) * directions[..., 2]
        # flat faces lie at most 2e-4 inside a sphere of this subdivision, more along slanting rays
        np.testing.assert_allclose(rendering.depth[inner], depth[inner], atol=2e-3)
        assert np.abs(rendering.depth[inner] - depth[inner]).mean() < 3e-4
        assert np.isinf(rendering.depth[~seen]).all()

    def test_indices_and_barycentrics_give_the_point_on_the_ray(self) -> None:
        mesh = sphere((0.0, 0.0, 1.0), 0.3, 3)
        rendering = render([mesh], FOCAL, PRINCIPAL, SIZE)
        seen = rendering.face_index >= 0
        corners = mesh.vertices[mesh.faces[rendering.face_index[seen]]]
        points = np.einsum("nk,nkd->nd", rendering.barycentric[seen], corners)
        expected = rays(SIZE)[seen] / rays(SIZE)[seen][:, 2:] * rendering.depth[seen][:, None]
        np.testing.assert_allclose(points, expected, atol=2e-6)
        assert (rendering.barycentric[seen] >= -1e-6).all()
        np.testing.assert_allclose(rendering.barycentric[seen].sum(axis=1), 1, atol=1e-6)
        assert (rendering.barycentric[~seen] == 0).all()
        assert (rendering.face_index[~seen] == -1).all()

    def test_it_agrees_with_every_ray_against_every_triangle(self) -> None:
        mesh = sphere((0.02, 0.01, 1.0), 0.3, 2)
        rendering = render([mesh], 20.0, (11.5, 8.5), (24, 18))
        u, v = np.meshgrid(np.arange(24), np.arange(18))
        directions = np.stack([(u - 11.5) / 20, (v - 8.5) / 20, np.ones(u.shape)], axis=-1).reshape(-1, 3)
        faces = first_hits(directions, mesh)
        assert (faces >= 0).sum() > 50
        np.testing.assert_array_equal(rendering.face_index.ravel(), faces)

    def test_a_tiny_triangle_around_a_pixel_centre_hits_that_pixel_alone(self) -> None:
        z = 2.0
        for u, v in [(0, 0), (37, 12), (119, 89)]:
            center = np.array([(u - PRINCIPAL[0]) / FOCAL * z, (v - PRINCIPAL[1]) / FOCAL * z, z])
            offsets = np.array([[-1, -1, 0], [1, -1, 0], [0, 1, 0]]) * (0.02 * z / FOCAL)
            rendering = render([Mesh(center + offsets, np.array([[0, 2, 1]]))], FOCAL, PRINCIPAL, SIZE)
            assert np.argwhere(rendering.face_index >= 0).tolist() == [[v, u]]
            assert rendering.depth[v, u] == pytest.approx(z)
            np.testing.assert_allclose(rendering.barycentric[v, u], [0.25, 0.5, 0.25], atol=1e-2)

    def test_a_triangle_between_pixel_centres_hits_nothing(self) -> None:
        center = np.array([(30.5 - PRINCIPAL[0]) / FOCAL, (40.5 - PRINCIPAL[1]) / FOCAL, 1.0])
        offsets = np.array([[-1, -1, 0], [1, -1, 0], [0, 1, 0]]) * (0.4 / FOCAL)
        rendering = render([Mesh(center + offsets, np.array([[0, 1, 2]]))], FOCAL, PRINCIPAL, SIZE)
        assert (rendering.face_index == -1).all()

    def test_the_nearer_of_several_meshes_is_seen(self) -> None:
        far = rectangle((-0.4, 0.4), (-0.3, 0.3), 1.0)
        near = rectangle((0.0, 0.2), (-0.1, 0.1), 0.5)
        for meshes, (far_index, near_index) in (([far, near], (0, 1)), ([near, far], (1, 0))):
            rendering = render(meshes, FOCAL, PRINCIPAL, SIZE)
            u, v = np.meshgrid(np.arange(SIZE[0]) - PRINCIPAL[0], np.arange(SIZE[1]) - PRINCIPAL[1])
            in_near = (u > 0) & (u < 40) & (np.abs(v) < 20)
            in_far = (np.abs(u) < 40) & (np.abs(v) < 30)
            expected = np.where(in_near, near_index, np.where(in_far, far_index, -1))
            np.testing.assert_array_equal(rendering.mesh_index, expected)
            assert set(rendering.face_index[in_far]) == {0, 1}
            np.testing.assert_allclose(rendering.depth[in_near], 0.5, rtol=1e-6)
            np.testing.assert_allclose(rendering.depth[in_far & ~in_near], 1.0, rtol=1e-6)

    def test_what_lies_behind_the_camera_is_not_seen(self) -> None:
        assert (render([sphere((0, 0, -1.0), 0.3, 2)], FOCAL, PRINCIPAL, SIZE).mesh_index == -1).all()

    def test_no_mesh_gives_an_empty_rendering(self) -> None:
        rendering = render([], FOCAL, PRINCIPAL, SIZE)
        assert rendering.depth.shape == (90, 120)
        assert np.isinf(rendering.depth).all()
        assert (rendering.mesh_index == -1).all()


class TestVisiblePoints:
    def test_the_front_of_a_sphere_is_visible(self) -> None:
        center, radius = np.array([0.1, 0.05, 1.0]), 0.2
        ball = sphere(tuple(center), radius)
        # a point p of the sphere faces the camera where (p - c).p < 0
        facing = np.einsum("nd,nd->n", ball.vertices - center, ball.vertices) / radius
        clear = np.abs(facing) > 0.1
        visible = visible_points(ball.vertices, [ball])
        np.testing.assert_array_equal(visible[clear], facing[clear] < 0)
        assert 3000 < visible.sum() < 7000

    def test_the_tolerance_is_metres_behind_the_surface(self) -> None:
        wall = rectangle((-1, 1), (-1, 1), 1.0)
        points = np.array([[0, 0, 0.5], [0, 0, 1.0], [0, 0, 1.009], [0, 0, 1.011], [0, 0, 3.0]])
        assert visible_points(points, [wall], 0.01).tolist() == [True, True, True, False, False]
        # by default 0.005 of the diagonal, here 0.0141 m
        points = np.array([[0, 0, 1.014], [0, 0, 1.0145]])
        assert visible_points(points, [wall]).tolist() == [True, False]

    def test_another_mesh_hides_points(self) -> None:
        face, hand = sphere((0, 0, 1.0), 0.1, 3), sphere((0, 0, 0.5), 0.02, 3)
        points = np.array([[0, 0, 0.9], [0.06, 0, 0.92]])
        assert visible_points(points, [face], 0.01).tolist() == [True, True]
        assert visible_points(points, [face, hand], 0.01).tolist() == [False, True]

    def test_points_behind_the_camera_or_at_it_are_not_visible(self) -> None:
        points = np.array([[0, 0, -1.0], [0, 0, 0], [0.5, 0, 1.0]])
        assert visible_points(points, []).tolist() == [False, False, True]

    def test_other_shapes_are_refused(self) -> None:
        with pytest.raises(ShapeError, match=r"points: expected shape \(n, 3\), found \(4, 2\)"):
            visible_points(np.zeros((4, 2)), [])


class TestShade:
    def test_alpha_is_the_covered_part_of_the_pixel(self) -> None:
        # the rectangle ends at column 50.25 and row 39.8; pixel n reaches from n - 0.5 to n + 0.5
        x, y = (50.25 - PRINCIPAL[0]) / FOCAL, (39.8 - PRINCIPAL[1]) / FOCAL
        alpha = shade([rectangle((-1, x), (-1, y), 1.0)], FOCAL, PRINCIPAL, SIZE)[..., 3] / 255
        assert (alpha[:40, :50] == 1).all()
        assert (alpha[:, 51:] == 0).all()
        assert (alpha[41:] == 0).all()
        # to the precision of three samples across a pixel
        np.testing.assert_allclose(alpha[40, :50], 0.3, atol=1 / 6)
        np.testing.assert_allclose(alpha[:40, 50], 0.75, atol=1 / 6)
        assert alpha[40, 50] == pytest.approx(0.3 * 0.75, abs=1 / 6)

    def test_alpha_sums_to_the_area_of_the_outline(self) -> None:
        # on the axis, the outline of a sphere at distance c is a circle of radius f r / sqrt(c^2 - r^2)
        alpha = shade([sphere((0, 0, 1.0), 0.3)], FOCAL, PRINCIPAL, SIZE)[..., 3]
        radius = FOCAL * 0.3 / np.sqrt(1 - 0.3**2)
        assert alpha.sum() / 255 == pytest.approx(np.pi * radius**2, rel=3e-3)

    def test_light_comes_from_above(self) -> None:
        image = shade([sphere((0, 0, 1.0), 0.3)], FOCAL, PRINCIPAL, SIZE).astype(int)
        upper, middle, lower = image[25, 59, :3], image[44, 59, :3], image[70, 59, :3]
        assert upper.sum() > lower.sum() + 60
        assert middle.sum() > lower.sum() + 60
        assert image[..., :3].max() < 255  # nothing is blown out

    def test_the_inside_is_darker_than_the_outside(self) -> None:
        wall = rectangle((-1, 1), (-1, 1), 1.0)
        turned = Mesh(wall.vertices, wall.faces[:, ::-1])
        outside, inside = (int(shade([m], FOCAL, PRINCIPAL, SIZE)[45, 60, 1]) for m in (wall, turned))
        assert inside < 0.75 * outside

    def test_a_nearer_mesh_covers_a_farther_one(self) -> None:
        far, near = sphere((0, 0, 2.0), 0.4), sphere((0, 0, 1.0), 0.1)
        both = shade([far, near], FOCAL, PRINCIPAL, SIZE)
        alone = shade([near], FOCAL, PRINCIPAL, SIZE)
        inner = (slice(40, 50), slice(55, 65))
        np.testing.assert_allclose(both[inner].astype(int), alone[inner], atol=1)
        swapped = shade([near, far], FOCAL, PRINCIPAL, SIZE)
        np.testing.assert_allclose(both.astype(int), swapped, atol=1)

    def test_a_large_mesh_is_whole(self) -> None:
        # 757 x 757 pixels, which are drawn in more than one piece
        alpha = shade([sphere((0, 0, 1.0), 0.3, 6)], 1200.0, (499.5, 499.5), (1000, 1000))[..., 3] / 255
        radius = 1200 * 0.3 / np.sqrt(1 - 0.3**2)
        y = np.arange(1000) - 499.5
        chords = 2 * np.sqrt(np.maximum(radius**2 - y**2, 0))
        clear = np.abs(np.abs(y) - radius) > 5
        np.testing.assert_allclose(alpha.sum(axis=1)[clear], chords[clear], atol=0.7)

    @pytest.mark.parametrize("center", [(9.0, 0, 1), (0, -9.0, 1), (0, 0, -1.0)])
    def test_a_mesh_out_of_sight_leaves_nothing(self, center: tuple[float, float, float]) -> None:
        assert (shade([sphere(center, 0.3, 2)], FOCAL, PRINCIPAL, SIZE) == 0).all()

    def test_a_mesh_around_the_camera_fills_the_picture(self) -> None:
        assert (shade([sphere((0, 0, 0), 1.0, 3)], FOCAL, PRINCIPAL, SIZE)[..., 3] == 255).all()


@pytest.fixture
def photograph() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (90, 120, 3)).astype(np.uint8)


class TestOverlay:
    def test_mesh_and_photograph_can_both_be_seen(self, photograph: np.ndarray) -> None:
        ball = sphere((0, 0, 1.0), 0.3)
        before = photograph.copy()
        overlay = np.asarray(draw_overlay(photograph, [ball], FOCAL, PRINCIPAL)).astype(float)
        np.testing.assert_array_equal(photograph, before)
        clay = shade([ball], FOCAL, PRINCIPAL, SIZE).astype(float)
        uncovered, covered = clay[..., 3] == 0, clay[..., 3] == 255
        np.testing.assert_array_equal(overlay[uncovered], photograph[uncovered])
        # inside it is a fixed mixture of both
        opacity = 0.72
        mixed = opacity * clay[covered][:, :3] + (1 - opacity) * photograph[covered]
        np.testing.assert_allclose(overlay[covered], mixed, atol=1.5)

    def test_nothing_to_draw_leaves_the_photograph(self, photograph: np.ndarray) -> None:
        np.testing.assert_array_equal(draw_overlay(photograph, [], FOCAL, PRINCIPAL), photograph)
        np.testing.assert_array_equal(draw_landmarks(photograph, []), photograph)
        nowhere = detection(np.full((3, 2), np.nan))
        np.testing.assert_array_equal(draw_landmarks(photograph, [nowhere]), photograph)

    def test_dots_are_centred_on_their_points(self) -> None:
        grey = np.full((90, 120, 3), 100, dtype=np.uint8)
        points = np.array([[20.3, 30.0], [100.0, 70.6], [60.0, 10.5]])
        drawn = np.asarray(draw_landmarks(grey, [detection(points)])).astype(float)
        changed = np.abs(drawn - 100).sum(axis=-1)
        v, u = np.mgrid[:90, :120]
        for x, y in points:
            near = np.hypot(u - x, v - y) < 8
            weight = changed * near
            assert weight.sum() > 500
            assert (weight * u).sum() / weight.sum() == pytest.approx(x, abs=0.15)
            assert (weight * v).sum() / weight.sum() == pytest.approx(y, abs=0.15)
            changed[near] = 0
        assert (changed == 0).all()

    def test_dots_grow_with_the_detection(self) -> None:
        grey = np.full((1000, 1000, 3), 100, dtype=np.uint8)
        shape = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
        areas = [
            (np.asarray(draw_landmarks(grey, [detection(100 + extent * shape)])) != 100).any(axis=-1).sum()
            for extent in (200, 800)
        ]
        assert areas[1] > 6 * areas[0]

    def test_points_outside_and_unknown_are_left_out(self) -> None:
        grey = np.full((90, 120, 3), 100, dtype=np.uint8)
        points = np.array([[20.0, 30.0], [-500.0, 1e12], [np.nan, 5.0], [np.inf, 5.0], [-1e9, -1e9]])
        drawn = (np.asarray(draw_landmarks(grey, [detection(points)])) != 100).any(axis=-1)
        assert drawn[30, 20]

    def test_other_pictures_are_refused(self, photograph: np.ndarray) -> None:
        with pytest.raises(ShapeError, match=r"pixels: expected shape \(H, W, 3\), found \(90, 120\)"):
            draw_overlay(photograph[..., 0], [], FOCAL, PRINCIPAL)
        with pytest.raises(InputError, match="pixels must be uint8, found float64"):
            draw_landmarks(photograph / 255, [])


class TestConfidence:
    GREY = np.full((600, 800, 3), 100, dtype=np.uint8)
    VIOLET, TEAL, YELLOW = (68, 1, 84), (33, 144, 140), (253, 231, 37)  # of viridis: its ends and its middle

    def drawn(self, points: np.ndarray, confidence: float | np.ndarray, legend: bool = False) -> np.ndarray:
        picture = Picture(self.GREY, (800, 600))
        found = [detection(points, confidence)]
        return np.asarray(landmarks_image(found, picture) if legend else draw_landmarks(self.GREY, found))

    def test_dots_have_the_colour_of_their_confidence(self) -> None:
        points = np.array([[100, 100], [400, 300], [700, 500]])
        drawn = self.drawn(points, np.array([0.0, 0.5, 1.0]))
        assert [tuple(drawn[y, x]) for x, y in points] == [self.VIOLET, self.TEAL, self.YELLOW]

    @given(st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted))
    def test_the_more_confident_of_two_is_lighter_and_lies_above(self, confidence: list[float]) -> None:
        assume(confidence[1] - confidence[0] > 0.05)
        for order in (1, -1):
            pair = np.array(confidence)[::order]
            apart = self.drawn(np.array([[100, 100], [700, 500]]), pair)
            assert np.sign(int(apart[500, 700].sum()) - int(apart[100, 100].sum())) == order
            corners = np.array([[100, 100], [700, 500], [400, 300], [400, 300]])
            above = self.drawn(corners, np.array([0.5, 0.5, *pair]))
            assert (above[300, 400] == map_colours(np.array(confidence))[1]).all()

    def test_the_less_confident_are_smaller(self) -> None:
        drawn = self.drawn(np.array([[200, 300], [600, 300]]), np.array([0.1, 0.9]))
        changed = (drawn != self.GREY).any(axis=2)
        assert changed[:, 400:].sum() > 1.5 * changed[:, :400].sum()

    def test_many_landmarks_leave_the_face_in_sight(self) -> None:
        grid = np.stack(np.meshgrid(np.linspace(300, 500, 52), np.linspace(200, 400, 52)), axis=-1)
        drawn = self.drawn(grid.reshape(-1, 2), 0.8)[200:400, 300:500]
        changed = np.abs(drawn.astype(int) - 100).sum(axis=2)
        assert 0.1 < (changed > 60).mean() < 0.5

    @pytest.mark.parametrize("same", [0.0, 0.3, 1.0])
    def test_equal_confidences_are_one_colour(self, same: float) -> None:
        points = np.array([[100, 100], [400, 300], [700, 500]])
        drawn = self.drawn(points, same)
        assert {tuple(drawn[y, x]) for x, y in points} == {tuple(map_colours(np.array(same)))}

    def test_the_legend_shows_all_colours_in_their_order(self) -> None:
        points = np.array([[100, 100], [700, 100], [700, 500]])
        plain, drawn = (self.drawn(points, 0.5, legend) for legend in (False, True))
        y, x = np.nonzero((plain != drawn).any(axis=2))
        corner = drawn[y.min() : y.max() + 1, x.min() : x.max() + 1]
        middle = corner[len(corner) // 2].astype(int)
        (start,), (stop,) = (
            np.flatnonzero((middle == end).all(axis=1))[[0]] for end in (self.VIOLET, self.YELLOW)
        )
        assert stop - start > 50
        expected = map_colours(np.linspace(0, 1, stop - start + 1)).astype(int)
        assert np.abs(middle[start : stop + 1] - expected).max() < 8
        # with something written at both ends
        light = corner.min(axis=2) > 200
        assert light[:, :start].any()
        assert light[:, stop + 1 :].any()

    @pytest.mark.parametrize("free", range(4))
    def test_the_legend_lies_in_a_corner_without_landmarks(self, free: int) -> None:
        corners = np.array([[20, 20], [780, 20], [20, 585], [780, 585]])
        taken = np.delete(corners, free, axis=0)
        plain, drawn = (self.drawn(taken, 1.0, legend) for legend in (False, True))
        y, x = np.nonzero((plain != drawn).any(axis=2))
        low, high = np.array([x.min(), y.min()]), np.array([x.max(), y.max()])
        assert ((low <= corners[free]) & (corners[free] <= high)).all()
        assert not ((low <= taken) & (taken <= high)).all(axis=1).any()

    def test_without_landmarks_or_room_there_is_no_legend(self, photograph: np.ndarray) -> None:
        np.testing.assert_array_equal(landmarks_image([], Picture(self.GREY, (800, 600))), self.GREY)
        found = [detection(np.array([[20.0, 20.0], [100.0, 70.0]]))]
        small = landmarks_image(found, Picture(photograph, (120, 90)))
        np.testing.assert_array_equal(small, draw_landmarks(photograph, found))


class TestPanel:
    def test_a_row_of_four_tiles_for_each_mesh(self, photograph: np.ndarray) -> None:
        balls = [sphere((-0.2, 0, 1.0), 0.15), sphere((0.3, 0.1, 1.5), 0.2)]
        panel = np.asarray(draw_panel(photograph, balls, FOCAL, PRINCIPAL))
        assert panel.shape == (2 * PANEL_TILE, 4 * PANEL_TILE, 3)
        tiles = panel.reshape(2, PANEL_TILE, 4, PANEL_TILE, 3).swapaxes(1, 2)
        middle, corner = tiles[:, :, PANEL_TILE // 2, PANEL_TILE // 2], tiles[:, :, 2, 2]
        assert (middle[:, 0] != middle[:, 1]).any(axis=-1).all()  # the mesh is laid over the photograph
        np.testing.assert_array_equal(corner[:, 0], corner[:, 1])  # but not outside of it
        assert (middle[:, 2:] != corner[:, 2:]).any(axis=-1).all()

    def test_the_overlay_is_cut_out_around_the_mesh(self) -> None:
        grey = np.full((90, 120, 3), 100, dtype=np.uint8)
        mesh = rectangle((0.1, 0.3), (0.0, 0.2), 1.0)
        middle = np.array([79.5, 54.5])
        dots = detection(middle + np.array([[-5, -5], [5, -5], [5, 5], [-5, 5]]))
        panel = np.asarray(draw_panel(grey, [mesh], FOCAL, PRINCIPAL, [dots]))
        overlay = panel[:, PANEL_TILE : 2 * PANEL_TILE].astype(int)
        rows, columns = np.nonzero((overlay != 100).any(axis=-1))
        # the rectangle covers 20 of the 32 pixels shown (with its margin of a pixel or two, times 1.3)
        for found in (rows, columns):
            assert (found.min() + found.max()) / 2 == pytest.approx((PANEL_TILE - 1) / 2, abs=16)
            assert np.ptp(found) / PANEL_TILE == pytest.approx(20 / 31, abs=0.03)
        # and the dots, drawn around the middle of the rectangle, are around the middle of it here too
        yellow = overlay[..., 0] - overlay[..., 2] > 120
        y, x = np.argwhere(yellow).mean(axis=0)
        assert y == pytest.approx((rows.min() + rows.max()) / 2, abs=1)
        assert x == pytest.approx((columns.min() + columns.max()) / 2, abs=1)

    def test_in_the_side_view_the_front_faces_left(self, photograph: np.ndarray) -> None:
        ball = trimesh.creation.icosphere(subdivisions=4, radius=0.2)
        vertices = np.asarray(ball.vertices).copy()
        vertices[vertices[:, 2] < -0.17, 2] = -0.4  # a nose, towards the camera
        vertices[:, 2] += 1.5
        panel = np.asarray(draw_panel(photograph, [Mesh(vertices, ball.faces)], FOCAL, PRINCIPAL))
        side = panel[:, 3 * PANEL_TILE :]
        drawn = (side != side[0, 0]).any(axis=-1)
        # a nose to the left leaves the ball, with its highest column, to the right of the middle
        assert np.argmax(drawn.sum(axis=0)) > PANEL_TILE / 2 + 20

    def test_a_mesh_out_of_the_picture_still_has_its_views(self, photograph: np.ndarray) -> None:
        panel = np.asarray(draw_panel(photograph, [sphere((9, 0, 1), 0.3, 3)], FOCAL, PRINCIPAL))
        middle = panel[PANEL_TILE // 2, PANEL_TILE // 2 :: PANEL_TILE]
        np.testing.assert_array_equal(middle[0], middle[1])
        assert (middle[2] != panel[2, 2 * PANEL_TILE + 2]).any()

    def test_no_mesh_is_an_error(self, photograph: np.ndarray) -> None:
        with pytest.raises(InputError, match=r"found none.*draw_landmarks"):
            draw_panel(photograph, [], FOCAL, PRINCIPAL)


def test_open3d_is_imported_only_to_cast_rays() -> None:
    code = (
        "import sys, numpy as np, partfit.rendering as r\n"
        "r.draw_landmarks(np.zeros((4, 4, 3), np.uint8), [])\n"
        "assert 'open3d' not in sys.modules\n"
        "r.render([], 1.0, (0.0, 0.0), (2, 2))\n"
        "assert 'open3d' in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


class TestView:
    """A ball at the origin, axes of the camera frame: the front is -z."""

    POINTS = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.3, 0.3, -0.5]])
    COLOURS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]])

    def colours_shown(self, turn: float) -> dict[int, np.ndarray]:
        """The middles of the dots that are seen."""
        tile = np.asarray(draw_view(sphere((0, 0, 0), 1.0), turn, self.POINTS, self.COLOURS)).astype(int)
        same = [np.argwhere((tile == 255 * colour).all(axis=2)) for colour in self.COLOURS]
        return {i: found.mean(axis=0)[::-1] for i, found in enumerate(same) if len(found)}

    def test_dots_lie_on_their_points_and_hidden_ones_are_left_out(self) -> None:
        shown = self.colours_shown(0.0)
        assert set(shown) >= {0, 3}
        assert 1 not in shown
        np.testing.assert_allclose(shown[0], (PANEL_TILE - 1) / 2, atol=0.5)
        np.testing.assert_allclose(shown[3], (PANEL_TILE - 1) / 2 + 0.3 * 0.48 * PANEL_TILE / 0.95, atol=1)

    def test_what_faced_the_camera_turns_to_the_left(self) -> None:
        assert self.colours_shown(1.2)[0][0] < 0.1 * PANEL_TILE
        assert self.colours_shown(-1.2)[0][0] > 0.9 * PANEL_TILE

    def test_inside_points_are_seen_where_the_surface_before_them_is_near(self) -> None:
        ball = sphere((0, 0, 10), 1.0)
        points = np.array([[0.0, 0.0, 9.5], [0.0, 0.0, 10.5]])
        assert visible_points(points, [ball], inside_tolerance(points, ball)).tolist() == [True, False]
