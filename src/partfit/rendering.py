"""Pictures of meshes, by ray casting on the CPU: what is seen where, shaded views and overlays.

Convention: meshes are in the OpenCV camera frame (+x right, +y down, +z forward, metres); the camera is a
pinhole at the origin: u = focal x / z + principal[0], v = focal y / z + principal[1]. Pixel (0, 0) is the
centre of the top-left pixel, and a pixel shows what the ray through its centre meets.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeAlias

import attrs
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw
from scipy.ndimage import maximum_filter, minimum_filter

from partfit.colours import map_colours
from partfit.errors import ComponentError, InputError, ShapeError
from partfit.landmarks import Detection
from partfit.meshes import Mesh

Window: TypeAlias = tuple[int, int, int, int]

#: By default a point up to this fraction of the meshes' extent behind a surface counts as lying on it.
SURFACE_TOLERANCE = 0.005
#: Side of the square tiles of a panel, in pixels.
PANEL_TILE = 480

_OVERLAY_OPACITY = 0.72
_PIXELS_AT_ONCE = 1 << 19
# Pixels next to which the light differs by more than this take 3 x 3 samples instead of one.
_UNEVEN, _SUPERSAMPLING = 0.1, 3

# The studio, in linear light: what the material reflects, then lights by direction towards them and strength.
_CLAY = np.array([0.50, 0.54, 0.58], dtype=np.float32)
_BACKDROP = (236, 238, 241)
_SKY, _GROUND = 0.36, 0.08
_LIGHTS = ((np.array([-0.50, -0.62, -0.60]), 1.05), (np.array([0.92, -0.10, -0.38]), 0.25))
_INSIDE = 0.35
# A view of a mesh alone, of radius 1: how far the camera is, and its focal length, so that it fills the tile.
_VIEW_DISTANCE = 10.0
_VIEW_FOCAL = _VIEW_DISTANCE * 0.48 * PANEL_TILE
# Dots of a view; edges; rims of dots of confidences below 0.5 and from there; the least radius of a dot, px.
_DOT, _EDGE, _RIMS, _LEAST_DOT = (255, 221, 51), (70, 190, 235), ((236, 238, 241), (24, 26, 30)), 0.7


@attrs.frozen(eq=False)
class Rendering:
    """What the camera sees through the centre of each pixel.

    Attributes:
        mesh_index: (H, W) which mesh; -1 where there is none.
        face_index: (H, W) which of its faces; -1 where there is none.
        barycentric: (H, W, 3) where in the face: the weights of its vertices; 0 where there is none.
        depth: (H, W) z in metres; infinite where there is none.
    """

    mesh_index: np.ndarray
    face_index: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray


def render(
    meshes: Sequence[Mesh], focal: float, principal: tuple[float, float], size: tuple[int, int]
) -> Rendering:
    """What the camera sees of some meshes, which may hide one another.

    Args:
        meshes: In the camera frame. What lies behind the camera is not seen.
        focal: Focal length in pixels.
        principal: Principal point (x, y) in pixels.
        size: (width, height) in pixels.
    """
    scene = _Scene(meshes)
    hits = scene.cast(_rays(np.arange(size[0]), np.arange(size[1])[:, None], focal, principal))
    seen = hits.seen
    starts = np.cumsum([0, *(len(mesh.faces) for mesh in meshes)])
    mesh_index = np.where(seen, np.searchsorted(starts, hits.face, side="right") - 1, -1)
    return Rendering(
        mesh_index,
        np.where(seen, hits.face - starts[mesh_index], -1),
        np.where(seen[..., None], hits.barycentric, 0.0),
        hits.distance,
    )


def visible_points(
    points: Float[np.ndarray, "points 3"],
    meshes: Sequence[Mesh],
    tolerance: float | Float[np.ndarray, " points"] | None = None,
) -> Bool[np.ndarray, " points"]:
    """Which points the camera sees past the meshes.

    Args:
        points: (N, 3), metres, in the camera frame.
        meshes: What may hide them; they may lie on it.
        tolerance: How far, in metres along the ray, a point may lie behind a surface and still count as on
            it, one for all or one each: by default `SURFACE_TOLERANCE` times the longest diagonal of the
            meshes' bounding boxes.

    Returns:
        (N,) True where nothing lies between the camera and the point; False behind the camera.
    """
    points = _checked_points(points)
    if tolerance is None:
        extents = [np.linalg.norm(np.ptp(mesh.vertices, axis=0)) for mesh in meshes]
        tolerance = SURFACE_TOLERANCE * float(max(extents, default=0.0))
    distance = np.linalg.norm(points, axis=1)
    rays = points / np.maximum(distance, np.finfo(float).tiny)[:, None]
    return (points[:, 2] > 0) & (distance <= _Scene(meshes).cast(rays).distance + tolerance)


def surface_distances(
    points: Float[np.ndarray, "points 3"], meshes: Sequence[Mesh]
) -> Float[np.ndarray, " points"]:
    """How far (N,) points are from the nearest surface, metres, inside or outside; needs a mesh."""
    return _Scene(meshes).distances(_checked_points(points))


def inside_tolerance(points: Float[np.ndarray, "points 3"], mesh: Mesh) -> Float[np.ndarray, " points"]:
    """A tolerance (N,) of `visible_points` for points that may lie inside the mesh, as joints do.

    Such a point counts as seen when the surface before it is at most twice as far from it as the nearest
    one, give or take `SURFACE_TOLERANCE` of the mesh's longest side.
    """
    return 2 * surface_distances(points, [mesh]) + SURFACE_TOLERANCE * float(
        np.ptp(mesh.vertices, axis=0).max()
    )


def closest_surface_points(
    points: Float[np.ndarray, "points 3"], mesh: Mesh
) -> tuple[Int[np.ndarray, " points"], Float[np.ndarray, "points 3"]]:
    """The nearest spot of a mesh to each of N points: its face (N,), and barycentric coordinates (N, 3)."""
    return _Scene([mesh]).closest(_checked_points(points))


def _checked_points(points: np.ndarray) -> Float[np.ndarray, "points 3"]:
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ShapeError("points", "(n, 3)", points.shape)
    return points


def shade(
    meshes: Sequence[Mesh], focal: float, principal: tuple[float, float], size: tuple[int, int]
) -> UInt8[np.ndarray, "height width 4"]:
    """The meshes as matt clay in soft studio light.

    Light is computed at the vertices from their normals, interpolated, and encoded as sRGB; edges are
    smoothed by 3 x 3 samples a pixel. Faces seen from their inside are dark.

    Args:
        meshes: In the camera frame; they may hide one another.
        focal: Focal length in pixels.
        principal: Principal point (x, y) in pixels.
        size: (width, height) in pixels.

    Returns:
        (H, W, 4) RGBA; alpha is the part of the pixel that is covered, not multiplied into the colour.
    """
    width, height = size
    image = np.zeros((height, width, 4), dtype=np.uint8)
    if meshes:
        scene = _Scene(meshes)
        for mesh in meshes:
            for x0, y0, x1, y1 in _bands(_window(mesh, focal, principal, size)):
                image[y0:y1, x0:x1] = _shade_window(scene, focal, principal, (x0, y0, x1, y1))
    return image


def draw_overlay(
    pixels: UInt8[np.ndarray, "height width 3"],
    meshes: Sequence[Mesh],
    focal: float,
    principal: tuple[float, float],
    landmarks: Sequence[Detection] = (),
) -> Image.Image:
    """The photograph with the meshes laid over it, half transparent, and landmarks as dots.

    Of a reduced picture (see `partfit.images.Picture`) all is meant in the pixels that are given: divide the
    focal length by the reduction and map the points.

    Args:
        pixels: (H, W, 3) RGB, uint8.
        meshes: In the camera frame.
        focal: Focal length in pixels.
        principal: Principal point (x, y) in pixels.
        landmarks: Detections, drawn as by `draw_landmarks`.
    """
    image = _photograph(pixels)
    if meshes:
        clay = Image.fromarray(shade(meshes, focal, principal, image.size))
        if seen := clay.getbbox():
            clay = clay.crop(seen)
            opacity = clay.getchannel("A").point([round(_OVERLAY_OPACITY * alpha) for alpha in range(256)])
            image.paste(clay.convert("RGB"), seen, mask=opacity)
    for detection in landmarks:
        _draw_detection(image, detection)
    return image


def draw_landmarks(
    pixels: UInt8[np.ndarray, "height width 3"], landmarks: Sequence[Detection]
) -> Image.Image:
    """The photograph with the points of each detection as dots, and the edges of its scheme.

    Dots have the colours of `partfit.colours.map_colours`, which `partfit.colours.draw_legend`
    explains; they are the larger, the more extended the detection, and the smaller, the more points it has
    and the less confident it is.

    Args:
        pixels: (H, W, 3) RGB, uint8.
        landmarks: Detections in these pixels; points outside the picture are left out.
    """
    image = _photograph(pixels)
    for detection in landmarks:
        _draw_detection(image, detection)
    return image


def draw_panel(
    pixels: UInt8[np.ndarray, "height width 3"],
    meshes: Sequence[Mesh],
    focal: float,
    principal: tuple[float, float],
    landmarks: Sequence[Detection] = (),
    upright: Sequence[Mesh] | None = None,
) -> Image.Image:
    """A sheet for judging fits, with a row for each mesh: photograph, overlay, front view, side view.

    Photograph and overlay are cut out around the mesh. The views show `upright`: the front as it is, the
    side turned about the vertical so that what faced the camera faces left.

    Args:
        pixels: (H, W, 3) RGB, uint8.
        meshes: In the camera frame.
        focal: Focal length in pixels.
        principal: Principal point (x, y) in pixels.
        landmarks: Detections, drawn as by `draw_landmarks`.
        upright: Each mesh turned to face the camera; by default the meshes as they are seen.

    Raises:
        InputError: if there is no mesh.
    """
    if not meshes:
        raise InputError("A panel shows meshes, found none. For landmarks alone use draw_landmarks.")
    image = _photograph(pixels)
    sheet = Image.new("RGB", (4 * PANEL_TILE, len(meshes) * PANEL_TILE))
    for row, (mesh, facing) in enumerate(zip(meshes, upright or meshes, strict=True)):
        left, top, side = _cutout(mesh, focal, principal, image.size)
        zoom = PANEL_TILE / side
        photograph = _cut(image, left, top, side)
        overlay = draw_overlay(
            np.asarray(photograph),
            meshes,
            focal * zoom,
            ((principal[0] - left + 0.5) * zoom - 0.5, (principal[1] - top + 0.5) * zoom - 0.5),
            [_shifted(detection, left, top).mapped(zoom) for detection in landmarks],
        )
        tiles = (photograph, overlay, draw_view(facing, 0.0), draw_view(facing, math.pi / 2))
        for column, tile in enumerate(tiles):
            sheet.paste(tile, (column * PANEL_TILE, row * PANEL_TILE))
    return sheet


def draw_view(
    mesh: Mesh,
    turn: float,
    points: Float[np.ndarray, "points 3"] | None = None,
    colours: Float[np.ndarray, "points 3"] | None = None,
    values: Float[np.ndarray, " vertices"] | None = None,
) -> Image.Image:
    """The mesh alone, as a tile: centred, turned about the vertical, from far away, with points as dots.

    Points that the mesh hides are left out, unless they lie inside it, see `inside_tolerance`.

    Args:
        mesh: In axes of the camera frame; where it stands does not matter.
        turn: Radians; what faced the camera faces left at pi / 2.
        points: (N, 3) in the frame of the mesh; none by default.
        colours: (N, 3) of the points, sRGB in [0, 1]; yellow by default.
        values: (V,) in [0, 1] of the vertices, shown as `map_colours`; by default the mesh is clay.

    Returns:
        A picture of `PANEL_TILE` pixels a side.
    """
    c, s = math.cos(turn), math.sin(turn)
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(mesh.vertices - middle, axis=1).max())

    def placed(positions: np.ndarray) -> np.ndarray:
        turned = (positions - middle) @ np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]]).T
        return turned / radius + np.array([0.0, 0.0, _VIEW_DISTANCE])

    own, focal, center = Mesh(placed(mesh.vertices), mesh.faces), _VIEW_FOCAL, (PANEL_TILE - 1) / 2
    tile = Image.new("RGB", (PANEL_TILE, PANEL_TILE), _BACKDROP)
    clay = Image.fromarray(shade([own], focal, (center, center), tile.size))
    if values is not None:
        clay = _dyed(clay, own, focal, values)
    tile.paste(clay, mask=clay.getchannel("A"))
    if points is not None and len(points):
        spots = placed(points)
        shown = visible_points(spots, [own], inside_tolerance(spots, own))
        pixels = focal * spots[shown, :2] / spots[shown, 2:] + center
        fills = np.full((len(points), 3), _DOT) if colours is None else np.rint(255 * colours)
        dot = max(1.8, min(5.0, 40 / math.sqrt(len(points))))
        _draw_discs(tile, pixels, np.full(len(pixels), dot), fills[shown].astype(np.uint8))
    return tile


def _dyed(clay: Image.Image, mesh: Mesh, focal: float, values: Float[np.ndarray, " vertices"]) -> Image.Image:
    """The picture of a mesh in the middle, with the colours of its vertices' values and the light of clay."""
    pixels = np.array(clay)
    seen = render([mesh], focal, ((clay.width - 1) / 2, (clay.height - 1) / 2), clay.size)
    inside = seen.mesh_index >= 0
    corners = values[mesh.faces[seen.face_index[inside]]]
    colours = map_colours((corners * seen.barycentric[inside]).sum(axis=1))
    light = pixels[inside, :3].mean(axis=1, keepdims=True) / pixels[inside, :3].max()
    pixels[inside, :3] = np.rint(colours * light)
    return Image.fromarray(pixels)


