"""Regions, colours and embeddings of the model."""

import math

import attrs
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import partfit
from partfit.errors import InputError
from partfit.fitting import FitStatus
from partfit.geometry import topology
from partfit.geometry.camera import Camera
from partfit.geometry.decimation import decimation_series
from partfit.models.contour import landmark_points
from partfit_flame.embeddings import FIXED_CONTOUR_RELIABILITY


def test_groups_and_virtual_points(flame):
    assert list(flame.slices) == [
        "betas",
        "expression",
        "global_orient",
        "neck_pose",
        "jaw_pose",
        "leye_pose",
        "reye_pose",
        "transl",
    ]
    assert flame.topology.virtual_points == ("root", "neck", "jaw", "left_eye", "right_eye")
    assert [group.name for group in flame.groups if group.rigid] == ["global_orient", "transl"]
    for group in flame.groups:
        assert group.rigid or (group.sqrt_information > 0).all(), f"{group.name} has no prior"


def test_regions(flame, content):
    regions = flame.topology.regions
    assert np.array_equal(regions["head"], np.arange(5023))
    for side, joint in (("left", 3), ("right", 4)):
        eyeball = regions[f"{side}_eyeball"]
        assert np.array_equal(eyeball, np.flatnonzero(content.entries["weights"][:, joint] == 1))
    for name, vertices in content.masks.items():
        assert np.array_equal(regions[name], vertices), name
    below = {*content.masks["neck"], *content.masks["boundary"]}
    assert set(regions["head_without_neck"]) == set(range(5023)) - below


def test_regions_without_masks(folder):
    model = partfit.create("model", "flame", n_betas=2, n_expression=2, path=str(folder / "few.npz"))
    assert sorted(model.topology.regions) == ["head", "left_eyeball", "right_eyeball"]


def test_eyes_have_a_dark_iris_at_the_front(flame, content):
    colors, vertices = flame.topology.colors, content.entries["v_template"]
    for side, joint in (("left", 3), ("right", 4)):
        eyeball = flame.topology.region(f"{side}_eyeball")
        from_joint = vertices[eyeball] - content.entries["J"][joint]
        brightness = colors[eyeball].mean(axis=1)
        assert brightness[from_joint[:, 2].argmax()] < 0.1
        assert brightness[from_joint[:, 2] < 0].min() > 0.85
        # a person's iris, 11.7 mm wide, of an eyeball of 12 mm radius
        angle = np.arctan2(np.hypot(from_joint[:, 0], from_joint[:, 1]), from_joint[:, 2])
        assert angle[brightness < 0.5].max() < math.asin(5.85 / 12) + 0.02
    skin = np.setdiff1d(flame.topology.region("face"), flame.topology.region("lips"))
    assert (colors[flame.topology.region("lips")] != colors[skin[0]]).any(axis=1).all()


def test_brows_are_dark_and_lie_above_the_eyes_alike_on_both_sides(flame, content):
    vertices, eyes = content.entries["v_template"], content.entries["J"][3:5]
    skin = np.setdiff1d(
        np.arange(5023), [*flame.topology.region("left_eyeball"), *flame.topology.region("right_eyeball")]
    )
    brows = skin[flame.topology.colors[skin].max(axis=1) < 0.3]
    x, y, z = vertices[brows].T
    left = x > 0
    assert left.sum() > 10
    assert abs(left.sum() - (~left).sum()) < 0.3 * left.sum()
    assert y.min() > eyes[:, 1].max()
    assert z.min() > 0
    np.testing.assert_allclose(
        vertices[brows[left]].mean(0), vertices[brows[~left]].mean(0) * [-1, 1, 1], atol=3e-3
    )
    assert abs(x[left].mean() - eyes[0, 0]) < 0.02


def test_a_region_is_an_embedding(flame, content):
    embedding = flame.embedding("flame-face")
    face = content.masks["face"]
    assert np.array_equal(embedding.indices[:, 0], face)
    assert embedding.scheme.names[0] == f"v{face[0]:04d}"
    corners = face[embedding.scheme.triangles]
    expected = content.entries["f"][np.isin(content.entries["f"], face).all(axis=1)]
    assert np.array_equal(corners, expected)


def test_the_version_of_a_region_follows_its_vertices(folder, content, tmp_path):
    """Two users' regions of one name are one scheme exactly when they hold the same vertices."""
    versions = []
    for i, vertices in enumerate((np.arange(100), np.arange(100)[::-1], np.arange(1, 101))):
        np.save(tmp_path / f"{i}.npy", vertices)
        regions = {"mine": str(tmp_path / f"{i}.npy")}
        model = partfit.create(
            "model", "flame", n_betas=2, n_expression=2, path=str(folder / "few.npz"), regions=regions
        )
        versions.append(model.embedding("flame-mine").scheme.version)
    assert versions[0] == versions[1] != versions[2]


