import math

import attrs
import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from partfit.errors import InputError, ShapeError
from partfit.fitting import FitProblem, FitStatus, LevenbergMarquardt, Stage
from partfit.fitting.kernels import robustify
from partfit.fitting.lm import closed_form_start
from partfit.fitting.objective import Objective
from partfit.geometry.camera import Camera
from partfit.landmarks import Detection, LandmarkEmbedding, LandmarkScheme
from partfit.models import ParameterGroup, ParametricModel, SkinnedModel
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

MODEL = synthetic_model()
EMBEDDING = synthetic_embedding(MODEL, 80)
FITTER = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-12))


def problem(batch=3, **options):
    return synthetic_problem(MODEL, EMBEDDING, batch, **options)


def residuals(p, x, item=0):
    """The stacked residual vector of one item, written out independently of the objective."""
    x = torch.as_tensor(x)[None]
    points = p.model.points(x)[0][torch.as_tensor(p.embedding.indices[:, 0].copy())].numpy()
    focal, principal = p.camera.focal[item].item(), p.camera.principal[item].numpy()
    projected = focal * points[:, :2] / points[:, 2:] + principal
    data = ((projected - p.points[item].numpy()) / p.scale[item].numpy()).ravel()
    prior = [
        g.sqrt_information * (x[0, p.model.slices[g.name]].numpy() - g.prior_mean) for g in p.model.groups
    ]
    return np.concatenate([data, *prior])


def test_noise_free_landmarks_are_met_and_the_shape_is_recovered():
    p, truth = problem(max_angle=3.1)
    result = FITTER.fit(p)
    assert set(result.status) == {FitStatus.CONVERGED}
    assert result.rms_px.max() < 0.05
    error = (result.vertices() - MODEL.vertices(truth)).norm(dim=-1).mean(1)
    size = 0.9 * result.x[:, MODEL.slices["transl"]][:, 2] / truth[:, MODEL.slices["transl"]][:, 2]
    assert error.max() < 0.002 + 0.1 * (size - 0.9).abs().max()


def test_the_minimum_is_the_one_scipy_finds():
    p, _ = problem(batch=2, noise_px=0.5)
    result = FITTER.fit(p)
    for i in range(2):
        solution = least_squares(
            lambda v, i=i: residuals(p, v, i),
            result.x[i].numpy() + 1e-3,
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-12,
        )
        assert result.cost[i].item() == pytest.approx(solution.cost, rel=1e-6)
        moved = MODEL.vertices(torch.as_tensor(solution.x)[None])[0]
        assert (moved - result.vertices()[i]).abs().max() < 1e-5