def prepare() -> None:
    """Import open3d now rather than at the first drawing.

    Raises:
        ComponentError: if it does not load.
    """
    _open3d()


@cache
def _open3d() -> Any:
    """The module open3d. Its Linux wheels need libusb, which a bare system lacks and libusb-package ships."""
    try:
        if sys.platform == "linux":
            import libusb_package

            ctypes.CDLL(str(libusb_package.get_library_path()), ctypes.RTLD_GLOBAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import open3d
    except (ImportError, OSError) as error:
        raise ComponentError(
            f"Drawing meshes needs open3d, which does not load here: {error}. Install what it names, or go "
            "on without drawings."
        ) from error
    return open3d


@attrs.frozen(eq=False)
class _Hits:
    """Where rays first meet a scene.

    Attributes:
        distance: (...) in lengths of the ray's direction; infinite where nothing is met.
        face: (...) index into the scene's faces; meaningless where nothing is met.
        barycentric: (..., 3) likewise.
        normal: (..., 3) of the face, likewise.
    """

    distance: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray
    normal: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """(...) True where something is met."""
        return np.isfinite(self.distance)


class _Scene:
    """Several meshes, joined to one, and rays cast at it from the origin."""

    def __init__(self, meshes: Sequence[Mesh]) -> None:
        self._tensor = _open3d().core.Tensor
        self._caster = _open3d().t.geometry.RaycastingScene()
        if not meshes:
            return
        starts = itertools.accumulate((len(mesh.vertices) for mesh in meshes), initial=0)
        self.faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)])
        normals = np.concatenate([mesh.normals for mesh in meshes])
        self.light = _studio_light(normals)
        self.light_inside = _INSIDE * _studio_light(-normals)
        vertices = np.concatenate([mesh.vertices for mesh in meshes])
        self._caster.add_triangles(
            self._tensor(vertices.astype(np.float32)), self._tensor(self.faces.astype(np.uint32))
        )

    def distances(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " points"]:
        """From points to the nearest surface."""
        return self._caster.compute_distance(self._tensor(points.astype(np.float32))).numpy().astype(float)

    def closest(
        self, points: Float[np.ndarray, "points 3"]
    ) -> tuple[Int[np.ndarray, " points"], Float[np.ndarray, "points 3"]]:
        """The face, and where in it, that is nearest to points."""
        answer = self._caster.compute_closest_points(self._tensor(points.astype(np.float32)))
        u, v = np.clip(answer["primitive_uvs"].numpy().astype(float), 0, 1).T
        barycentric = np.clip(np.stack([1 - u - v, u, v], axis=1), 0, 1)
        face = answer["primitive_ids"].numpy().astype(np.int64)
        return face, barycentric / barycentric.sum(axis=1, keepdims=True)

    def cast(self, directions: Float[np.ndarray, "*rays 3"]) -> _Hits:
        """What rays of these directions, of any length, meet first."""
        rays = np.zeros((*directions.shape[:-1], 6), dtype=np.float32)
        rays[..., 3:] = directions
        hits = {name: value.numpy() for name, value in self._caster.cast_rays(self._tensor(rays)).items()}
        u, v = np.moveaxis(hits["primitive_uvs"], -1, 0)
        return _Hits(
            hits["t_hit"],
            hits["primitive_ids"].astype(np.int64),
            np.stack([1 - u - v, u, v], axis=-1),
            hits["primitive_normals"],
        )


