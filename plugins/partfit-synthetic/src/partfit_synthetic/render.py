"""One picture: a posed part and what is around it, lit, photographed, and what is true of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.learning.datasets import Sample
from partfit.meshes import Mesh
from partfit.models.base import LandmarkFunction, ParametricModel
from partfit.rendering import SURFACE_TOLERANCE, surface_distances
from partfit_synthetic import anchors, maps, skin
from partfit_synthetic.anchors import FaceAnchors
from partfit_synthetic.backgrounds import PictureFolder, drawn_background
from partfit_synthetic.camera import View, ViewConfig, random_view
from partfit_synthetic.clothes import clothes_things
from partfit_synthetic.glasses import glasses_things
from partfit_synthetic.hair import hair_colour, hair_things
from partfit_synthetic.hats import hat_things
from partfit_synthetic.maps import PartMaps, part_maps
from partfit_synthetic.noise import smoothstep
from partfit_synthetic.occluders import occluder_things
from partfit_synthetic.photo import photograph
from partfit_synthetic.scene import (
    Hits,
    Samples,
    Scene,
    directions_through,
    from_camera,
    normals_of,
    rays_of_pixels,
    unit,
)
from partfit_synthetic.shading import (
    Illumination,
    Lights,
    highlights,
    illuminate,
    illuminate_thin,
    random_lights,
)
from partfit_synthetic.states import State, StateConfig, random_state
from partfit_synthetic.things import Texture, Thing

#: A step in depth, of the part's extent, at which more samples are taken.
_STEP = 0.04
#: Depth of pixels in which nothing is seen, metres.
_FAR = 1e3
#: Layers of what is translucent that are laid over one another.
_LAYERS = 3
#: A landmark behind translucent things counts as hidden when less than this is seen of it.
_SEEN_THROUGH = 0.5
#: From which pitch or roll on a view counts as atypical, and from which yaw on as sided, radians.
_BENT, _SIDED = 0.5, 0.5
#: What lies behind layers that let less through is left out.
_OPAQUE = 0.03


def _share(default: float) -> Any:
    return attrs.field(default=default, validator=[attrs.validators.ge(0), attrs.validators.le(1)])


@attrs.frozen
class LookConfig:
    """How often what is seen with a part.

    Attributes:
        hair: Share of heads with a hairdo.
        glasses: Share of heads with glasses.
        hat: Share of heads with something on them.
        clothes: Share of heads with clothes below the neck.
        occluder: Share of pictures with a hand or a thing before the part.
    """

    hair: float = _share(0.96)
    glasses: float = _share(0.28)
    hat: float = _share(0.1)
    clothes: float = _share(0.9)
    occluder: float = _share(0.2)


@attrs.frozen(eq=False)
class Subject:
    """A model, and what is needed to picture it.

    Attributes:
        model: The model.
        embedding: Of the scheme whose places are the truth.
        boxed: Indices of the landmarks that the box encloses.
        face: Of iBUG's 68 points, for models of heads; None for other parts.
        part: Its maps.
        depths: (L,) how far each landmark lies from the surface at rest, metres.
    """

    model: ParametricModel
    embedding: LandmarkEmbedding
    boxed: np.ndarray
    face: LandmarkEmbedding | None
    part: PartMaps = attrs.field(init=False)
    depths: np.ndarray = attrs.field(init=False)
    _first_vertex: LandmarkFunction = attrs.field(init=False)

    @_first_vertex.default
    def _follow_first_vertex(self) -> LandmarkFunction:
        scheme = LandmarkScheme("first-vertex", ["first"])
        embedding = LandmarkEmbedding.of_vertices(scheme, self.model.topology.name, [0])
        return self.model.landmarks(embedding, torch.zeros(()))

    @part.default
    def _maps(self) -> PartMaps:
        return part_maps(self.model, self.face)

    @depths.default
    def _rest_depths(self) -> np.ndarray:
        x = torch.as_tensor(np.concatenate([group.prior_mean for group in self.model.groups]))[None]
        with torch.no_grad():
            points = self.model.points(x)[0].numpy()
        return surface_distances(
            self.embedding.apply(points), [Mesh(self.part.rest, self.model.topology.faces)]
        )

    def parameters(
        self, state: State, view: View, posed: Float[np.ndarray, "points 3"]
    ) -> dict[str, np.ndarray]:
        """The groups (size,) of the state, with the rigid motion that brings the model before the camera.

        A model whose rigid groups are not `global_orient` and `transl` keeps them at zero.
        """
        groups = dict(state.parameters)
        if {group.name for group in self.model.groups if group.rigid} == {"global_orient", "transl"}:
            groups["global_orient"] = Rotation.from_matrix(view.rotation).as_rotvec()
            with torch.no_grad():
                x = State(groups, state.expression).vector(self.model)
                turned = self._first_vertex.points(x)[0].numpy()
            groups["transl"] = (view.to_camera(posed[:1]) - turned)[0]
        return groups

    def pose(self, state: State) -> Float[np.ndarray, "points 3"]:
        """(N, 3) the model's points in a state, model frame, metres.

        One thread works: with more, sums are added up in an order that depends on their number.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                return self.model.points(state.vector(self.model))[0].numpy().astype(np.float64)
        finally:
            torch.set_num_threads(threads)