def test_objective_cost_gradient_and_matrix():
    p, truth = problem(batch=2, noise_px=0.5)
    stage = Stage(tuple(MODEL.slices))
    objective = Objective(p, stage)
    x = truth + 0.01
    here = objective.evaluate(x)
    equations = objective.normal_equations(here)
    expected = [0.5 * (residuals(p, x[i].numpy(), i) ** 2).sum() for i in range(2)]
    np.testing.assert_allclose(here.cost.numpy(), expected, rtol=1e-12)
    gradient = torch.func.jacrev(lambda v: objective.evaluate(v).cost.sum())(x)
    torch.testing.assert_close(equations.gradient, gradient, rtol=1e-8, atol=1e-8)
    numeric = np.stack(
        [
            (residuals(p, x[0].numpy() + h) - residuals(p, x[0].numpy() - h)) / 2e-6
            for h in np.eye(MODEL.n_parameters) * 1e-6
        ],
        axis=1,
    )
    np.testing.assert_allclose(equations.hessian[0].numpy(), numeric.T @ numeric, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("kernel", ["huber", "cauchy", "geman_mcclure"])
def test_robust_gradient_is_the_derivative_of_the_robust_cost(kernel):
    p, truth = problem(batch=2, noise_px=2.0)
    objective = Objective(p, Stage(tuple(MODEL.slices), kernel=kernel, kernel_scale=1.5))
    x = truth + 0.005
    gradient = torch.func.jacrev(lambda v: objective.evaluate(v).cost.sum())(x)
    torch.testing.assert_close(
        objective.normal_equations(objective.evaluate(x)).gradient, gradient, rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("kernel", ["none", "huber", "cauchy", "geman_mcclure"])
def test_kernels_agree_with_least_squares_near_zero_and_bend_at_their_scale(kernel):
    square = torch.tensor([0.0, 1e-6, 4.0, 1e6], dtype=torch.float64)
    rho, slope = robustify(square, kernel, 2.0)
    assert rho[0] == 0
    assert slope[0] == 1
    assert rho[1].item() == pytest.approx(1e-6, rel=1e-5)
    if kernel != "none":
        assert rho[3] < 1e4
        assert slope[3] < 0.01


@pytest.mark.parametrize("damping", ["scaled", "additive"])
def test_both_kinds_of_damping_reach_the_same_minimum(damping):
    p, _ = problem(noise_px=0.5)
    config = LevenbergMarquardt.Config(damping=damping, tolerance=1e-12)
    stages = (p.stages[0], attrs.evolve(p.stages[1], iterations=300))
    result = LevenbergMarquardt(config).fit(attrs.evolve(p, stages=stages))
    torch.testing.assert_close(result.cost, FITTER.fit(p).cost, rtol=1e-6, atol=0)


def test_outliers_hardly_move_a_robust_fit():
    p, _ = problem(batch=1, noise_px=0.3)
    spoilt = p.points.clone()
    spoilt[:, :12] += 60.0
    stages = [attrs.evolve(stage, kernel="geman_mcclure") for stage in p.stages]
    robust = FITTER.fit(attrs.evolve(p, points=spoilt, stages=stages))
    plain = FITTER.fit(attrs.evolve(p, points=spoilt))
    clean = FITTER.fit(p)

    def distance(result):
        return (result.projected() - clean.projected()).norm(dim=-1).mean()

    assert distance(robust) < 0.5
    assert distance(plain) > 10 * distance(robust)


def test_items_of_a_batch_never_influence_one_another():
    p, _ = problem(batch=4, noise_px=0.5)
    first = FITTER.fit(p)
    others = p.points.clone()
    others[1:] = others[1:] * 1.3 + 7
    others[2] = math.nan
    second = FITTER.fit(attrs.evolve(p, points=others))
    assert torch.equal(first.x[0], second.x[0])
    assert first.cost[0] == second.cost[0]
    assert second.status[2] is FitStatus.FAILED
    alone, _ = problem(batch=4, noise_px=0.5)
    single = attrs.evolve(
        alone,
        points=p.points[:1],
        scale=p.scale[:1],
        confidence=p.confidence[:1],
        camera=p.camera.select([0]),
    )
    torch.testing.assert_close(FITTER.fit(single).vertices()[0], first.vertices()[0], rtol=1e-6, atol=1e-9)


def test_limits_hold_and_the_rest_still_fits():
    expression = ParameterGroup(
        "expression", 4, sqrt_information=np.ones(4), lower=np.zeros(4), upper=np.full(4, 0.5)
    )
    model = SkinnedModel(MODEL.arrays, MODEL.topology, [MODEL.coefficients[0], expression], MODEL.poses)
    p, _ = problem(batch=8, noise_px=0.2)
    bounded = FITTER.fit(attrs.evolve(p, model=model))
    values = bounded.parameters["expression"]
    assert (values >= 0).all()
    assert (values <= 0.5).all()
    assert ((values == 0) | (values == 0.5)).any()
    assert set(bounded.status) == {FitStatus.CONVERGED}
    # the Karush-Kuhn-Tucker conditions: no gradient where free, an outward one at a limit
    free = FITTER.fit(p)
    assert (bounded.cost >= free.cost - 1e-9).all()
    objective = Objective(bounded.problem, p.stages[-1])
    equations = objective.normal_equations(objective.evaluate(bounded.x))
    gradient = equations.gradient[:, MODEL.slices["expression"]]
    inside = (values > 0) & (values < 0.5)
    assert gradient[inside].abs().max() < 1e-2
    assert (gradient[values == 0] > 0).all()
    assert (gradient[values == 0.5] < 0).all()


class TwoAlike(ParametricModel):
    """Two bounded coefficients that move the points almost alike: the hard case of limits."""

    groups = (
        ParameterGroup("pair", 2, lower=[0.0, 0.0], upper=[1.0, 1.0]),
        ParameterGroup("global_orient", 3, "rotvec", rigid=True),
        ParameterGroup("transl", 3, rigid=True),
    )
    topology = attrs.evolve(MODEL.topology, name="two-alike", n_vertices=12, virtual_points=())
    rng = np.random.default_rng(0)
    rest = torch.as_tensor(rng.normal(size=(12, 3)) * 0.1)
    first = torch.as_tensor(rng.normal(size=(12, 3)) * 0.02)
    second = first + torch.as_tensor(rng.normal(size=(12, 3)) * 0.002)

    def points(self, x):
        a, b = x[:, 0, None, None], x[:, 1, None, None]
        return self.rest + a * self.first + b * self.second + x[:, None, 5:]


@pytest.mark.parametrize("tolerance", [1e-4, 1e-12])
def test_convergence_within_limits_is_at_the_minimum(tolerance):
    """Every item against the best of a grid over the limits, 60 items, from random starts."""
    model, rng, batch = TwoAlike(), np.random.default_rng(1), 60
    embedding = synthetic_embedding_of_vertices(model)
    camera = problem(batch=1)[0].camera.select([0] * batch)
    x = torch.zeros(batch, 8, dtype=torch.float64)
    x[:, 7] = 1
    truth, start = x.clone(), x.clone()
    truth[:, :2] = torch.as_tensor(rng.normal(size=(batch, 2)) * 2)
    start[:, :2] = torch.as_tensor(rng.uniform(size=(batch, 2)))
    points = camera.project(model.points(truth)) + torch.as_tensor(rng.normal(size=(batch, 12, 2))) * 0.1
    scale, confidence = torch.full_like(points, 0.1), torch.ones(batch, 12, dtype=torch.float64)
    stages = (Stage(("pair",), 100),)
    p = FitProblem(model, embedding, points, scale, confidence, camera, stages, start=start)
    fitter = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=tolerance))
    result = fitter.fit(p)
    assert set(result.status) == {FitStatus.CONVERGED}
    best = torch.full((batch,), torch.inf, dtype=torch.float64)
    objective = Objective(p, stages[0])
    for a in np.linspace(0, 1, 21):
        for b in np.linspace(0, 1, 21):
            x[:, 0], x[:, 1] = a, b
            best = torch.minimum(best, objective.evaluate(x).cost)
    assert (result.cost <= best * 1.001).all()