def _rays(
    x: np.ndarray, y: np.ndarray, focal: float, principal: tuple[float, float]
) -> Float[np.ndarray, "*pixels 3"]:
    """Directions through points of the picture, with z = 1, so that the distance along them is the depth."""
    x, y = np.broadcast_arrays((x - principal[0]) / focal, (y - principal[1]) / focal)
    return np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)


def _window(mesh: Mesh, focal: float, principal: tuple[float, float], size: tuple[int, int]) -> Window:
    """The pixels (x0, y0, x1, y1), the last ones excluded, outside which the mesh is not seen."""
    limits = np.array(size)
    z = mesh.vertices[:, 2:]
    if z.min() <= 0:
        return (0, 0, *size) if z.max() > 0 else (0, 0, 0, 0)
    projected = focal * mesh.vertices[:, :2] / z + np.asarray(principal)
    low = np.clip(np.floor(projected.min(axis=0)) - 1, 0, limits).astype(int)
    high = np.clip(np.ceil(projected.max(axis=0)) + 2, low, limits).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _bands(window: Window) -> Iterator[Window]:
    """The window in horizontal bands, so that the rays of each fit into little memory."""
    x0, y0, x1, y1 = window
    if x1 > x0:
        rows = max(1, _PIXELS_AT_ONCE // (x1 - x0))
        for y in range(y0, y1, rows):
            yield x0, y, x1, min(y + rows, y1)


def _shade_window(
    scene: _Scene, focal: float, principal: tuple[float, float], window: Window
) -> UInt8[np.ndarray, "height width 4"]:
    x0, y0, x1, y1 = window
    columns, rows = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    light, covered = _light_along(scene, _rays(columns, rows, focal, principal))
    coverage = covered.astype(np.float32)

    value = np.where(covered, light, -1.0)
    uneven = maximum_filter(value, 3) - minimum_filter(value, 3) > _UNEVEN
    step = (np.arange(_SUPERSAMPLING) + 0.5) / _SUPERSAMPLING - 0.5
    dx, dy = (offsets.ravel() for offsets in np.meshgrid(step, step))
    fine = _rays(columns[uneven][:, None] + dx, rows[uneven][:, None] + dy, focal, principal)
    fine_light, fine_covered = _light_along(scene, fine)
    coverage[uneven] = fine_covered.mean(axis=1)
    light[uneven] = fine_light.sum(axis=1) / np.maximum(fine_covered.sum(axis=1), 1)

    clay = np.empty((*light.shape, 4), dtype=np.uint8)
    clay[..., :3] = np.rint(_encode_srgb(light[..., None] * _CLAY) * 255)
    clay[..., 3] = np.rint(coverage * 255)
    return clay


def _light_along(
    scene: _Scene, rays: Float[np.ndarray, "*rays 3"]
) -> tuple[Float[np.ndarray, "*rays"], Bool[np.ndarray, "*rays"]]:
    """The light that the surfaces along the rays send back, 0 where there is none, and where there is one."""
    hits = scene.cast(rays)
    seen = hits.seen
    inside = np.einsum("nd,nd->n", hits.normal[seen], rays[seen]) > 0
    corners = scene.faces[hits.face[seen]]
    at_corners = np.where(inside[:, None], scene.light_inside[corners], scene.light[corners])
    light = np.zeros(seen.shape, dtype=np.float32)
    light[seen] = np.einsum("nk,nk->n", hits.barycentric[seen], at_corners)
    return light, seen


def _studio_light(normals: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " points"]:
    """What falls on surfaces of these unit normals: a bright sky above, a dim ground, and the lights."""
    light = (_SKY + _GROUND) / 2 - (_SKY - _GROUND) / 2 * normals[:, 1]
    for direction, strength in _LIGHTS:
        light += strength * np.maximum(normals @ (direction / np.linalg.norm(direction)), 0)
    return light.astype(np.float32)


def _encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] as sRGB values in [0, 1]. Source: IEC 61966-2-1."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _photograph(pixels: np.ndarray) -> Image.Image:
    """A copy of the pixels, to draw on."""
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ShapeError("pixels", "(H, W, 3)", pixels.shape)
    if pixels.dtype != np.uint8:
        raise InputError(f"pixels must be uint8, found {pixels.dtype}. Read pictures with load_picture.")
    return Image.fromarray(pixels).copy()