def render_sample(
    subject: Subject,
    size: int,
    states: StateConfig,
    views: ViewConfig,
    looks: LookConfig,
    backgrounds: PictureFolder | None,
    rng: np.random.Generator,
    name: str,
) -> Sample:
    """A random picture of a subject.

    Args:
        subject: What is pictured.
        size: Side of the picture, pixels.
        states: How the model's states spread.
        views: From where it is seen.
        looks: What is seen with it.
        backgrounds: Pictures to stand behind it; None: drawn ones.
        rng: Source of all randomness.
        name: The sample's id.
    """
    state = random_state(subject.model, states, rng)
    posed = subject.pose(state)
    landmarks = subject.embedding.apply(posed)
    view = random_view(landmarks[subject.boxed], _upright(subject.part, posed), size, views, rng)
    mesh = posed[: len(subject.part.rest)]
    mesh = view.to_camera(np.concatenate([mesh, subject.part.stump.vertices(mesh)]))
    points = view.to_camera(landmarks)
    normals = normals_of(mesh, subject.part.faces)
    dressed = _anchors(subject, view, posed, mesh, normals)
    hair = hair_colour(rng)
    look = skin.random_look(subject.part.face, hair, rng)
    things = _things(dressed, mesh, look, hair, looks, rng)
    lights = random_lights(rng)
    stage = Stage(subject.part, mesh, normals, [thing for kind in things.values() for thing in kind])
    creases = _creases(subject.model, state)
    behind = drawn_background(rng, size) if backgrounds is None else backgrounds.crop(rng, size)
    # its own random numbers: it takes as many as surfaces are seen, and the photograph is not to depend on it
    light, occlusion = stage.picture(view, look, creases, lights, behind, rng.spawn(1)[0])
    pixels = view.project(points)
    boxed = pixels[subject.boxed]
    tolerance = 2 * subject.depths + SURFACE_TOLERANCE * _extent(mesh[: len(subject.part.rest)])
    inside = ((pixels >= -0.5) & (pixels <= size - 0.5)).all(axis=1)
    return Sample(
        id=name,
        image=photograph(light, rng, size),
        points=pixels,
        box=np.concatenate([boxed.min(axis=0), boxed.max(axis=0)]),
        visible=inside & stage.sees(points, tolerance),
        occlusion=occlusion,
        vertices=mesh[: len(subject.part.rest)],
        intrinsics=view.intrinsics,
        parameters=subject.parameters(state, view, posed),
        attributes={
            "expression": state.expression != "neutral",
            "expression kind": state.expression,
            "pose": _pose_name(view),
            "yaw": view.yaw,
            "pitch": view.pitch,
            "roll": view.roll,
            "distance": view.distance,
            **{kind: bool(things.get(kind)) for kind in ("hair", "glasses", "hat", "occluder")},
            "beard": look.beard is not None,
        },
    )


def _pose_name(view: View) -> str:
    """In DAD-3DHeads' words: `front`, `sided`, or `atypical` where the head is bent or tilted."""
    if max(abs(view.pitch), abs(view.roll)) > _BENT:
        return "atypical"
    return "sided" if abs(view.yaw) > _SIDED else "front"


def _extent(points: Float[np.ndarray, "n 3"]) -> float:
    """The longest side of the box about points."""
    return float(np.ptp(np.ascontiguousarray(points.T), axis=1).max())


