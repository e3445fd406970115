"""Theseus meets the optimum of `lm`, since its cost is the same."""

import importlib.util
import math

import attrs
import numpy as np
import pytest
import torch

from partfit.errors import ComponentError, ConfigError
from partfit.fitting import FitStatus, LevenbergMarquardt, Stage
from partfit.fitting.contours import with_contour_frozen
from partfit.fitting.objective import Objective
from partfit.models import ContourEmbedding, ParameterGroup, SkinnedModel
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem
from partfit_theseus import install
from partfit_theseus.compat import th
from partfit_theseus.cost import FitCost
from partfit_theseus.fitter import TheseusFitter

MODEL = synthetic_model(n_betas=4, n_expression=3)
EMBEDDING = synthetic_embedding(MODEL, 50)
ALL = tuple(MODEL.slices)
METHODS = [
    {},
    {"cost": "autodiff"},
    {"optimizer": "gauss-newton"},
    {"optimizer": "dogleg"},
    {"damping": "additive"},
    {"adaptive_damping": False, "linear_solver": "lu-dense"},
]


def by_theseus(problem, **options):
    return TheseusFitter(TheseusFitter.Config(**options)).fit(problem)


def by_lm(problem):
    return LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-9)).fit(problem)


def plain(batch=2, **changes):
    problem, _ = synthetic_problem(MODEL, EMBEDDING, batch, noise_px=1.0)
    return attrs.evolve(problem, **changes)


def with_outliers(kernel):
    """A tenth of the landmarks is off by 15 pixels."""
    problem = plain()
    points = problem.points.clone()
    points[:, ::10] += 15
    stages = (Stage(("global_orient", "transl"), 20, kernel, 3.0), Stage(ALL, 40, kernel, 2.0))
    return attrs.evolve(problem, points=points, stages=stages)


def limited():
    """Limits that the optimum meets, on some coefficients and on the jaw."""
    betas, expression = MODEL.coefficients
    poses = [
        attrs.evolve(g, lower=[-0.01] * 3, upper=[0.01] * 3) if g.name == "jaw_pose" else g
        for g in MODEL.poses
    ]
    expression = attrs.evolve(expression, lower=[0.0] * 3, upper=[1.0] * 3)
    return plain(model=SkinnedModel(MODEL.arrays, MODEL.topology, [betas, expression], poses))


def all_limited():
    """Limits on all coefficients, most of which the optimum meets."""
    model = synthetic_model(400, 20, 12)
    narrow = [attrs.evolve(g, lower=[-0.2] * g.size, upper=[0.2] * g.size) for g in model.coefficients]
    embedding = synthetic_embedding(model, 100)
    problem, _ = synthetic_problem(model, embedding, 2, noise_px=1.0)
    return attrs.evolve(problem, model=SkinnedModel(model.arrays, model.topology, narrow, model.poses))


def full_prior():
    """A prior with a full matrix and a mean that is not zero."""
    root = np.random.default_rng(1).normal(size=(6, 4)) * 2
    betas = ParameterGroup("betas", 4, sqrt_information=root, prior_mean=[0.5, -0.3, 0.2, 0.1])
    model = SkinnedModel(MODEL.arrays, MODEL.topology, [betas, MODEL.coefficients[1]], MODEL.poses)
    return plain(model=model, prior_weights={"betas": 3.0, "expression": torch.tensor(0.5), "neck_pose": 0.0})


def by_confidence():
    problem = plain(weighting="confidence")
    confidence = torch.linspace(0, 1, 50, dtype=torch.float64).expand(2, -1)
    return attrs.evolve(problem, confidence=confidence, min_confidence=0.1)


def relative():
    """Relative 3D points too, some of them unknown."""
    problem, truth = synthetic_problem(MODEL, EMBEDDING, 2, noise_px=1.0)
    noise = torch.as_tensor(np.random.default_rng(2).normal(size=(2, 50, 3))) * 2e-3
    points = MODEL.landmarks(EMBEDDING, truth).points(truth) + noise
    points[:, 3] = math.nan
    scale = torch.full_like(points, 2e-3)
    scale[0, 5, 2] = math.inf
    stages = (Stage(("global_orient", "transl"), 20), Stage(ALL, 30, "huber", 1.5))
    return attrs.evolve(problem, points_3d=points, scale_3d=scale, stages=stages)


class ByTranslation(ContourEmbedding):
    """Takes the second choice where the model lies to the right."""

    def choose(self, model, x, camera):
        return (x[:, model.slices["transl"]][:, 0] > 0).long()