def _draw_detection(image: Image.Image, detection: Detection) -> None:
    """Draw the points that lie in the picture as dots in the colours of their confidences, and the edges.

    Dots are smaller where there are many. Those of less confidence are smaller than the others and lie below
    them. Where there is room dots have a rim: a light one round dark colours, a dark one round light colours.
    """
    points = detection.points
    inside = np.all((points >= -0.5) & (points <= np.array(image.size) - 0.5), axis=1)
    if not inside.any():
        return
    extent = float(np.linalg.norm(np.ptp(points[inside], axis=0)))
    largest = max(_LEAST_DOT, min(0.007 * extent, 0.17 * extent / math.sqrt(inside.sum())))
    pen, width = ImageDraw.Draw(image), max(1, round(0.6 * largest))
    edges = detection.scheme.edges
    for line in points[edges[inside[edges].all(axis=1)]]:
        pen.line(line.ravel().tolist(), fill=_EDGE, width=width)
    order = np.argsort(np.where(inside, detection.confidence, -1.0), kind="stable")[-inside.sum() :]
    points, confidence = points[order], detection.confidence[order]
    radius = largest * (0.6 + 0.4 * confidence)
    colours = map_colours(confidence)
    if largest > 1.5 * _LEAST_DOT:
        rims = np.array(_RIMS, dtype=np.uint8)[(confidence >= 0.5).astype(int)]
        _draw_discs(image, points, radius + 0.25 * largest, rims)
    _draw_discs(image, points, radius, colours)