def test_the_series_of_the_thesis(folder, content, tmp_path):
    """Figure 4.1: 1609 landmarks, halved four times; here 1609 vertices of the front."""
    front = np.argsort(-content.entries["v_template"][:, 2], kind="stable")[:1609]
    np.save(tmp_path / "face.npy", front)
    regions = {"mine": str(tmp_path / "face.npy")}
    model = partfit.create(
        "model", "flame", n_betas=2, n_expression=2, path=str(folder / "few.npz"), regions=regions
    )
    sizes = [1609, 805, 403, 202, 101]
    names = [name for name in model.embedding_names if name.startswith("flame-mine")]
    assert names == ["flame-mine", *(f"flame-mine-{n}" for n in sizes[1:])]
    found = [model.embedding(name) for name in names]
    assert [len(embedding.scheme) for embedding in found] == sizes
    kept, faces = topology.submesh(model.topology.faces, np.isin(np.arange(5023), front))
    for level, embedding in zip(
        decimation_series(content.entries["v_template"][kept], faces, 4), found[1:], strict=True
    ):
        kept = kept[level.kept]
        assert np.array_equal(embedding.indices[:, 0], kept)
        assert np.array_equal(embedding.scheme.triangles, level.faces)


def test_an_unknown_scheme(flame):
    with pytest.raises(InputError, match=r"'flame-knee'.*flame-face"):
        flame.embedding("flame-knee")


def test_mediapipe_points(flame, content):
    few, all_points = flame.embedding("mediapipe105"), flame.embedding("mediapipe468")
    known = content.mediapipe["landmark_indices"]
    vertices = flame.arrays.v_template
    corners = vertices[content.entries["f"][content.mediapipe["lmk_face_idx"]]]
    expected = np.einsum("lkd,lk->ld", corners, content.mediapipe["lmk_b_coords"])
    np.testing.assert_allclose(few.apply(vertices), expected, atol=1e-12)
    np.testing.assert_allclose(all_points.apply(vertices)[known], expected, atol=1e-12)
    assert np.array_equal(np.flatnonzero(all_points.reliability), np.sort(known))
    assert few.scheme.names == tuple(f"p{i:03d}" for i in known)


def test_the_68_points_of_the_frontal_view(folder, companions, content):
    options = {
        "path": str(folder / "few.npz"),
        "n_betas": 2,
        "n_expression": 2,
        "contour": "fixed",
        **companions,
    }
    model = partfit.create("model", "flame", **options)
    embedding = model.embedding("ibug68")
    corners = model.arrays.v_template[content.entries["f"][content.landmarks["full_lmk_faces_idx"][0]]]
    expected = np.einsum("lkd,lk->ld", corners, content.landmarks["full_lmk_bary_coords"][0])
    np.testing.assert_allclose(embedding.apply(model.arrays.v_template), expected, atol=1e-12)
    assert set(embedding.reliability[:17]) == {FIXED_CONTOUR_RELIABILITY}
    assert set(embedding.reliability[17:]) == {1.0}


def facing(model, yaw, direction=(0.0, 0.0, 1.0), neck=None):
    """A head 1 m away in some direction that turns from the line of sight by `yaw` degrees, to its left."""
    sight = np.array(direction) / np.linalg.norm(direction)
    across = np.cross([0.0, 1.0, 0.0], sight)
    across /= np.linalg.norm(across)
    # columns: where the head's x, y and z axes go when it looks into the camera
    ahead = Rotation.from_matrix(np.column_stack([across, -np.cross(sight, across), -sight]))
    root = ahead * Rotation.from_euler("y", yaw, degrees=True)
    parameters = {}
    if neck is not None:
        bend = Rotation.from_rotvec(neck)
        root, parameters["neck_pose"] = root * bend.inv(), torch.as_tensor(neck)[None]
    parameters["global_orient"] = torch.as_tensor(root.as_rotvec())[None]
    x = model.pack(parameters, like=torch.zeros((), dtype=torch.float64))
    x[:, model.slices["transl"]] += torch.as_tensor(sight) - model.joints(x)[:, 3:5].mean(dim=1)
    return x


def choice(model, x):
    camera = Camera.for_images([(64, 64)] * len(x)).to(x)
    return model.embedding("ibug68").choose(model, x, camera).tolist()