def contour():
    rows = np.random.default_rng(4).integers(0, 300, size=(2, 3, 1))
    embedding = ByTranslation(
        EMBEDDING.scheme,
        EMBEDDING.topology,
        EMBEDDING.indices,
        EMBEDDING.weights,
        contour=[3, 17, 5],
        choices_indices=rows,
        choices_weights=np.ones((2, 3, 1)),
    )
    problem, _ = synthetic_problem(MODEL, EMBEDDING, 3, noise_px=1.0)
    return attrs.evolve(problem, embedding=embedding)


PROBLEMS = {
    "plain": plain,
    "limits": limited,
    "many limits": all_limited,
    "full prior": full_prior,
    "confidence": by_confidence,
    "relative points": relative,
    "contour": contour,
    **{
        kernel: lambda kernel=kernel: with_outliers(kernel) for kernel in ("huber", "cauchy", "geman_mcclure")
    },
}


@pytest.mark.parametrize("options", METHODS, ids=lambda o: "-".join(map(str, o.values())) or "default")
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_optimum_is_that_of_lm(name, options):
    problem = PROBLEMS[name]()
    expected, found = by_lm(problem), by_theseus(problem, **options)
    assert FitStatus.FAILED not in found.status
    torch.testing.assert_close(found.cost, expected.cost, rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", ["closed-form", "autodiff"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_cost_gradient_and_matrix_are_those_of_the_objective(name, kind):
    """Of parameters at limits, too, that are held."""
    problem = PROBLEMS[name]()
    x = by_lm(problem).x + 1e-3
    lower, upper = (
        torch.as_tensor(np.concatenate([getattr(g, n) for g in problem.model.groups]))
        for n in ("lower", "upper")
    )
    x = x.clamp(lower, upper)
    objective = Objective(with_contour_frozen(problem, x), problem.stages[-1])
    frozen = torch.zeros(len(x), dtype=torch.bool)
    cost = FitCost(objective, x, frozen, kind)
    here = objective.evaluate(x)
    equations = objective.normal_equations(here)
    torch.testing.assert_close(0.5 * cost.error().square().sum(1), here.cost, rtol=1e-12, atol=0)
    (jacobian,), error = cost.jacobians()
    assert jacobian.shape == (len(x), cost.dim(), len(objective.columns))
    held = objective.held(here, equations)
    kept = (~held).to(x)
    gradient = (error[:, None] @ jacobian)[:, 0]
    torch.testing.assert_close(gradient, equations.gradient * kept, rtol=1e-9, atol=1e-7)
    expected = equations.hessian * kept[:, :, None] * kept[:, None] + torch.diag_embed(1 - kept)
    size = expected.abs().max()
    torch.testing.assert_close(
        jacobian.transpose(1, 2) @ jacobian / size, expected / size, atol=1e-13, rtol=0
    )
    assert held.any() == ("limits" in name)


@pytest.mark.parametrize("name", ["plain", "relative points", "cauchy"])
def test_the_jacobians_are_those_of_autodiff(name):
    problem = PROBLEMS[name]()
    x = by_lm(problem).x + 1e-3
    objective, frozen = Objective(problem, problem.stages[-1]), torch.zeros(2, dtype=torch.bool)
    closed, autodiff = (
        FitCost(objective, x, frozen, k).jacobians()[0][0] for k in ("closed-form", "autodiff")
    )
    torch.testing.assert_close(closed, autodiff, rtol=1e-8, atol=1e-7)


def test_theseus_finds_the_jacobian_right():
    """Its own check, by finite differences, where there is no kernel."""
    problem = plain()
    objective, frozen = Objective(problem, problem.stages[-1]), torch.zeros(2, dtype=torch.bool)
    cost = FitCost(objective, by_lm(problem).x, frozen, "closed-form")
    whole = th.Objective(dtype=torch.float64)
    whole.add(cost)
    whole.update()
    (jacobian,), error = cost.jacobians()
    step = 1e-7 * torch.ones(2, len(objective.columns), dtype=torch.float64)
    ahead = whole.error({"free": cost.free.retract(step).tensor})
    torch.testing.assert_close((ahead - error) / 1e-7, jacobian.sum(2), rtol=1e-4, atol=1e-2)


def test_limits_are_kept_to_the_bit_and_held():
    problem = limited()
    result = by_theseus(problem)
    jaw, expression = result.parameters["jaw_pose"], result.parameters["expression"]
    assert (jaw.abs() <= 0.01).all()
    assert (jaw.abs() == 0.01).any()
    assert (expression >= 0).all()
    assert (expression == 0).any()


def test_float32():
    problem = plain()
    narrow = attrs.evolve(
        problem,
        points=problem.points.float(),
        scale=problem.scale.float(),
        confidence=problem.confidence.float(),
        camera=problem.camera.to(torch.zeros(())),
    )
    for options in METHODS:
        result = by_theseus(narrow, **options)
        assert result.x.dtype == torch.float32
        torch.testing.assert_close(result.cost.double(), by_lm(problem).cost, rtol=1e-3, atol=0)


def test_a_model_without_closed_form():
    from partfit.models.base import ParametricModel

    class Opaque(ParametricModel):
        groups = MODEL.groups
        topology = MODEL.topology

        def points(self, x):
            return MODEL.points(x)

    problem = plain(model=Opaque())
    expected = by_lm(plain()).cost
    for kind in ("closed-form", "autodiff"):
        torch.testing.assert_close(by_theseus(problem, cost=kind).cost, expected, rtol=1e-3, atol=0)


def test_without_stages_nothing_moves():
    problem = plain(stages=(), start=by_lm(plain()).x)
    result = by_theseus(problem)
    assert torch.equal(result.x, problem.start)
    assert not result.iterations.any()


def test_the_limit_of_iterations_is_kept():
    result = by_theseus(plain(stages=(Stage(ALL, 2),)))
    assert set(result.status) == {FitStatus.MAX_ITERATIONS}
    assert result.iterations.tolist() == [2, 2]


def spoilt(problem, how):
    """The problem with its first item spoilt."""
    points, start = problem.points.clone(), by_lm(problem).x + 0.01
    if how == "nan":
        points[0] = math.nan
    elif how == "few":
        points[0, 3:] = math.nan
    elif how == "coinciding":
        points[0] = 100.0
    elif how == "behind":
        start[0, problem.model.slices["transl"]] = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    return attrs.evolve(problem, points=points, start=start)


@pytest.mark.parametrize("options", METHODS[:4], ids=lambda o: "-".join(map(str, o.values())) or "default")
@pytest.mark.parametrize(
    ("how", "word"), [("nan", "usable"), ("few", "usable"), ("coinciding", "coincide"), ("behind", "behind")]
)
def test_an_item_that_fails_leaves_the_others_to_the_bit(how, word, options):
    problem = plain(batch=3)
    sound, result = (by_theseus(spoilt(problem, h), **options) for h in ("not", how))
    assert FitStatus.FAILED not in sound.status
    assert result.status[0] is FitStatus.FAILED
    assert word in result.messages[0]
    assert math.isinf(result.cost[0])
    assert torch.isfinite(result.x).all()
    assert torch.equal(result.x[1:], sound.x[1:])
    assert torch.equal(result.cost[1:], sound.cost[1:])
    assert result.status[1:] == sound.status[1:]
    assert torch.equal(result.iterations[1:], sound.iterations[1:])


@pytest.mark.parametrize(
    "options",
    [*METHODS, {"optimizer": "dogleg", "trust_region": 2.0}],
    ids=lambda o: "-".join(map(str, o.values())) or "default",
)
@pytest.mark.parametrize("iterations", [8, 40])
@pytest.mark.parametrize("own", ["easy", "hard"])
def test_no_item_sees_how_hard_another_is(own, iterations, options):
    """Iterations, damping, radii and rejected steps of the first item are nothing to the second."""
    problem = plain(stages=(Stage(ALL, iterations),))
    best = by_lm(problem).x
    easy, second = (moved(best, turn=0.01, betas=0.5, item=item) for item in (0, 1))
    hard = moved(best, turn=0.9, betas=4.0, item=0)
    if own == "hard":  # so much that steps are rejected
        second = moved(best, turn=1.5, betas=4.0, item=1)
    beside_easy, beside_hard = (
        by_theseus(attrs.evolve(problem, start=torch.stack([first, second])), **options)
        for first in (easy, hard)
    )
    assert not torch.equal(beside_easy.x[0], beside_hard.x[0])
    assert torch.equal(beside_easy.x[1], beside_hard.x[1])
    assert beside_easy.status[1] == beside_hard.status[1]
    assert beside_easy.iterations[1] == beside_hard.iterations[1]


def moved(x, turn, betas, item):
    """One item's state with its rotation turned by so much about each axis, and other coefficients."""
    state = x[item].clone()
    state[MODEL.slices["global_orient"]] += turn
    state[MODEL.slices["betas"]] += betas
    return state


@pytest.mark.parametrize(("turn", "betas"), [(1.5, 4.0), (1.76, 0.0)])
@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "dogleg"])
def test_a_rejected_step_is_not_the_end(optimizer, turn, betas):
    """From so far away that steps are rejected, or lead behind the camera, while another item has arrived."""
    problem = plain(stages=(Stage(ALL, 40),))
    best = by_lm(problem)
    start = torch.stack([moved(best.x, turn, betas, 0), moved(best.x, 0.01, 0.5, 1)])
    result = by_theseus(attrs.evolve(problem, start=start), optimizer=optimizer)
    assert set(result.status) == {FitStatus.CONVERGED}
    torch.testing.assert_close(result.cost, best.cost, rtol=1e-3, atol=0)