def test_a_start_behind_the_camera_fails_with_a_reason():
    p, truth = problem(batch=2)
    start = truth.clone()
    start[0, MODEL.slices["transl"]] = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    result = FITTER.fit(attrs.evolve(p, start=start))
    assert result.status == (FitStatus.FAILED, FitStatus.CONVERGED)
    assert "behind the camera" in result.messages[0]
    assert result.cost[0] == math.inf


def test_a_very_wide_lens_still_starts_before_the_camera():
    p, _ = problem(batch=2)
    camera = Camera(torch.full_like(p.camera.focal, 12.0), p.camera.principal, p.camera.size)
    start = closed_form_start(attrs.evolve(p, camera=camera))
    assert (MODEL.landmarks(EMBEDDING, start).points(start)[..., 2] > 0).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", 1e-45),
        ("scale", 0.0),
        ("scale", -1.0),
        ("scale", math.nan),
        ("confidence", math.inf),
        ("points", 1e30),
    ],
)
@pytest.mark.parametrize("weighting", ["inverse_scale", "confidence"])
def test_extreme_numbers_in_one_item_do_not_touch_the_others(name, value, weighting):
    p, _ = problem(batch=2, noise_px=0.5, dtype=torch.float32)
    p = attrs.evolve(p, weighting=weighting)
    spoilt = getattr(p, name).clone()
    spoilt[0] = value
    result = FITTER.fit(attrs.evolve(p, **{name: spoilt}))
    assert torch.equal(result.x[1], FITTER.fit(p).x[1])
    assert torch.isfinite(result.x).all()


