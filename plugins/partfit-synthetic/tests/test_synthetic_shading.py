"""Rays, light and sampling against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from partfit_synthetic.noise import noise, smoothstep
from partfit_synthetic.scene import (
    Hits,
    Samples,
    Scene,
    directions_through,
    from_camera,
    normals_of,
    rays_of_pixels,
)
from partfit_synthetic.shading import Lights, illuminate, random_lights


def ball(center: tuple[float, float, float], radius: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(4, radius)
    return np.asarray(mesh.vertices) + center, np.asarray(mesh.faces)


def white(direction: tuple[float, float, float], sky: float = 0.0) -> Lights:
    return Lights(
        np.full(3, sky, np.float32),
        np.zeros((3, 3), np.float32),
        np.array([direction], np.float32),
        np.ones((1, 3), np.float32),
        np.array([0.01], np.float32),
    )


def test_rays_meet_the_nearest_mesh():
    scene = Scene([ball((0, 0, 2.0)), ball((0, 0, 1.0), 0.05)])
    sides = directions_through(
        np.array([[10.0, 10.0], [10 + 100 * 0.04, 10.0], [30.0, 10.0]]), 100.0, np.full(2, 10)
    )
    hits = scene.cast(from_camera(sides))
    assert hits.ray.tolist() == [0, 1]
    assert hits.owner.tolist() == [1, 1]  # the small ball is seen out to 0.05 / sqrt(1 - 0.05^2)
    assert hits.distance[0] == pytest.approx(0.95, abs=1e-4)
    places = scene.interpolation(hits) @ scene.vertices
    np.testing.assert_allclose(places, hits.distance[:, None] * sides[hits.ray], atol=1e-5)


def test_normals_of_a_ball_point_outwards():
    vertices, faces = ball((0, 0, 0))
    np.testing.assert_allclose(normals_of(vertices, faces), vertices / 0.1, atol=0.01)


def test_a_ball_is_lit_on_the_side_of_the_lamp_and_sees_half_the_sky():
    vertices, faces = ball((0, 0, 1.0))
    scene, normals = Scene([(vertices, faces)]), normals_of(vertices, faces)
    every = np.arange(len(vertices))
    light = illuminate(scene, normals, every, white((0, 0, -1.0)), np.random.default_rng(0))
    towards = -normals[:, 2]
    assert light.diffuse[towards > 0.9].min() > 0.8
    assert light.diffuse[towards < -0.5].max() < 0.05
    assert light.open.mean() > 0.97
    red, _, blue = light.diffuse[np.abs(towards) < 0.1].mean(axis=0)
    assert red > blue  # what scatters below skin is red


def test_what_stands_before_the_lamp_casts_a_shadow():
    lit, other = ball((0, 0, 1.0)), ball((0, 0, 0.5))
    normals = np.concatenate([normals_of(*lit), normals_of(*other)])
    scene = Scene([lit, other])
    light = illuminate(scene, normals, np.arange(len(normals)), white((0, 0, -1.0)), np.random.default_rng(0))
    front = np.argmin(lit[0][:, 2])
    assert light.lit[front, 0] < 0.05
    assert light.lit[len(lit[0]) + np.argmin(other[0][:, 2]), 0] > 0.95


def test_every_light_is_finite_and_not_negative():
    normals = np.random.default_rng(0).normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for seed in range(100):
        lights = random_lights(np.random.default_rng(seed))
        np.testing.assert_allclose(np.linalg.norm(lights.directions, axis=1), 1, atol=1e-5)
        assert np.isfinite(lights.colours).all()
        assert (lights.ambient(normals) > 0).all()


def test_samples_average_to_pixels():
    uneven = np.zeros((4, 4), dtype=bool)
    uneven[1, 2] = uneven[3, 3] = True
    samples = Samples.of(uneven)
    x, y = np.meshgrid(np.arange(4), np.arange(4))
    middles = np.stack([x.ravel(), y.ravel()], axis=1)
    assert (len(middles), len(samples.further)) == (16, 4)
    # a ramp is the same however often it is sampled
    ramp = samples.picture(np.concatenate([middles, samples.further]))
    np.testing.assert_allclose(ramp[..., 0], x)
    np.testing.assert_allclose(ramp[..., 1], y)


def test_rays_go_on_behind_what_they_met():
    scene = Scene([ball((0, 0, 2.0)), ball((0, 0, 1.0), 0.05)])
    rays = rays_of_pixels(3, 100.0, np.array([1.0, 1.0]))
    hits, owners = scene.cast(rays), []
    while len(hits.ray):
        owners.append(hits.owner[hits.ray == 4].item())
        depth = hits.distance[hits.ray == 4].item()
        hits = scene.cast_beyond(rays, hits)
    assert owners == [1, 1, 0, 0]
    assert depth == pytest.approx(2.1, abs=1e-3)


def test_rays_of_pixels_go_through_their_middles():
    y, x = np.divmod(np.arange(9), 3)
    expected = directions_through(np.stack([x, y], axis=1), 50.0, np.array([0.3, 7.0]))
    np.testing.assert_allclose(rays_of_pixels(3, 50.0, np.array([0.3, 7.0]))[:, 3:], expected, atol=1e-6)


def test_samples_of_a_pixel_share_a_colour_where_they_show_one_surface():
    uneven = np.array([[True, False], [False, True]])
    samples = Samples.of(uneven)
    # the middles of four pixels, then two more samples of the first, which shows a step, and of the last
    hits = Hits(
        np.arange(8),
        np.array([1, 1, 1, 1, 1.5, 1.001, 1, 1], dtype=np.float32),
        np.array([0, 0, 0, 0, 0, 0, 1, 0]),
        np.zeros(8, dtype=np.int32),
        np.zeros((8, 3), dtype=np.float32),
    )
    fine = np.array([False, False, False, True])
    assert samples.alike(hits, fine, 0.1).tolist() == [0, 1, 2, 3, 4, 0, 6, 7]
    assert samples.alike(hits, ~fine, 0.1).tolist() == [0, 1, 2, 3, 4, 5, 6, 3]
    # what of a pixel meets nothing has no part in it
    assert samples.alike(hits.of(np.array([1, 5, 7])), fine, 0.1).tolist() == [0, 1, 2]


def test_noise_is_standard_and_repeats_exactly():
    points = np.random.default_rng(0).uniform(-1, 1, (20000, 3))
    values = noise(points, 0.02, np.array([3.0, 1.0, 4.0]))
    assert abs(values.mean()) < 0.05
    assert values.std() == pytest.approx(1, abs=0.05)
    assert np.array_equal(values[:50], noise(points[:50], 0.02, np.array([3.0, 1.0, 4.0])))
    near = noise(points + np.array([0.001, 0, 0]), 0.02, np.array([3.0, 1.0, 4.0]))
    assert np.corrcoef(values, near)[0, 1] > 0.8


def test_smoothstep_rises_or_falls():
    x = np.linspace(-1, 2, 7)
    np.testing.assert_allclose(smoothstep(0, 1, x), [0, 0, 0, 0.5, 1, 1, 1])
    np.testing.assert_allclose(smoothstep(1, 0, x), 1 - smoothstep(0, 1, x))