def undetermined():
    """The first item has 5 landmarks and there are no priors: singular; the second is sound."""
    problem = plain(prior_weights=dict.fromkeys(ALL, 0.0))
    points = problem.points.clone()
    points[0, 5:] = math.nan
    return attrs.evolve(problem, points=points)


@pytest.mark.parametrize("optimizer", ["gauss-newton", "dogleg"])
def test_a_singular_system_fails_alone(optimizer):
    result = by_theseus(undetermined(), optimizer=optimizer)
    assert result.status[0] is FitStatus.FAILED
    assert "undetermined" in result.messages[0]
    assert result.status[1] is FitStatus.CONVERGED
    assert torch.isfinite(result.x).all()


def test_damping_makes_up_for_what_is_undetermined():
    result = by_theseus(undetermined())
    assert FitStatus.FAILED not in result.status
    assert torch.isfinite(result.x).all()
    assert result.rms_px[0] < 0.1


def missing(monkeypatch, *modules):
    def find(name, find=importlib.util.find_spec):
        return None if name in modules else find(name)

    monkeypatch.setattr(install, "find_spec", find)


def test_without_theseus_an_error_says_how_to_install_it(monkeypatch):
    missing(monkeypatch, "theseus")
    with pytest.raises(ComponentError, match="needs theseus-ai") as error:
        TheseusFitter()
    assert install.INSTALL in str(error.value)


