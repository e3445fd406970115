"""Landmark transfer: exact observations, a landmarker made of colours, and MediaPipe on the Anny models."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import attrs
import numpy as np
import pytest
import torch
import trimesh
from click.testing import CliRunner
from PIL import Image

from partfit.cli import main
from partfit.embedding_files import read_embedding
from partfit.errors import ComponentError, ConfigError, InputError
from partfit.landmarks import Detection, Detector, LandmarkEmbedding, Landmarker, LandmarkScheme, Region
from partfit.models import ParameterGroup, ParametricModel, Topology
from partfit.pipeline import Pipeline
from partfit.registry import default_registry
from partfit.transfer import TransferSettings, transfer_landmarks
from partfit.transfer.locate import Observations, locate_joints, locate_on_surface, mirror_images
from partfit.transfer.renders import make_renders, random_states, rest_points

#: A ball that is no sphere, metres, and the colours of four places on it, left, right, top and front.
RADII = np.array([0.06, 0.08, 0.05])
PLACES = np.array([[0.7, 0.1, 0.7], [-0.7, 0.1, 0.7], [0.0, 0.8, 0.6], [0.0, -0.4, 0.9]])
COLOURS = np.array([[0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.9], [0.9, 0.9, 0.1]])
SCHEME = LandmarkScheme("dots4", ("left", "right", "top", "front"), mirror=[1, 0, 2, 3])


class Ball(ParametricModel):
    """A ball with coloured dots, whose size varies."""

    def __init__(self) -> None:
        super().__init__()
        ball = trimesh.creation.icosphere(subdivisions=4)
        self.directions = np.asarray(ball.vertices)
        places = PLACES / np.linalg.norm(PLACES, axis=1, keepdims=True)
        self.centers = (self.directions @ places.T).argmax(axis=0)
        colors = np.full(self.directions.shape, 0.7)
        for center, colour in zip(self.centers, COLOURS, strict=True):
            colors[self.directions @ self.directions[center] > math.cos(0.2)] = colour
        self._topology = Topology("ball", len(self.directions), np.asarray(ball.faces), colors=colors)

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        return (
            ParameterGroup("size", 1, prior_mean=[1.0], sqrt_information=[10.0], lower=[0.8], upper=[1.2]),
            ParameterGroup("transl", 3, rigid=True),
        )

    @property
    def topology(self) -> Topology:
        return self._topology

    def points(self, x: torch.Tensor) -> torch.Tensor:
        shape = torch.as_tensor(self.directions * RADII).to(x)
        return x[:, :1, None] * shape + x[:, None, 1:]


class Everywhere(Detector):
    """Says that the part is the whole picture."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Region]]:
        return [[Region(((w - 1) / 2, (h - 1) / 2), (w, h))] for h, w, _ in (i.shape for i in images)]


class Dots(Landmarker):
    """Finds the middles of the four colours, whatever the light; needs to see a dot of each."""

    @property
    def scheme(self) -> LandmarkScheme:
        return SCHEME

    def locate(
        self, images: Sequence[np.ndarray], regions: Sequence[Sequence[Region]]
    ) -> list[list[Detection]]:
        return [self._one(image / 255) for image in images]

    def _one(self, image: np.ndarray) -> list[Detection]:
        brightness = image.max(axis=2, keepdims=True)
        hue = image / np.maximum(brightness, 1e-6)
        points = []
        for colour in COLOURS:
            like = np.linalg.norm(hue - colour / colour.max(), axis=2) < 0.25
            rows, columns = np.nonzero(like & (brightness[..., 0] > 0.1))
            if not 12 < len(rows) < 0.05 * brightness.size:  # hidden, or the background has this colour
                return []
            points.append([columns.mean(), rows.mean()])
        return [Detection(self.scheme, points, np.ones((4, 2)), np.ones(4))]