def test_an_unknown_scale_leaves_a_landmark_out_whatever_the_weighting():
    p, _ = problem(batch=1, noise_px=0.2)
    p = attrs.evolve(p, weighting="confidence")
    points, scale = p.points.clone(), p.scale.clone()
    points[:, :9] += 100
    scale[:, :9] = math.inf
    clean = attrs.evolve(p, points=torch.where(scale.isinf(), torch.nan, points))
    torch.testing.assert_close(FITTER.fit(attrs.evolve(p, points=points, scale=scale)).x, FITTER.fit(clean).x)


def test_the_cost_is_that_of_the_parameters_returned():
    p, _ = problem(batch=4, noise_px=0.5, max_angle=3.1)
    result = FITTER.fit(p)
    torch.testing.assert_close(Objective(p, p.stages[-1]).evaluate(result.x).cost, result.cost)


def test_covariance_and_observability_are_per_item():
    p, _ = problem(batch=2, noise_px=0.5)
    points = p.points.clone()
    points[0] = math.nan
    result = FITTER.fit(attrs.evolve(p, points=points))
    assert result.covariance()[0].isnan().all()
    assert torch.isfinite(result.covariance()[1]).all()
    assert len(result.unobservable()[0]) == 0
    with pytest.raises(InputError, match="without stages"):
        FITTER.fit(attrs.evolve(p, stages=())).covariance()


def test_a_parameter_held_at_its_limit_has_no_variance():
    tight = ParameterGroup("expression", 4, sqrt_information=np.ones(4), lower=np.zeros(4), upper=np.zeros(4))
    model = SkinnedModel(MODEL.arrays, MODEL.topology, [MODEL.coefficients[0], tight], MODEL.poses)
    p, _ = problem(batch=1, noise_px=0.5)
    covariance = FITTER.fit(attrs.evolve(p, model=model)).covariance()[0]
    columns = model.slices["expression"]
    assert (covariance[columns] == 0).all()
    assert (covariance.diagonal()[: columns.start] > 0).all()


def test_frozen_groups_do_not_move():
    p, _ = problem(noise_px=0.5)
    stages = (Stage(("global_orient", "transl")), Stage(("global_orient", "transl", "betas")))
    result = FITTER.fit(attrs.evolve(p, stages=stages))
    assert (result.parameters["expression"] == 0).all()
    assert (result.parameters["jaw_pose"] == 0).all()
    assert (result.parameters["betas"] != 0).all()


def test_prior_weights_pull_towards_the_mean():
    p, _ = problem(noise_px=0.5)
    free = FITTER.fit(p).parameters["betas"].norm()
    tight = FITTER.fit(attrs.evolve(p, prior_weights={"betas": 1e6})).parameters["betas"].norm()
    assert tight < 0.05 * free


def test_confidence_weighting_is_thesis_equation_3_40():
    p, truth = problem(batch=1, noise_px=0.5)
    confidence = torch.linspace(0, 1, 80, dtype=torch.float64)[None]
    weighted = attrs.evolve(
        p, weighting="confidence", confidence=confidence, prior_weights=dict.fromkeys(MODEL.slices, 0.0)
    )
    cost = Objective(weighted, p.stages[-1]).evaluate(truth).cost
    projected = p.camera.project(MODEL.landmarks(EMBEDDING, truth).points(truth))
    expected = 0.5 * (confidence[..., None] * (projected - p.points)).square().sum()
    torch.testing.assert_close(cost[0], expected)
    with pytest.raises(InputError, match="inverse_scale"):
        FITTER.fit(weighted).covariance()