@pytest.mark.parametrize(
    ("solver", "library"), [("cholmod", "scikit-sparse"), ("lu-cuda", "CUDA"), ("baspacho", "BaSpaCho")]
)
def test_without_its_library_a_sparse_solver_says_how_to_install_it(monkeypatch, solver, library):
    missing(monkeypatch, install.SPARSE[solver][1])
    with pytest.raises(ComponentError, match=library) as error:
        TheseusFitter(TheseusFitter.Config(linear_solver=solver, damping="additive", adaptive_damping=False))
    assert install.SPARSE[solver][2] in str(error.value)


def test_damping_that_cholmod_cannot_do_is_refused():
    with pytest.raises(ConfigError, match="adaptive_damping=false"):
        TheseusFitter.Config(linear_solver="cholmod")


@pytest.mark.skipif(importlib.util.find_spec("sksparse") is None, reason="needs scikit-sparse")
@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "gauss-newton", "dogleg"])
def test_cholmod(optimizer):
    options = {"linear_solver": "cholmod", "damping": "additive", "adaptive_damping": False}
    found = by_theseus(plain(), optimizer=optimizer, **options)
    torch.testing.assert_close(found.cost, by_lm(plain()).cost, rtol=1e-3, atol=0)


def test_discovery_brings_no_theseus():
    import subprocess
    import sys

    code = (
        "import partfit_theseus.plugin as p, sys; p.partfit_components(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("cost", ["closed-form", "autodiff"])
def test_the_focal_length_is_estimated_as_by_lm(cost):
    problem, _ = synthetic_problem(MODEL, EMBEDDING, 2, noise_px=0.5)
    stages = (problem.stages[0], attrs.evolve(problem.stages[1], focal=True))
    camera = attrs.evolve(problem.camera, focal=1.2 * problem.camera.focal)
    problem = attrs.evolve(problem, stages=stages, camera=camera, focal_deviation=0.3)
    expected = LevenbergMarquardt(LevenbergMarquardt.Config(tolerance=1e-10)).fit(problem)
    result = TheseusFitter(TheseusFitter.Config(cost=cost, tolerance=1e-10)).fit(problem)
    torch.testing.assert_close(result.cost, expected.cost, rtol=1e-5, atol=0)
    torch.testing.assert_close(result.focal, expected.focal, rtol=1e-3, atol=0)