@attrs.frozen(eq=False)
class Hide:
    """What a landmarker says of a point that it leaves out."""

    points: float
    scale: float
    confidence: float

    def __call__(self, detection: Detection, left_out: int) -> Detection:
        chosen = np.arange(4) == left_out
        return attrs.evolve(
            detection,
            points=np.where(chosen[:, None], self.points, detection.points),
            scale=np.where(chosen[:, None], self.scale, detection.scale),
            confidence=np.where(chosen, self.confidence, detection.confidence),
        )


LEFT_OUT = {"by NaN": Hide(np.nan, 1.0, 1.0), "by scale": Hide(0.0, np.inf, 0.0)}


class Forgetful(Dots):
    """Leaves a point out: the top one always, or another one in each picture."""

    def __init__(self, hide: Hide, always: bool) -> None:
        super().__init__()
        self._hide, self._always, self._count = hide, always, 0

    def _one(self, image: np.ndarray) -> list[Detection]:
        self._count += 1
        left_out = 2 if self._always else self._count % 4
        return [self._hide(detection, left_out) for detection in super()._one(image)]


class Replays(Dots):
    """Says exactly where the dots are in the first renders, and accepts no more."""

    def __init__(self, settings: TransferSettings, accepted: int) -> None:
        super().__init__()
        self._answers = []
        for i, render in enumerate(make_renders(Ball(), settings)):
            places = render.points[Ball().centers]
            points = render.focal * places[:, :2] / places[:, 2:] + render.principal
            exact = Detection(self.scheme, points, np.ones((4, 2)), np.ones(4))
            self._answers.append([exact] if i < accepted else [])

    def _one(self, image: np.ndarray) -> list[Detection]:
        return self._answers.pop(0)