def test_unusable_landmarks_are_left_out():
    p, _ = problem(batch=2, noise_px=0.2)
    points, scale = p.points.clone(), p.scale.clone()
    points[0, :10] = math.nan
    scale[0, 10:20] = math.inf
    result = FITTER.fit(attrs.evolve(p, points=points, scale=scale))
    assert set(result.status) == {FitStatus.CONVERGED}
    assert torch.isfinite(result.x).all()
    assert result.rms_px.max() < 0.5
    torch.testing.assert_close(result.vertices()[0], FITTER.fit(p).vertices()[0], atol=0.01, rtol=0)


def test_too_few_landmarks_fail_with_a_reason_and_the_others_go_on():
    p, _ = problem(batch=2)
    points = p.points.clone()
    points[0, 3:] = math.inf
    result = FITTER.fit(attrs.evolve(p, points=points))
    assert result.status == (FitStatus.FAILED, FitStatus.CONVERGED)
    assert "3 of 80 landmarks are usable" in result.messages[0]
    assert result.cost[0] == math.inf
    assert result.rms_px[0].isnan()


def test_coinciding_landmarks_fail_with_a_reason():
    p, _ = problem(batch=2)
    points = p.points.clone()
    points[0] = 100.0
    result = FITTER.fit(attrs.evolve(p, points=points))
    assert result.status == (FitStatus.FAILED, FitStatus.CONVERGED)
    assert "The landmarks coincide" in result.messages[0]


@pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf])
def test_impossible_prior_weights_are_refused(weight):
    p, _ = problem(batch=1)
    with pytest.raises(InputError, match=r"prior_weights\['betas'\]: expected a finite number >= 0"):
        attrs.evolve(p, prior_weights={"betas": weight})


def test_the_iteration_limit_is_reported():
    p, _ = problem(batch=1, noise_px=0.5)
    result = FITTER.fit(attrs.evolve(p, stages=(attrs.evolve(p.stages[1], iterations=1),)))
    assert result.status == (FitStatus.MAX_ITERATIONS,)
    assert result.iterations.tolist() == [1]


def test_without_stages_the_start_is_returned():
    p, _ = problem(batch=2)
    result = FITTER.fit(attrs.evolve(p, stages=()))
    torch.testing.assert_close(result.x, MODEL.canonical(closed_form_start(p)))
    assert result.iterations.tolist() == [0, 0]


def test_the_closed_form_start_is_near():
    p, truth = problem(batch=5, max_angle=3.1)
    start = closed_form_start(p)
    moved = MODEL.landmarks(EMBEDDING, start).points(start)
    target = MODEL.landmarks(EMBEDDING, truth).points(truth)
    assert (p.camera.project(moved) - p.camera.project(target)).norm(dim=-1).mean() < 6


def test_float32_reaches_the_float64_minimum():
    p, _ = problem(noise_px=0.5)
    low, _ = problem(noise_px=0.5, dtype=torch.float32)
    result = LevenbergMarquardt().fit(low)
    assert result.x.dtype == torch.float32
    assert (result.vertices().double() - FITTER.fit(p).vertices()).abs().max() < 1e-3


def test_covariance_predicts_the_spread_of_repeated_fits():
    p, truth = problem(batch=1)
    generator = torch.Generator().manual_seed(0)
    batch = 200
    noise = torch.randn(batch, 80, 2, generator=generator, dtype=torch.float64)
    stage = Stage(("betas", "transl"))
    repeated = FitProblem(
        MODEL,
        EMBEDDING,
        p.points + noise,
        torch.ones(batch, 80, 2, dtype=torch.float64),
        torch.ones(batch, 80, dtype=torch.float64),
        p.camera.select([0] * batch),
        stages=(stage,),
        start=truth.expand(batch, -1),
        prior_weights={"betas": 0.0},
    )
    result = FITTER.fit(repeated)
    columns = MODEL.columns(stage.free)
    measured = torch.cov(result.x[:, columns].T)
    predicted = result.covariance()[0]
    ratio = measured.diagonal() / predicted.diagonal()
    assert ratio.min() > 0.7
    assert ratio.max() < 1.4
    torch.testing.assert_close(result.covariance(inflation=4.0)[0], 4 * predicted, rtol=1e-6, atol=0)