def _draw_discs(
    image: Image.Image,
    points: Float[np.ndarray, "points 2"],
    radius: Float[np.ndarray, " points"],
    colours: UInt8[np.ndarray, "points 3"],
) -> None:
    """Draw smooth discs around points; later ones lie above earlier ones."""
    width, height = image.size
    reach = math.ceil(radius.max(initial=0.0) + 1)
    offsets = np.arange(-reach, reach + 1)
    columns = np.rint(points[:, 0]).astype(int)[:, None, None] + offsets
    rows = np.rint(points[:, 1]).astype(int)[:, None, None] + offsets[:, None]
    columns, rows = np.broadcast_arrays(columns, rows)
    distance = np.hypot(columns - points[:, 0, None, None], rows - points[:, 1, None, None])
    coverage = np.clip(radius[:, None, None] + 0.5 - distance, 0, 1)
    drawn = (coverage > 0) & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    disc, coverage = np.nonzero(drawn)[0], coverage[drawn]
    # what covers most of a pixel is assigned last, and of equals the later one
    order = np.argsort(coverage, kind="stable")
    at = rows[drawn][order], columns[drawn][order]
    paint = np.zeros((height, width, 4), dtype=np.uint8)
    paint[*at, :3] = colours[disc[order]]
    paint[*at, 3] = np.rint(255 * coverage[order])
    layer = Image.fromarray(paint)
    image.paste(layer.convert("RGB"), mask=layer.getchannel("A"))


def _shifted(detection: Detection, left: int, top: int) -> Detection:
    """The detection in a cut-out whose first pixel is (left, top)."""
    offset = np.array([left, top])
    return attrs.evolve(detection, points=detection.points - offset, box=detection.box - np.tile(offset, 2))


def _cutout(
    mesh: Mesh, focal: float, principal: tuple[float, float], size: tuple[int, int]
) -> tuple[int, int, int]:
    """Left, top and side of a square around what is seen of the mesh; around the picture if it is nothing."""
    x0, y0, x1, y1 = _window(mesh, focal, principal, size)
    if x1 <= x0 or y1 <= y0:
        x0, y0, x1, y1 = 0, 0, *size
    side = math.ceil(1.3 * max(x1 - x0, y1 - y0))
    return (x0 + x1 - side) // 2, (y0 + y1 - side) // 2, side


def _cut(image: Image.Image, left: int, top: int, side: int) -> Image.Image:
    """A square of the picture, on the backdrop where it leaves it, as a tile."""
    square = Image.new("RGB", (side, side), _BACKDROP)
    square.paste(image, (-left, -top))
    return square.resize((PANEL_TILE, PANEL_TILE), Image.Resampling.LANCZOS)