class Noise(Dots):
    """Says anything."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = np.random.default_rng(0)

    def _one(self, image: np.ndarray) -> list[Detection]:
        points = self._rng.uniform(0.2, 0.8, (4, 2)) * len(image)
        return [Detection(self.scheme, points, np.ones((4, 2)), np.ones(4))]


class OnePoint(Dots):
    """Says the same point for all landmarks."""

    def _one(self, image: np.ndarray) -> list[Detection]:
        return [Detection(self.scheme, np.full((4, 2), 20.0), np.ones((4, 2)), np.ones(4))]


class TooShort(Dots):
    """Forgets a picture."""

    def locate(
        self, images: Sequence[np.ndarray], regions: Sequence[Sequence[Region]]
    ) -> list[list[Detection]]:
        return super().locate(images, regions)[:-1]


class Nothing(Everywhere):
    """Returns None."""

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Region]]:
        return None  # type: ignore[return-value]


class OneSided(Ball):
    """A ball that is said to be a left one."""

    @attrs.frozen
    class Config:
        side: str = "left"


class Slit(Ball):
    """A ball cut open behind, along a meridian, without a gap."""

    def __init__(self) -> None:
        super().__init__()
        whole, n = self._topology, self._topology.n_vertices
        of_left = self.directions[whole.faces].mean(axis=1)[:, 0] > 0
        shared = np.intersect1d(whole.faces[of_left], whole.faces[~of_left])
        behind = shared[self.directions[shared, 2] < -0.3]
        number = np.arange(n)
        number[behind] = n + np.arange(len(behind))
        faces = np.where(of_left[:, None], number[whole.faces], whole.faces)
        self.directions = np.concatenate([self.directions, self.directions[behind]])
        colors = np.concatenate([whole.colors, whole.colors[behind]])
        self._topology = Topology("ball", len(self.directions), faces, colors=colors)


class Blind(Dots):
    """Accepts nothing."""

    def _one(self, image: np.ndarray) -> list[Detection]:
        return []


class OfAnotherScheme(Dots):
    """Returns what it does not promise."""

    def _one(self, image: np.ndarray) -> list[Detection]:
        other = LandmarkScheme("dots1", ("only",))
        return [Detection(other, np.zeros((1, 2)), np.ones((1, 2)), np.ones(1))]


@pytest.fixture(scope="module")
def head() -> ParametricModel:
    return default_registry().create("model", "anny-head")


def observed(
    model: ParametricModel, embedding: LandmarkEmbedding, settings: TransferSettings
) -> Observations:
    """What an exact landmarker would see."""
    renders = list(make_renders(model, settings))
    places = [embedding.apply(render.points) for render in renders]
    return Observations(
        np.stack([render.points for render in renders]), np.stack([p[:, :2] / p[:, 2:] for p in places])
    )


def gaps_mm(model: ParametricModel, one: LandmarkEmbedding, other: LandmarkEmbedding) -> np.ndarray:
    """Distances (L,) of the places of two embeddings on the model at rest, millimetres."""
    rest = rest_points(model)
    return 1e3 * np.linalg.norm(one.apply(rest) - other.apply(rest), axis=1)


class TestExactObservations:
    def test_places_on_the_surface_are_recovered(self, head: ParametricModel) -> None:
        truth = default_registry().create("embedding", "anny-head/mediapipe468")
        seen = observed(head, truth, TransferSettings(renders=24, size=32))
        faces = head.topology.faces
        on_face = faces[np.isin(faces, head.topology.region("face")).all(axis=1)]
        spots = locate_on_surface(seen, on_face, seen.limit)
        found = attrs.evolve(truth, indices=spots.corners, weights=spots.barycentric)
        assert gaps_mm(head, found, truth).max() < 0.1

    def test_failures_of_the_landmarker_do_not_matter(self, head: ParametricModel) -> None:
        truth = default_registry().create("embedding", "anny-head/mediapipe468")
        seen = observed(head, truth, TransferSettings(renders=30, size=32))
        rays = seen.rays.copy()
        rays[::5] += 0.05  # a quarter of the head's width
        wrong = Observations(seen.points, rays)
        faces = head.topology.faces
        on_face = faces[np.isin(faces, head.topology.region("face")).all(axis=1)]
        spots = locate_on_surface(wrong, on_face, seen.limit)
        found = attrs.evolve(truth, indices=spots.corners, weights=spots.barycentric)
        assert np.quantile(gaps_mm(head, found, truth), 0.95) < 0.1

    def test_joints_are_recovered_as_virtual_points_or_from_the_skin_around(self) -> None:
        hand = default_registry().create("model", "anny-hand")
        truth = default_registry().create("embedding", "anny-hand-right/hand21")
        seen = observed(hand, truth, TransferSettings("joints", renders=60, size=32))
        n_vertices = hand.topology.n_vertices
        indices, weights = locate_joints(seen, n_vertices, seen.limit)
        found = attrs.evolve(truth, indices=indices, weights=weights)
        assert gaps_mm(hand, found, truth).max() < 0.1
        skin_alone = Observations(seen.points[:, :n_vertices], seen.rays)
        indices, weights = locate_joints(skin_alone, n_vertices, seen.limit)
        assert indices.shape == (21, 8)
        assert indices.max() < n_vertices
        found = attrs.evolve(truth, indices=indices, weights=weights)
        assert gaps_mm(hand, found, truth).max() < 0.6


class TestRenders:
    def test_parameters_follow_the_priors_within_the_limits(self, head: ParametricModel) -> None:
        x = random_states(head, 400, 0.7, np.random.default_rng(0)).numpy()
        betas, jaw = x[:, head.slices["betas"]], x[:, head.slices["jaw_pose"]]
        np.testing.assert_allclose(betas.std(), 0.7, rtol=0.02)
        assert (jaw >= head.group("jaw_pose").lower).all()
        assert (jaw <= head.group("jaw_pose").upper).all()
        assert jaw[:, 0].std() > 0.03
        assert (x[:, head.slices["transl"]] == 0).all()

    def test_a_prior_over_combinations_is_followed(self) -> None:
        hand = default_registry().create("model", "anny-hand")
        group = hand.group("hand_pose")
        assert group.sqrt_information.ndim == 2
        wide = attrs.evolve(group, lower=np.full(group.size, -np.inf), upper=np.full(group.size, np.inf))

        class Posed(Ball):
            groups = (wide,)

        x = random_states(Posed(), 20000, 1.0, np.random.default_rng(0)).numpy()
        whitened = (x - group.prior_mean) @ np.linalg.cholesky(group.information)
        np.testing.assert_allclose(np.cov(whitened.T), np.eye(group.size), atol=0.06)

    def test_the_picture_shows_the_points_where_they_are_said_to_be(self) -> None:
        for render in make_renders(Ball(), TransferSettings(renders=10, size=128)):
            found = Dots()._one(render.image / 255)
            for detection in found:
                places = render.points[Ball().centers]
                pixels = render.focal * places[:, :2] / places[:, 2:] + render.principal
                assert np.abs(detection.points - pixels).max() < 2
                np.testing.assert_allclose(render.rays(pixels), places[:, :2] / places[:, 2:])

    def test_only_a_cut_is_drawn_out_into_a_stump_not_a_slit(self) -> None:
        settings = TransferSettings(renders=10, size=64)
        closed, slit = (list(make_renders(model, settings)) for model in (Ball(), Slit()))
        for one, other in zip(closed, slit, strict=True):
            changed = np.abs(one.image.astype(int) - other.image).max(axis=2) > 20
            assert changed.mean() < 0.01

    def test_they_are_the_same_for_the_same_seed(self) -> None:
        settings = TransferSettings(renders=10, size=32)
        one, two = (list(make_renders(Ball(), settings)) for _ in range(2))
        other = list(make_renders(Ball(), attrs.evolve(settings, seed=1)))
        assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))
        assert not np.array_equal(one[0].image, other[0].image)


class TestWholeWay:
    def test_a_landmarker_of_colours_finds_its_dots(self) -> None:
        model = Ball()
        result = transfer_landmarks(model, Everywhere(), Dots(), TransferSettings(renders=60, size=128))
        truth = LandmarkEmbedding.of_vertices(SCHEME, "ball", model.centers.tolist())
        # dots of 12 mm in pixels of 1.2 mm; the middle of what is seen is not the image of the middle
        assert gaps_mm(model, result.embedding, truth).max() < 1.5
        assert result.embedding.scheme is SCHEME
        assert result.report["symmetric"]
        left, right = result.embedding.apply(rest_points(model))[:2]
        np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-4)
        renders = result.report["renders"]
        assert renders["made"] == 60
        assert 20 <= renders["accepted"] < 60
        assert renders["held_out"] == math.ceil(renders["accepted"] / 5)
        assert max(row["held_out_mm"] for row in result.report["landmarks"]) < 2
        assert [row["name"] for row in result.report["landmarks"]] == list(SCHEME.names)
        json.dumps(result.report, allow_nan=False)
        assert np.asarray(result.picture).std() > 10

    @pytest.mark.parametrize("hide", LEFT_OUT.values(), ids=LEFT_OUT)
    def test_points_that_a_landmarker_leaves_out_now_and_then_are_found(self, hide: Hide) -> None:
        model = Ball()
        settings = TransferSettings(renders=60, size=128)
        result = transfer_landmarks(model, Everywhere(), Forgetful(hide, always=False), settings)
        truth = LandmarkEmbedding.of_vertices(SCHEME, "ball", model.centers.tolist())
        assert gaps_mm(model, result.embedding, truth).max() < 1.5
        assert (result.embedding.reliability > 0.3).all()
        renders = result.report["renders"]
        used = renders["accepted"] - renders["held_out"] - renders["rejected"]
        assert sum(row["seen"] for row in result.report["landmarks"]) == 3 * used

    @pytest.mark.parametrize("hide", LEFT_OUT.values(), ids=LEFT_OUT)
    def test_a_point_that_is_always_left_out_is_not_known(self, hide: Hide) -> None:
        model = Ball()
        settings = TransferSettings(renders=60, size=128)
        result = transfer_landmarks(model, Everywhere(), Forgetful(hide, always=True), settings)
        truth = LandmarkEmbedding.of_vertices(SCHEME, "ball", model.centers.tolist())
        known = [0, 1, 3]
        assert gaps_mm(model, result.embedding, truth)[known].max() < 1.5
        assert (result.embedding.reliability[known] > 0.3).all()
        assert result.embedding.reliability[2] == 0
        top = result.report["landmarks"][2]
        assert (top["seen"], top["residual_mm"], top["held_out_mm"]) == (0, None, None)
        json.dumps(result.report, allow_nan=False)

    @pytest.mark.parametrize("on", ["surface", "joints"])
    def test_half_of_the_least_number_of_renders_is_enough(self, on) -> None:
        model, settings = Ball(), TransferSettings(on, renders=10, size=32, yaw=0.5, pitch=0.3, roll=0.15)
        result = transfer_landmarks(model, Everywhere(), Replays(settings, 5), settings)
        truth = LandmarkEmbedding.of_vertices(SCHEME, "ball", model.centers.tolist())
        assert gaps_mm(model, result.embedding, truth).max() < 0.1
        with pytest.raises(InputError, match=r"accepts 4 of 10 renders.*expected 5 or more"):
            transfer_landmarks(model, Everywhere(), Replays(settings, 4), settings)

    def test_exact_landmarks_are_reliable_and_noise_is_not(self) -> None:
        settings = TransferSettings(renders=20, size=32)
        exact = transfer_landmarks(Ball(), Everywhere(), Replays(settings, 20), settings)
        noise = transfer_landmarks(Ball(), Everywhere(), Noise(), settings)
        assert (exact.embedding.reliability > 0.99).all()
        assert (noise.embedding.reliability < 0.25).all()

    def test_a_model_of_one_side_has_no_mirror(self) -> None:
        settings = TransferSettings(renders=20, size=32)
        ball, left = (
            transfer_landmarks(model, Everywhere(), Replays(settings, 20), settings)
            for model in (Ball(), OneSided())
        )
        assert ball.report["symmetric"]
        assert not left.report["symmetric"]

    def test_landmarks_at_one_point_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"OnePoint says the same point for all landmarks of 'dots4'"):
            transfer_landmarks(Ball(), Everywhere(), OnePoint(), TransferSettings(renders=10, size=32))

    def test_components_that_do_not_answer_for_each_picture_are_named(self) -> None:
        settings = TransferSettings(renders=10, size=32)
        with pytest.raises(ComponentError, match=r"TooShort.locate returned a list of 9; expected .* 10"):
            transfer_landmarks(Ball(), Everywhere(), TooShort(), settings)
        with pytest.raises(ComponentError, match=r"Nothing.detect returned None"):
            transfer_landmarks(Ball(), Nothing(), Dots(), settings)

    def test_it_says_what_to_change_when_nothing_is_accepted(self) -> None:
        with pytest.raises(InputError, match=r"accepts 0 of 10 renders of 'ball'.*part in 10.*narrow"):
            transfer_landmarks(Ball(), Everywhere(), Blind(), TransferSettings(renders=10, size=32))

    def test_a_landmarker_that_breaks_its_word_is_named(self) -> None:
        with pytest.raises(ComponentError, match=r"OfAnotherScheme.*'dots4'.*'dots1'"):
            transfer_landmarks(Ball(), Everywhere(), OfAnotherScheme(), TransferSettings(renders=10, size=32))

    def test_the_mirror_is_found_where_there_is_one(self) -> None:
        ball = Ball()
        vertices = rest_points(ball)
        assert mirror_images(vertices, ball.topology.faces) is not None
        bent = vertices + 0.3 * np.maximum(vertices[:, :1], 0) * [0, 1, 0]
        assert mirror_images(bent, ball.topology.faces) is None

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"on": "bone"}, "on: expected 'surface' or 'joints'"),
            ({"renders": 3}, "renders: expected 10 or more"),
            ({"yaw": 4.0}, "yaw: expected 0 to 3.142"),
            ({"spread": -1.0}, "spread: expected 0"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, options: dict, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            TransferSettings(**options)


def recovered(pipeline: Pipeline, settings: TransferSettings) -> tuple[np.ndarray, LandmarkEmbedding]:
    """Distances from the places that a plugin ships, millimetres, and the embedding found."""
    model, landmarker = pipeline.model, pipeline.landmarker
    result = transfer_landmarks(model, pipeline.detector, landmarker, settings)
    return gaps_mm(model, result.embedding, pipeline.find_embedding(landmarker.scheme.name)), result.embedding


class TestHiddenEmbeddings:
    """The places that partfit-anny ships are found again."""

    def test_a_few_renders_find_a_face(self, head: ParametricModel) -> None:
        gaps, embedding = recovered(Pipeline("face", model=head), TransferSettings(renders=24, size=192))
        assert np.median(gaps) < 2
        assert np.quantile(gaps, 0.95) < 8
        # the outline slides along the silhouette: temple against nose tip
        assert embedding.reliability[127] < 0.7 * embedding.reliability[4]

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [0, 1])
    def test_face(self, head: ParametricModel, seed: int) -> None:
        gaps, _ = recovered(Pipeline("face", model=head), TransferSettings(seed=seed))
        assert np.median(gaps) < 2
        assert np.quantile(gaps, 0.95) < 5

    @pytest.mark.slow
    def test_hand(self) -> None:
        pipeline = Pipeline("hand")
        gaps, embedding = recovered(pipeline, TransferSettings("joints"))
        assert np.median(gaps) < 2
        assert gaps.max() < 5
        model, truth = pipeline.model, pipeline.find_embedding("hand21")
        x = random_states(model, 50, 1.0, np.random.default_rng(5))
        points = model.points(x).numpy()
        posed = np.linalg.norm(embedding.apply(points) - truth.apply(points), axis=-1)
        assert np.median(posed) < 4e-3


class TestCommand:
    def test_it_writes_what_a_fit_reads(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("PARTFIT_CACHE", str(tmp_path))
        done = CliRunner().invoke(
            main,
            ["transfer-landmarks", "--landmarker", "mediapipe-hand", "--on", "joints", "--renders", "30"],
        )
        assert done.exit_code == 0, done.output
        (path,) = tmp_path.glob("embeddings/*.safetensors")
        assert path.name.startswith("anny-hand-right-hand21-")
        assert f"wrote {path}" in done.output
        assert f"To take this one, give them --embedding {path}" in done.output  # the plugin has its own
        embedding = read_embedding(path)
        assert embedding.topology == "anny-hand-right"
        report = json.loads(path.with_name(f"{path.stem}-transfer.json").read_text())
        assert report["settings"]["on"] == "joints"
        assert report["embedding"] == embedding.hash
        with Image.open(path.with_name(f"{path.stem}-transfer.png")) as picture:
            assert picture.size == (1440, 960)

    def test_options_that_cannot_be_meant_are_refused(self, tmp_path) -> None:
        for options, message in (
            (["--part", "face,hand"], "one part at a time"),
            (["--landmarker", "mediapipe-face-iris"], "--landmarker mediapipe-face-iris: expected one part"),
            (["--out", str(tmp_path / "rows.npz")], "ends in .safetensors"),
        ):
            done = CliRunner().invoke(main, ["transfer-landmarks", *options])
            assert done.exit_code == 1
            assert message in done.output