def test_unobservable_directions_are_named():
    arrays = MODEL.arrays
    shapedirs, joint_dirs = arrays.shapedirs.copy(), arrays.joint_dirs.copy()
    shapedirs[..., 2] = 0
    joint_dirs[..., 2] = 0
    blind = SkinnedModel(
        attrs.evolve(arrays, shapedirs=shapedirs, joint_dirs=joint_dirs),
        MODEL.topology,
        MODEL.coefficients,
        MODEL.poses,
    )
    p, _ = problem(batch=1)
    result = FITTER.fit(attrs.evolve(p, model=blind))
    directions = result.unobservable()[0]
    assert len(directions) >= 1
    assert directions[0].abs().argmax() == 2


class Bead(ParametricModel):
    """No skinning, no closed form: four beads on a stick, moved rigidly."""

    groups = (
        ParameterGroup("length", 1, sqrt_information=[0.1], prior_mean=[1.0]),
        ParameterGroup("global_orient", 3, "rotvec", rigid=True),
        ParameterGroup("transl", 3, rigid=True),
    )
    topology = attrs.evolve(MODEL.topology, name="beads", n_vertices=5, virtual_points=())

    def points(self, x):
        from partfit.geometry.rotations import rotvec_to_matrix

        rest = torch.tensor([[0, 0, 0], [0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.1], [0.1, 0.1, 0.1]]).to(x)
        return (rest * x[:, :1, None]) @ rotvec_to_matrix(x[:, 1:4]).mT + x[:, None, 4:]


def test_a_model_without_a_closed_form_is_fitted_too():
    model = Bead()
    embedding = synthetic_embedding_of_vertices(model)
    truth = torch.tensor([[1.3, 0.4, -0.2, 2.0, 0.02, 0.01, 1.5]], dtype=torch.float64)
    base, _ = problem(batch=1)
    points = base.camera.project(model.points(truth))
    p = FitProblem(
        model,
        embedding,
        points,
        torch.full_like(points, 0.01),
        torch.ones(1, 5, dtype=torch.float64),
        base.camera,
        stages=(Stage(("global_orient", "transl")), Stage(("length", "global_orient", "transl"), 100)),
    )
    result = FITTER.fit(p)
    assert result.rms_px.item() < 0.02


def synthetic_embedding_of_vertices(model):
    topology = model.topology
    scheme = LandmarkScheme(topology.name, [f"b{i}" for i in range(topology.n_vertices)])
    return LandmarkEmbedding.of_vertices(scheme, topology.name, range(topology.n_vertices))


def test_a_model_without_rigid_groups_asks_for_a_start():
    free = SkinnedModel(
        MODEL.arrays,
        MODEL.topology,
        MODEL.coefficients,
        [attrs.evolve(group, rigid=False) for group in MODEL.poses],
    )
    p, _ = problem(batch=1)
    with pytest.raises(InputError, match="Pass `start`"):
        FITTER.fit(attrs.evolve(p, model=free))


def test_wrong_problems_are_refused():
    p, _ = problem(batch=2)
    with pytest.raises(ShapeError, match=r"points: expected shape \(2, 80, 2\)"):
        attrs.evolve(p, points=p.points[:1])
    with pytest.raises(InputError, match="no parameter group 'jaw'"):
        attrs.evolve(p, stages=(Stage(("jaw",)),))
    other = synthetic_embedding(MODEL, 5).scheme
    detection = Detection(other, np.zeros((5, 2)), np.ones((5, 2)), np.ones(5))
    with pytest.raises(InputError, match="scheme 'synthetic5'"):
        FitProblem.from_detections(MODEL, EMBEDDING, [detection], p.camera.select([0]), p.stages)