def _upright(part: PartMaps, posed: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation that undoes the turn of a posed part, as by a bent neck, and brings its front to +z."""
    now, rest = posed[: len(part.rest)], part.rest
    return part.front @ _turn(now, rest)


def _turn(start: Float[np.ndarray, "n 3"], end: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation that brings points nearest to others, about the means of both.

    Source: Kabsch, A solution for the best rotation to relate two sets of vectors, 1976.
    """
    # einsum adds in one order, however many threads there are
    covariance = np.einsum("ni,nj->ij", end - end.mean(axis=0), start - start.mean(axis=0))
    u, _, v = np.linalg.svd(covariance)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v


def _anchors(
    subject: Subject,
    view: View,
    posed: Float[np.ndarray, "points 3"],
    mesh: Float[np.ndarray, "vertices 3"],
    normals: Float[np.ndarray, "vertices 3"],
) -> FaceAnchors | None:
    """The posed head for those who dress it; None if it is no head."""
    part = subject.part
    if subject.face is None or part.face is None:
        return None
    n = len(part.rest)
    landmarks = view.to_camera(subject.face.apply(posed))
    eyes = np.r_[anchors.RIGHT_EYE, anchors.LEFT_EYE]
    size = float(np.linalg.norm(landmarks[36] - landmarks[45])) / maps.EYE_CORNERS
    skull = part.face.skull
    turn = _turn(part.canonical[skull].astype(float), mesh[skull])
    return FaceAnchors(
        vertices=mesh[:n],
        normals=normals[:n],
        faces=subject.model.topology.faces,
        regions=subject.model.topology.regions,
        canonical=part.canonical[:n],
        landmarks=landmarks,
        canonical_landmarks=part.face.landmarks,
        rotation=turn,
        origin=landmarks[eyes].mean(axis=0),
        size=size,
    )


def _things(
    head: FaceAnchors | None,
    mesh: Float[np.ndarray, "vertices 3"],
    look: skin.Look,
    hair: Float[np.ndarray, " 3"],
    looks: LookConfig,
    rng: np.random.Generator,
) -> dict[str, list[Thing]]:
    """The things of one picture, by kind."""
    kinds: dict[str, list[Thing]] = {}
    if head is not None:
        if rng.random() < looks.hat:
            kinds["hat"] = hat_things(head, rng)
        if rng.random() < looks.hair:
            kinds["hair"] = hair_things(head, rng, hair, covered=_covered(kinds.get("hat", ())))
        if rng.random() < looks.glasses:
            kinds["glasses"] = glasses_things(head, rng)
        if rng.random() < looks.clothes:
            kinds["clothes"] = clothes_things(head, rng, look.base)
    if rng.random() < looks.occluder:
        kinds["occluder"] = occluder_things(mesh, rng, look.base)
    return kinds


def _covered(worn: Sequence[Thing]) -> bool:
    """Whether what is worn lies on the hair; a mask over the mouth does not."""
    return any(thing.name != "mask" for thing in worn)


def _creases(model: ParametricModel, state: State) -> dict[str, float]:
    """How much an expression wrinkles forehead, brows, cheeks and eyes, 0 to 1."""
    names = next((group.names for group in model.groups if group.name == "expression"), ())
    weights = dict(zip(names, state.parameters.get("expression", ()), strict=False))

    def mean(*actions: str) -> float:
        sides = [weights.get(f"{action}{side}", 0.0) for action in actions for side in ("Left", "Right")]
        return float(np.clip(np.mean(sides), 0, 1))

    return {
        "forehead": mean("browOuterUp"),
        "frown": mean("browDown"),
        "cheeks": mean("mouthSmile", "noseSneer", "cheekSquint"),
        "eyes": mean("eyeSquint", "cheekSquint"),
    }


@attrs.frozen(eq=False)
class Sampling:
    """Where a picture is sampled, and what the rays through its pixels' middles meet.

    Attributes:
        samples: Where.
        sent: (size^2, 6) the rays through the middles.
        fine: (size^2,) whether fine things are seen there.
        opaque: What they meet of what is opaque.
        thin: What they meet of the layers, where it lies before that; None without layers.
    """

    samples: Samples
    sent: np.ndarray
    fine: np.ndarray
    opaque: Hits
    thin: Hits | None


class Stage:
    """The meshes of one picture, ready for rays.

    The part is mesh 0 of the opaque ones; things follow in their order.
    """

    def __init__(
        self,
        part: PartMaps,
        mesh: Float[np.ndarray, "vertices 3"],
        normals: Float[np.ndarray, "vertices 3"],
        things: Sequence[Thing],
    ) -> None:
        self._part = part
        self._solid = [thing for thing in things if thing.opaque]
        self._thin = [thing for thing in things if not thing.opaque]
        self._extent = _extent(mesh)
        self._opaque = Scene([(mesh, part.faces), *((t.vertices, t.faces) for t in self._solid)])
        self._normals = np.concatenate([normals, _towards_camera(self._opaque, len(mesh), len(part.faces))])
        self._layers = Scene([(t.vertices, t.faces) for t in self._thin]) if self._thin else None

    def sees(
        self, points: Float[np.ndarray, "n 3"], tolerance: Float[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """(n,) whether points are in sight of the camera, past the part and all that hides it.

        Args:
            points: (n, 3) camera frame.
            tolerance: (n,) how far behind a surface a point still counts as lying on it, metres.
        """
        distance = np.linalg.norm(points, axis=1)
        rays = from_camera(points / distance[:, None])
        free = points[:, 2] > 0
        hits = self._opaque.cast(rays)
        thing = np.array([True, *(t.occludes for t in self._solid)])
        before = hits.distance + tolerance[hits.ray] < distance[hits.ray]
        free[hits.ray[before & thing[hits.owner]]] = False
        passed = np.ones(len(points), dtype=np.float32)
        nearest = None if self._layers is None else self._layers.cast(rays)
        for layer, opacity, _ in self._translucent(rays, nearest, distance - tolerance):
            hides = np.array([t.occludes for t in self._thin])[layer.owner]
            passed[layer.ray] *= 1 - opacity * hides
        return free & (passed > _SEEN_THROUGH)

    def samples(self, view: View, size: int) -> Sampling:
        """Where to sample a picture, and what the rays through its pixels' middles meet.

        It is sampled more often where what is seen changes, and on eyes, brows, lips and teeth.
        """
        sent = rays_of_pixels(size, view.focal, view.principal)
        what = np.full(size**2, -1, dtype=np.int32)
        depth = np.full(size**2, _FAR, dtype=np.float32)
        fine = np.zeros(size**2, dtype=bool)
        hits = self._opaque.cast(sent)
        what[hits.ray], depth[hits.ray] = hits.owner, hits.distance
        own = np.flatnonzero(hits.owner == 0)
        fine[hits.ray.take(own)] = self._part.fine.take(hits.face.take(own))
        thin = None
        if self._layers is not None:
            thin = self._layers.cast(sent)
            thin = thin.of(np.flatnonzero(thin.distance < depth[thin.ray]))
            what[thin.ray], depth[thin.ray] = 1000 + thin.owner, thin.distance
            fine[thin.ray] = False
        uneven = _changes(what.reshape(size, size), depth.reshape(size, size), _STEP * self._extent)
        samples = Samples.of(uneven | fine.reshape(size, size))
        return Sampling(samples, sent, fine, hits, thin)

    def picture(
        self,
        view: View,
        look: skin.Look,
        creases: Mapping[str, float],
        lights: Lights,
        behind: Float[np.ndarray, "size size 3"],
        rng: np.random.Generator,
    ) -> tuple[Float[np.ndarray, "size size 3"], Bool[np.ndarray, "size size"]]:
        """The light of each pixel, and where something is seen in front of the part."""
        sampling = self.samples(view, len(behind))
        samples, first = sampling.samples, len(sampling.sent)
        further = from_camera(directions_through(samples.further, view.focal, view.principal))
        sent = np.concatenate([sampling.sent, further])
        hits = sampling.opaque.followed_by(self._opaque.cast(further), first)
        step = _STEP * self._extent
        alike = samples.alike(hits, sampling.fine, step)
        chosen = np.flatnonzero(alike == np.arange(len(alike)))
        shown = hits.of(chosen)
        seen = self._opaque.corners(shown)
        illumination = illuminate(self._opaque, self._normals, seen, lights, rng)
        self._light_teeth(illumination.diffuse, look)
        colours = self._shaded(shown, sent, look, creases, illumination, lights)
        number = np.zeros(len(alike), dtype=np.int64)
        number[chosen] = np.arange(len(chosen))
        source = len(colours) + samples.pixel
        source[hits.ray] = number[alike]
        behind = behind.reshape(-1, 3).astype(np.float32, copy=False)
        light = np.concatenate([colours, behind]).take(source, axis=0)
        depth = np.full(len(sent), np.inf, dtype=np.float32)
        depth[hits.ray] = hits.distance
        hidden = np.zeros(len(sent), dtype=bool)
        covers = np.array([False, *(t.occludes for t in self._solid)])[hits.owner]
        hidden[hits.ray[covers]] = True
        thin = None
        if self._layers is not None and sampling.thin is not None:
            thin = sampling.thin.followed_by(self._layers.cast(further), first)
        self._lay_over(light, hidden, sent, thin, depth, lights)
        covered = samples.picture(hidden[:, None].astype(np.float32))[..., 0] >= 0.5
        covered &= self._part_behind(covered.ravel(), sampling).reshape(covered.shape)
        return samples.picture(light), covered

    def _part_behind(
        self, covered: Bool[np.ndarray, " pixels"], sampling: Sampling
    ) -> Bool[np.ndarray, " pixels"]:
        """(size^2,) the covered pixels on whose middle's ray the part lies, in sight or not."""
        behind = np.zeros(len(covered), dtype=bool)
        hits = sampling.opaque.of(np.flatnonzero(covered.take(sampling.opaque.ray)))
        while len(hits.ray):
            own = hits.owner == 0
            behind[hits.ray.take(np.flatnonzero(own))] = True
            things = hits.of(np.flatnonzero(~own))
            hits = self._opaque.cast_beyond(sampling.sent, things)
        return behind

    def _shaded(
        self,
        hits: Hits,
        sent: Float[np.ndarray, "rays 6"],
        look: skin.Look,
        creases: Mapping[str, float],
        illumination: Illumination,
        lights: Lights,
    ) -> Float[np.ndarray, "k 3"]:
        """(k, 3) the light that the hits send to the camera."""
        rest = np.concatenate([self._part.canonical, *(t.rest for t in self._solid)]).astype(np.float32)
        own = np.zeros((len(rest), 7), dtype=np.float32)
        own[: self._opaque.starts[1]] = skin.vertex_columns(self._part, look)
        columns = np.concatenate(
            [illumination.diffuse, self._normals, rest, own, illumination.open[:, None], illumination.lit],
            axis=1,
        )
        values = self._opaque.interpolation(hits) @ columns
        diffuse, normals, places = values[:, :3], unit(values[:, 3:6]), values[:, 6:9]
        lit, open_ = values[:, 17:], values[:, 16]
        albedo = _textured([thing.albedo for thing in self._solid], self._opaque, 1, hits, places, 3)
        gloss = np.array([0, *(thing.gloss for thing in self._solid)], dtype=np.float32).take(hits.owner)
        sharpness = 20 + 60 * gloss
        rows = np.flatnonzero(hits.owner == 0)
        if len(rows):
            surface = skin.paint(
                self._part,
                look,
                places.take(rows, axis=0),
                self._part.material.take(hits.face.take(rows)),
                values[:, 9:16].take(rows, axis=0),
                creases,
            )
            albedo[rows], gloss[rows], sharpness[rows] = surface.albedo, surface.gloss, surface.sharpness
        towards = unit(-sent.take(hits.ray, axis=0)[:, 3:])
        return albedo * diffuse + highlights(normals, towards, lit, open_, gloss, sharpness, lights)

    def _light_teeth(self, diffuse: Float[np.ndarray, "n 3"], look: skin.Look) -> None:
        """Let light reach the front teeth, which lie deeper behind the lips than a person's; in place."""
        face = self._part.face
        if face is None or not len(face.teeth):
            return
        lips = diffuse[face.lip_vertices]
        reaching = look.teeth_light * lips[lips.sum(axis=1) >= lips.sum(axis=1).mean()].mean(axis=0)
        front = smoothstep(-0.012, 0.014, self._part.canonical[face.teeth, 2])[:, None]
        own = diffuse[face.teeth]
        diffuse[face.teeth] = np.maximum(own, (0.75 * reaching + 0.5 * own) * front)

    def _translucent(
        self, rays: Float[np.ndarray, "n 6"], nearest: Hits | None, limit: Float[np.ndarray, " n"]
    ) -> list[tuple[Hits, Float[np.ndarray, " k"], Float[np.ndarray, "k 3"]]]:
        """The layers before a limit, nearest first: what is hit, its opacity, its place for textures.

        Args:
            rays: (n, 6) from the camera.
            nearest: What they meet of the layers first; None if there is none.
            limit: (n,) depths.
        """
        layers: list[tuple[Hits, np.ndarray, np.ndarray]] = []
        if self._layers is None or nearest is None:
            return layers
        rest = np.concatenate([thing.rest for thing in self._thin]).astype(np.float32)
        passed = np.ones(len(rays), dtype=np.float32)
        hits = nearest
        while True:
            hits = hits.of(np.flatnonzero(hits.distance < limit[hits.ray]))
            if not len(hits.ray):
                return layers
            places = self._layers.interpolation(hits) @ rest
            opacities = [thing.opacity for thing in self._thin]
            opacity = _textured(opacities, self._layers, 0, hits, places, 1)[:, 0]
            layers.append((hits, opacity, places))
            if len(layers) == _LAYERS:
                return layers
            passed[hits.ray] *= 1 - opacity
            through = hits.of(np.flatnonzero(passed[hits.ray] > _OPAQUE))
            hits = self._layers.cast_beyond(rays, through)

    def _lay_over(
        self,
        light: Float[np.ndarray, "rays 3"],
        hidden: Bool[np.ndarray, " rays"],
        sent: Float[np.ndarray, "rays 6"],
        nearest: Hits | None,
        depth: Float[np.ndarray, " rays"],
        lights: Lights,
    ) -> None:
        """Lay what is translucent over the light, and mark where it hides; in place."""
        layers = self._translucent(sent, nearest, depth)
        if not layers or self._layers is None:
            return
        normals = _towards_camera(self._layers)
        lit_from = illuminate_thin(self._layers, normals, lights, self._opaque)
        columns = np.concatenate([lit_from, normals], axis=1)
        for hits, opacity, places in reversed(layers):
            values = self._layers.interpolation(hits) @ columns
            colour = _textured([thing.albedo for thing in self._thin], self._layers, 0, hits, places, 3)
            gloss = np.array([thing.gloss for thing in self._thin], dtype=np.float32).take(hits.owner)
            n = unit(values[:, 3:])
            shine = highlights(
                n,
                unit(-sent.take(hits.ray, axis=0)[:, 3:]),
                np.ones((len(n), len(lights.directions)), dtype=np.float32),
                np.ones(len(n), dtype=np.float32),
                gloss,
                20 + 100 * gloss,
                lights,
            )
            a = opacity[:, None]
            through = light.take(hits.ray, axis=0) * (1 - a)
            light[hits.ray] = through + a * colour * values[:, :3] + np.minimum(a + 0.3, 1) * shine
            hides = np.array([t.occludes for t in self._thin])[hits.owner]
            hidden[hits.ray[hides & (opacity > _SEEN_THROUGH)]] = True


def _changes(
    what: Int[np.ndarray, "size size"], depth: Float[np.ndarray, "size size"], step: float
) -> Bool[np.ndarray, "size size"]:
    """Pixels that a step in depth, or what is seen, sets apart from one beside, above or below."""
    changes = np.zeros(what.shape, dtype=bool)
    for one, other in (np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:]):
        differs = (what[one] != what[other]) | (np.abs(depth[one] - depth[other]) > step)
        changes[one] |= differs
        changes[other] |= differs
    return changes


def _towards_camera(scene: Scene, vertex: int = 0, face: int = 0) -> Float[np.ndarray, "n 3"]:
    """Normals from a vertex and a face on, turned to the camera: both sides of things are drawn."""
    vertices = scene.vertices[vertex:]
    normals = normals_of(vertices, scene.faces[face:] - vertex)
    away = np.einsum("nd,nd->n", normals, vertices) > 0
    normals[away] *= -1
    return normals


def _textured(
    textures: Sequence[float | np.ndarray | Texture],
    scene: Scene,
    first: int,
    hits: Hits,
    places: Float[np.ndarray, "k 3"],
    channels: int,
) -> Float[np.ndarray, "k channels"]:
    """(k, channels) colours or opacities of hits on things; 0 of those on other meshes.

    Args:
        textures: Of each thing: one value for all of it, one of each of its vertices, or a texture.
        scene: In which the things are meshes one after another.
        first: The number of the first of them.
        hits: What is hit.
        places: (k, 3) for textures.
        channels: 3 for colours, 1 for opacities.
    """
    values = np.zeros((len(hits.ray), channels), dtype=np.float32)
    for number, texture in enumerate(textures, start=first):
        rows = np.flatnonzero(hits.owner == number)
        if not len(rows):
            continue
        if callable(texture):
            values[rows] = texture(places.take(rows, axis=0)).reshape(-1, channels)
        elif isinstance(texture, np.ndarray):
            corners = scene.faces.take(hits.face.take(rows), axis=0) - scene.starts[number]
            at_corners = texture.reshape(-1, channels).take(corners, axis=0)
            values[rows] = np.einsum("kc,kcd->kd", hits.barycentric.take(rows, axis=0), at_corners)
        else:
            values[rows] = texture
    return values
