import attrs
import numpy as np
import pytest
import torch
import trimesh

from partfit.fitting import FitProblem, FitStatus, LevenbergMarquardt, Stage
from partfit.fitting.visibility import hidden_landmarks
from partfit.geometry.camera import Camera
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.meshes import Mesh
from partfit.models import ParameterGroup, SkinnedModel, SkinningArrays, Topology
from partfit.rendering import surface_distances

RADIUS = 0.1
SPHERE = trimesh.creation.icosphere(subdivisions=3, radius=RADIUS)


def ball():
    """A ball with a joint in its middle, which is its virtual point."""
    n = len(SPHERE.vertices)
    arrays = SkinningArrays(
        v_template=np.concatenate([SPHERE.vertices, np.zeros((1, 3))]),
        shapedirs=np.zeros((n + 1, 3, 0)),
        lbs_weights=np.ones((n + 1, 1)),
        joints=np.zeros((1, 3)),
        joint_dirs=np.zeros((1, 3, 0)),
        parents=(-1,),
    )
    topology = Topology("ball", n, np.array(SPHERE.faces), ("middle",))
    return SkinnedModel(arrays, topology, [], [ParameterGroup("global_orient", 3, "rotvec", rigid=True)])


def problem(factor=1.0, batch=1):
    model = ball()
    n = len(SPHERE.vertices)
    scheme = LandmarkScheme("all", [f"p{i}" for i in range(n + 1)])
    embedding = LandmarkEmbedding.of_vertices(scheme, "ball", range(n + 1))
    camera = Camera.for_images([(640, 480)] * batch, dtype=torch.float64)
    x = model.pack({"transl": torch.tensor([[0.0, 0.0, 1.0]] * batch)}, like=camera.focal)
    points = camera.project(model.points(x))
    ones = torch.ones_like(points)
    stages = (Stage(("global_orient", "transl"), hidden_scale=factor),)
    p = FitProblem(model, embedding, points, ones, ones[..., 0], camera, stages, start=x)
    return p, x


def test_the_far_half_of_a_ball_is_hidden_and_its_middle_is_not():
    p, x = problem()
    hidden = hidden_landmarks(p, x)[0].numpy()
    # the horizon seen from distance 1: points with n . c < radius lie before it
    height = -SPHERE.vertices[:, 2] / RADIUS
    assert not hidden[:-1][height > 0.2].any()
    assert hidden[:-1][height < -0.1].all()
    assert not hidden[-1]


def test_landmarks_before_another_item_do_not_matter():
    p, x = problem(batch=2)
    x[1, p.model.slices["transl"]] = torch.nan
    hidden = hidden_landmarks(p, x)
    assert torch.equal(hidden[0], hidden_landmarks(problem()[0], problem()[1])[0])
    assert not hidden[1].any()


def test_hidden_landmarks_that_are_wrong_pull_less_on_the_fit():
    shifts = {}
    for factor in (1.0, 10.0):
        p, x = problem(factor)
        hidden = hidden_landmarks(p, x)
        points = torch.where(hidden[..., None], p.points + 20, p.points)
        result = LevenbergMarquardt().fit(attrs.evolve(p, points=points))
        assert result.status == (FitStatus.CONVERGED,)
        assert torch.equal(
            result.problem.scale, torch.where(hidden[..., None], factor, 1.0).expand_as(points)
        )
        shifts[factor] = (result.vertices() - p.model.vertices(x)).norm(dim=-1).mean()
    assert shifts[10.0] < 0.2 * shifts[1.0]


def test_relative_points_of_hidden_landmarks_are_trusted_less_too():
    p, x = problem(5.0)
    relative = {"points_3d": p.model.points(x), "scale_3d": torch.ones(*p.confidence.shape, 3)}
    p = attrs.evolve(p, **{name: value.to(x) for name, value in relative.items()})
    hidden = hidden_landmarks(p, x)
    scale = LevenbergMarquardt().fit(p).problem.scale_3d
    assert (scale[hidden] == 5).all()
    assert (scale[~hidden] == 1).all()


def test_distances_to_a_surface_are_those_of_trimesh():
    points = np.random.default_rng(0).normal(size=(50, 3)) * 0.1
    mesh = Mesh(np.array(SPHERE.vertices), np.array(SPHERE.faces))
    _, expected, _ = trimesh.proximity.closest_point_naive(SPHERE, points)
    np.testing.assert_allclose(surface_distances(points, [mesh]), expected, atol=1e-6)


def test_a_factor_below_one_is_refused():
    with pytest.raises(ValueError, match="hidden_scale"):
        Stage((), hidden_scale=0.5)