@pytest.mark.parametrize("direction", [(0.0, 0.0, 1.0), (0.7, -0.3, 1.0), (-0.4, 0.4, 0.8)])
@pytest.mark.parametrize("neck", [None, np.array([0.3, -0.5, 0.2])])
def test_the_contour_follows_the_yaw_from_the_line_of_sight(flame, direction, neck):
    """Rows 1..39 are turns to the subject's right, in degrees, 40..78 to the left, as in smplx."""
    for yaw, row in ((0, 0), (-1, 1), (-20, 20), (-39, 39), (-60, 39), (1, 40), (20, 59), (39, 78), (80, 78)):
        assert choice(flame, facing(flame, yaw, direction, neck)) == [row]


def test_a_lost_state_takes_the_frontal_view(flame):
    x = torch.cat([facing(flame, -20), torch.full((1, flame.n_parameters), torch.nan, dtype=torch.float64)])
    assert choice(flame, x) == [20, 0]


def test_the_direction_of_the_table_belongs_to_the_hash(flame):
    embedding = flame.embedding("ibug68")
    assert attrs.evolve(embedding).hash == embedding.hash
    assert attrs.evolve(embedding, direction=-embedding.direction).hash != embedding.hash


def test_a_table_of_the_other_direction_is_read_as_such(folder, companions, content, tmp_path):
    """DECA counts yaw the other way round: the rows themselves decide, so the points are the same."""
    order = [0, *range(40, 79), *range(1, 40)]
    swapped = {k: v[order] if "dynamic" in k else v for k, v in content.landmarks.items()}
    np.save(tmp_path / "landmark_embedding.npy", np.array(swapped, dtype=object))
    options = {"path": str(folder / "few.npz"), "n_betas": 10, "n_expression": 5}
    other, own = (
        partfit.create("model", "flame", landmark_embedding=path, **options)
        for path in (str(tmp_path / "landmark_embedding.npy"), companions["landmark_embedding"])
    )
    x = torch.cat([facing(own, yaw) for yaw in (-30, -7, 0, 12, 45)])
    camera = Camera.for_images([(64, 64)] * len(x)).to(x)
    points = [landmark_points(model, model.embedding("ibug68"), x, camera) for model in (other, own)]
    torch.testing.assert_close(*points, rtol=0, atol=1e-12)
    assert choice(other, x) != choice(own, x)
    assert other.embedding("ibug68").hash != own.embedding("ibug68").hash


def test_contour_points_lie_on_the_outline(flame):
    """At a turn of 30 degrees each contour point but the chin's is outermost among the face at its height."""
    x = facing(flame, 30)
    embedding, camera = flame.embedding("ibug68"), Camera.for_images([(64, 64)]).to(x)
    points = landmark_points(flame, embedding, x, camera)[0, :17].numpy()
    face = flame.vertices(x)[0, flame.topology.region("face")].numpy()
    for i in (*range(8), *range(9, 17)):
        level = face[np.abs(face[:, 1] - points[i, 1]) < 0.003, 0]
        outermost = level.min() if i < 8 else level.max()
        assert abs(points[i, 0] - outermost) < 0.004


@pytest.mark.slow
def test_a_photograph_is_fitted_with_a_file_that_shows_a_face(tmp_path):
    """A FLAME-format file made of the Anny head, its own mediapipe points, and a photograph of one person."""
    skimage_data = pytest.importorskip("skimage.data")
    pytest.importorskip("partfit_anny")
    pytest.importorskip("partfit_mediapipe")
    from partfit.registry import default_registry
    from partfit.testing.official.flame import flame_content, write_companions, write_flame

    source = partfit.create("model", "anny-head")
    embeddings = {
        scheme: default_registry().create("embedding", f"anny-head/{scheme}")
        for scheme in ("ibug68", "mediapipe468")
    }
    content = flame_content(source, embeddings=embeddings)
    path = write_flame(tmp_path / "flame.npz", content.entries, "npz")
    companions = write_companions(tmp_path, content)
    model = partfit.create(
        "model",
        "flame",
        path=str(path),
        mediapipe_embedding=str(companions["mediapipe_landmark_embedding.npz"]),
    )
    recipe = default_registry().create("recipe", "face/flame")
    (face,) = partfit.Pipeline(recipe, model=model)(skimage_data.astronaut())[0]
    assert face.result.status[0] is not FitStatus.FAILED
    assert np.isfinite(face.vertices).all()
    assert face.result.rms_px[0] < 0.03 * np.ptp(face.detection.points[:, 0])
