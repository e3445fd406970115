"""Hair, hats, glasses, clothes and occluders: meshes that hold, drawn by the generator alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import partfit
from partfit.embedding_finder import EmbeddingFinder
from partfit_synthetic.anchors import LEFT_EYE, RIGHT_EYE, FaceAnchors
from partfit_synthetic.clothes import COLUMNS, clothes_things
from partfit_synthetic.glasses import glasses_things
from partfit_synthetic.hair import COLOURS, Style, hair_colour, hair_things, shell_things, strand_colour
from partfit_synthetic.hats import dressed_head, hat_things
from partfit_synthetic.occluders import hand_things, object_things, occluder_things
from partfit_synthetic.scalp import scalp_of
from partfit_synthetic.scene import Scene, from_camera, normals_of
from partfit_synthetic.things import Thing

SKIN = np.array([0.4, 0.25, 0.18])
SEEDS = range(12)

Maker = Callable[[FaceAnchors, np.random.Generator], list[Thing]]
MAKERS: dict[str, Maker] = {
    "hair": hair_things,
    "covered hair": lambda head, rng: hair_things(head, rng, covered=True),
    "hat": hat_things,
    "glasses": glasses_things,
    "clothes": lambda head, rng: clothes_things(head, rng, SKIN),
    "occluder": lambda head, rng: occluder_things(head.vertices, rng, SKIN),
    "hand": lambda head, rng: hand_things(head.vertices, rng),
    "object": lambda head, rng: object_things(head.vertices, rng),
}


def head(
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0), seed: int | None = None, jaw: float = 0.0
) -> FaceAnchors:
    """An Anny head, 0.9 m before the camera; a random identity for a seed; the mouth opened by the jaw."""
    import torch

    model = partfit.create("model", "anny-head")
    x = {group.name: np.zeros(group.size) for group in model.groups}
    rest = _points(model, x, torch)
    if seed is not None:
        x["betas"] = np.random.default_rng(seed).normal(size=len(x["betas"]))
    x["expression"][model.group("expression").names.index("jawOpen")] = jaw
    points = _points(model, x, torch)
    face = EmbeddingFinder(partfit.default_registry(), ()).find("ibug68", model)
    rotation = Rotation.from_euler("yxz", turn).as_matrix()
    rotation = np.diag([1.0, -1.0, -1.0]) @ rotation
    place = np.array([0.0, 0.0, 0.9])
    marks, own = face.apply(points) @ rotation.T + place, face.apply(rest)
    n = model.topology.n_vertices
    vertices = (points[:n] @ rotation.T + place).astype(np.float32)
    eyes = np.r_[RIGHT_EYE, LEFT_EYE]
    return FaceAnchors(
        vertices=vertices,
        normals=normals_of(vertices, model.topology.faces),
        faces=model.topology.faces,
        regions=model.topology.regions,
        canonical=rest[:n],
        landmarks=marks,
        canonical_landmarks=own,
        rotation=rotation,
        origin=marks[eyes].mean(axis=0),
        size=float(np.linalg.norm(marks[36] - marks[45]) / np.linalg.norm(own[36] - own[45])),
    )


def _points(model, x, torch) -> np.ndarray:
    with torch.no_grad():
        return model.points(torch.as_tensor(np.concatenate(list(x.values())))[None])[0].numpy()


@pytest.fixture(scope="module")
def heads() -> list[FaceAnchors]:
    return [head(), head((0.7, 0.2, -0.1), 1), head((-1.3, -0.3, 0.2), 2)]


def seen_first(head: FaceAnchors, things: list[Thing], points: np.ndarray) -> np.ndarray:
    """(n,) opacity of what lies before points, by rays of its own."""
    covered = np.zeros(len(points))
    distance = np.linalg.norm(points, axis=1)
    for thing in things:
        hits = Scene([(thing.vertices, thing.faces)]).cast(from_camera(points / distance[:, None]))
        near = hits.distance < distance[hits.ray] - 0.0005
        rest = np.einsum("kc,kcd->kd", hits.barycentric, np.asarray(thing.rest)[thing.faces[hits.face]])
        opacity = thing.opacity(rest.astype(np.float32)) if callable(thing.opacity) else thing.opacity
        if isinstance(opacity, np.ndarray) and opacity.shape != (len(rest),):
            opacity = np.einsum("kc,kc->k", hits.barycentric, opacity[thing.faces[hits.face]])
        covered[hits.ray] = np.maximum(covered[hits.ray], near * np.broadcast_to(opacity, len(near)))
    return covered


@pytest.mark.parametrize("kind", MAKERS)
def test_meshes_hold(kind: str, heads: list[FaceAnchors]) -> None:
    """Indices in range, finite numbers, no part without size, colours and opacities within [0, 1]."""
    for seed in SEEDS:
        for thing in MAKERS[kind](heads[seed % 3], np.random.default_rng(seed)):
            assert thing.vertices.dtype == np.float32
            assert len(thing.faces) > 0
            assert thing.faces.min() >= 0
            assert thing.faces.max() < len(thing.vertices)
            assert np.isfinite(thing.vertices).all()
            assert len(thing.rest) == len(thing.vertices)
            assert np.isfinite(thing.rest).all()
            assert np.sort(np.ptp(thing.vertices, axis=0))[1] > 1e-4
            a, b, c = (thing.vertices[thing.faces[:, k]] for k in range(3))
            area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
            assert np.median(area) > 1e-9
            rest = np.asarray(thing.rest, dtype=np.float32)
            albedo = thing.albedo(rest) if callable(thing.albedo) else thing.albedo
            assert albedo.shape == thing.vertices.shape
            assert albedo.dtype == np.float32
            assert albedo.min() >= 0
            assert albedo.max() <= 1
            opacity = thing.opacity(rest) if callable(thing.opacity) else np.asarray(thing.opacity)
            assert opacity.min() >= 0
            assert opacity.max() <= 1


@pytest.mark.parametrize("kind", MAKERS)
def test_the_generator_decides_everything(kind: str, heads: list[FaceAnchors]) -> None:
    def drawn(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        things = MAKERS[kind](heads[0], rng)
        arrays = [thing.vertices for thing in things] + [thing.faces for thing in things]
        for thing in things:
            places = np.asarray(thing.rest, dtype=np.float32)
            arrays.append(thing.albedo(places) if callable(thing.albedo) else thing.albedo)
            arrays.append(thing.opacity(places) if callable(thing.opacity) else np.asarray(thing.opacity))
        return [*arrays, rng.random(2)]

    for seed in range(4):
        first, second = drawn(seed), drawn(seed)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    counts = {len(drawn(seed)[0]) for seed in range(4)}
    assert len(counts) > 1 or not np.array_equal(drawn(0)[0], drawn(1)[0])


def test_hair_leaves_the_face_free(heads: list[FaceAnchors]) -> None:
    """Combed-away hair hides no eyes, nose or mouth; a deep fringe hides the brows, but not the mouth."""
    rng = np.random.default_rng(3)
    for anchors in heads[:2]:
        inner = anchors.landmarks[np.r_[27:68]]
        for style in (Style(), Style(hanging=0.25), Style(thickness=0.03, curl=0.8)):
            look = strand_colour(rng, np.full(3, 0.05), style)
            covered = seen_first(anchors, shell_things(anchors, rng, style, look), inner)
            if anchors is heads[0]:
                assert covered.max() < 0.1
            else:  # from the side, hanging hair may lie over the far corner of an eye
                assert (covered < 0.1).mean() > 0.9
    style = Style(fringe=-0.015, thickness=0.012)
    look = strand_colour(rng, np.full(3, 0.05), style)
    things = shell_things(heads[0], rng, style, look)
    assert (seen_first(heads[0], things, heads[0].landmarks[17:27]) > 0.9).mean() > 0.6
    assert seen_first(heads[0], things, heads[0].landmarks[48:68]).max() == 0


def test_hair_covers_the_scalp_and_stands_off_it(heads: list[FaceAnchors]) -> None:
    rng = np.random.default_rng(0)
    style = Style(thickness=0.01)
    for anchors in heads[:2]:
        scalp = scalp_of(anchors)
        upper = scalp.on(anchors)[scalp.rest[..., 1] > scalp.brow_height + 0.065]
        points = anchors.to_camera(upper)
        outwards = (upper - scalp.centre * anchors.size) @ anchors.rotation.T
        facing = (outwards * points).sum(axis=1) < -0.3 * np.linalg.norm(outwards, axis=1) * np.linalg.norm(
            points, axis=1
        )
        things = shell_things(anchors, rng, style, strand_colour(rng, np.full(3, 0.05), style))
        assert facing.sum() > 5
        assert (seen_first(anchors, things, points[facing]) > 0.8).mean() > 0.9


def test_hair_follows_the_head(heads: list[FaceAnchors]) -> None:
    """The same hair on a turned head is the turned hair, up to what the camera sees and gravity does."""
    style = Style(thickness=0.01)
    turned = head((0.5, 0.1, 0.3))
    grids = [scalp_of(anchors).on(anchors) for anchors in (heads[0], turned)]
    np.testing.assert_allclose(grids[0], grids[1], atol=1e-6)
    assert style.hanging == 0


def test_the_scalp_bridges_the_ears(heads: list[FaceAnchors]) -> None:
    """No point of the grid lies on an ear, and the grid is smooth across them."""
    grid = scalp_of(heads[0]).rest
    steps = np.linalg.norm(np.diff(grid[4:20], axis=1), axis=-1)
    assert steps.max() < 0.02
    ear = heads[0].canonical[heads[0].region("ears")]
    assert np.abs(grid[..., 0]).max() < np.abs(ear[:, 0]).max() - 0.008


def test_most_hair_is_dark() -> None:
    rng = np.random.default_rng(0)
    colours = np.array([hair_colour(rng) for _ in range(600)])
    assert colours.min() > 0
    assert colours.max() < 1
    assert 0.6 < (colours.mean(axis=1) < 0.08).mean() < 0.85
    assert sum(chance for _, chance in COLOURS) == pytest.approx(1, abs=0.05)


def test_glasses_sit_before_the_eyes(heads: list[FaceAnchors]) -> None:
    """Both eyes look through a lens, and clear lenses hide nothing."""
    for seed in SEEDS:
        anchors = heads[seed % 2]
        frame, lenses = glasses_things(anchors, np.random.default_rng(seed))
        middles = np.stack([anchors.landmarks[rows].mean(axis=0) for rows in (RIGHT_EYE, LEFT_EYE)])
        own = anchors.to_head(lenses.vertices.astype(float))
        for middle, lens in zip(anchors.to_head(middles), np.split(own, 2), strict=True):
            assert (lens[:, :2].min(axis=0) < middle[:2]).all()
            assert (middle[:2] < lens[:, :2].max(axis=0)).all()
            assert lens[:, 2].min() > middle[2]
        assert np.linalg.norm(anchors.to_head(frame.vertices.astype(float)), axis=1).max() < 0.2
        assert lenses.occludes == bool(lenses.opacity(np.array([[0, 1, 5]], np.float32))[0] > 0.5)


def test_the_neck_goes_on_where_the_model_ends(heads: list[FaceAnchors]) -> None:
    for seed in SEEDS:
        anchors = heads[seed % 3]
        neck = clothes_things(anchors, np.random.default_rng(seed), SKIN)[0]
        first = neck.vertices[: COLUMNS + 1]
        distance = np.linalg.norm(first[:, None] - anchors.vertices[None], axis=2).min(axis=1)
        assert distance.max() < 0.006
        assert neck.vertices[:, 1].max() > anchors.vertices[:, 1].max() + 0.03


def test_a_mask_hides_the_mouth_but_no_eyes(heads: list[FaceAnchors]) -> None:
    for seed, anchors in enumerate((*heads[:2], head(jaw=0.8))):
        things = dressed_head(anchors, np.random.default_rng(seed), "mask")
        mouth = np.concatenate(
            [anchors.landmarks[48:68], anchors.landmarks[60:68].mean(axis=0, keepdims=True)]
        )
        assert (seen_first(anchors, things, mouth) == 1).all()
        assert seen_first(anchors, things, anchors.landmarks[36:48]).max() == 0


@pytest.mark.parametrize("kind", ["cap", "beanie", "brimmed", "headscarf"])
def test_hats_cover_the_top_and_no_eyes(kind: str, heads: list[FaceAnchors]) -> None:
    anchors = heads[0]
    top = anchors.vertices[anchors.vertices[:, 1].argmin()][None].astype(float)
    for seed in range(4):
        things = dressed_head(anchors, np.random.default_rng(seed), kind)
        assert seen_first(anchors, things, top)[0] == 1
        assert seen_first(anchors, things, anchors.landmarks[48:68]).max() == 0


def test_occluders_come_between_the_camera_and_the_part(heads: list[FaceAnchors]) -> None:
    """Nearly all hide a part of the head, hardly any all of it."""
    share = []
    for seed in range(40):
        things = occluder_things(heads[0].vertices, np.random.default_rng(seed), SKIN)
        share.append((seen_first(heads[0], things, heads[0].landmarks) == 1).mean())
    assert np.mean(np.array(share) > 0) > 0.7
    assert np.mean(np.array(share) > 0.9) < 0.15
