"""The likelihoods: their formulas, constants and reductions, and what they recover."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import partfit
from partfit.landmarks import LandmarkScheme
from partfit.learning.distribution import LandmarkDistribution, LandmarkTargets
from partfit_likelihoods.likelihoods import FREE, soft_bound

SCHEME = LandmarkScheme("seven", [f"p{i}" for i in range(7)])
SCIPY = {"gaussian": scipy.stats.norm, "laplace": scipy.stats.laplace}
OPTIONS = [
    {"base": base, "residual": residual, "counting": counting}
    for base in SCIPY
    for residual in (True, False)
    for counting in ("thesis", "rle")
]


def case(batch=3, seed=0):
    """A distribution and targets of unequal weight, some of it 0, in float64."""
    generator = torch.Generator().manual_seed(seed)
    mean, noise, log_scale = torch.randn(3, batch, 7, 2, generator=generator, dtype=torch.float64)
    weight = torch.rand(batch, 7, generator=generator, dtype=torch.float64)
    weight[0, :3] = 0
    distribution = LandmarkDistribution(mean, log_scale - 2)
    return distribution, LandmarkTargets(mean + 0.3 * noise, weight)


def make(name, **options):
    return partfit.create("loss", name, **options).module(SCHEME).double()


def stirred(spread=0.3, **options):
    """A residual likelihood with a flow that is not the identity."""
    module = make("resll-exp", hidden=8, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def average(nats, weight):
    """The weighted mean over landmarks of (B, L, 2) nats, summed over coordinates."""
    return (np.asarray(weight) * np.asarray(nats).sum(-1)).sum() / np.asarray(weight).sum()


@pytest.mark.parametrize(
    ("name", "expected"), [("ngll", torch.distributions.Normal), ("laplace", torch.distributions.Laplace)]
)
def test_fixed_densities_are_those_of_torch(name, expected):
    distribution, targets = case()
    log_prob = expected(distribution.mean, distribution.scale).log_prob(targets.points)
    loss = make(name)(distribution, targets)
    assert loss.item() == pytest.approx(average(-log_prob, targets.weight), rel=1e-12)


@pytest.mark.parametrize(("name", "density"), [("l1", scipy.stats.laplace), ("l2", scipy.stats.norm)])
def test_a_constant_scale_makes_plain_errors_of_likelihoods(name, density):
    _, targets = case()
    mean = case(seed=1)[0].mean.requires_grad_()
    for scale in (0.02, 0.5):
        module = make(name, scale=scale)
        log_scale = module.log_scale(torch.randn(3, 7, 2, dtype=torch.float64))
        loss = module(LandmarkDistribution(mean, log_scale), targets)
        nats = -density(mean.detach().numpy(), scale).logpdf(targets.points.numpy())
        assert loss.item() == pytest.approx(average(nats, targets.weight), rel=1e-12)
        (gradient,) = torch.autograd.grad(loss, mean)
        error = mean - targets.points
        plain = error.abs() / scale if name == "l1" else error.square() / (2 * scale**2)
        total = (targets.weight * plain.sum(dim=-1)).sum() / targets.weight.sum()
        torch.testing.assert_close(gradient, torch.autograd.grad(total, mean)[0])


@pytest.mark.parametrize("base", SCIPY)
@pytest.mark.parametrize("name", ["resll", "resll-exp"])
def test_an_identity_flow_gives_q_and_the_normal_density(name, base):
    """-log Q(r) - log N(r) + sum of log sigma."""
    distribution, targets = case()
    r = ((targets.points - distribution.mean) / distribution.scale).numpy()
    nats = -SCIPY[base].logpdf(r) - scipy.stats.norm.logpdf(r) + distribution.log_scale.numpy()
    loss = make(name, base=base)(distribution, targets)
    assert loss.item() == pytest.approx(average(nats, targets.weight), rel=1e-12)


@pytest.mark.parametrize("base", SCIPY)
def test_without_residual_an_identity_flow_gives_q(base):
    distribution, targets = case()
    expected = make({"gaussian": "ngll", "laplace": "laplace"}[base])(distribution, targets)
    torch.testing.assert_close(make("resll", base=base, residual=False)(distribution, targets), expected)


@pytest.mark.parametrize("base", SCIPY)
@pytest.mark.parametrize("residual", [True, False])
def test_both_ways_of_counting(base, residual):
    """Term by term, with a flow that is not the identity; the published code counts by coordinate."""
    distribution, targets = case()
    r = (targets.points - distribution.mean) / distribution.scale
    log_sigma = distribution.log_scale.numpy()
    log_q = SCIPY[base].logpdf(r.numpy())
    thesis = stirred(base=base, residual=residual)
    with torch.no_grad():
        log_g = thesis.log_g(r.reshape(-1, 2)).reshape(3, 7, 1).numpy()
    once = log_sigma - log_g / 2 - (log_q if residual else 0)
    assert thesis(distribution, targets).item() == pytest.approx(average(once, targets.weight), rel=1e-10)
    published = (log_sigma - log_g) + ((log_sigma - log_q) if residual else 0)
    rle = stirred(base=base, residual=residual, counting="rle")
    assert rle(distribution, targets).item() == pytest.approx(average(published, targets.weight), rel=1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_the_deviation_is_that_of_the_density_that_the_loss_stands_for(options):
    """exp(-loss), as a function of the true position, summed on a grid: against the deviation in r."""
    module = stirred(**options)
    axis = torch.linspace(-30, 30, 601, dtype=torch.float64)
    r = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        log_g = module.log_g(r).numpy()
    log_q = SCIPY[options["base"]].logpdf(r.numpy()).sum(-1)
    exponent = {
        (True, "thesis"): log_g + log_q,
        (True, "rle"): log_g + log_q / 2,  # all counted twice but Q
        (False, "thesis"): log_g,
        (False, "rle"): 2 * log_g,
    }[options["residual"], options["counting"]]
    p = np.exp(exponent - exponent.max())
    p /= p.sum()
    mean = p @ r.numpy()
    expected = np.sqrt(p @ (r.numpy() - mean) ** 2)
    np.testing.assert_allclose(module.float().deviation().numpy(), expected, rtol=5e-3)


@pytest.mark.parametrize(
    ("options", "variance"),
    [
        ({"base": "gaussian"}, 1 / 2),
        ({"base": "gaussian", "counting": "rle"}, 2 / 3),
        ({"base": "gaussian", "residual": False}, 1),
        ({"base": "laplace", "residual": False}, 2),
        ({"base": "gaussian", "residual": False, "counting": "rle"}, 1 / 2),
        ({"base": "laplace", "residual": False, "counting": "rle"}, 1 / 2),
    ],
)
def test_deviations_of_an_identity_flow_are_known(options, variance):
    deviation = partfit.create("loss", "resll", **options).module(SCHEME).deviation()
    np.testing.assert_allclose(deviation.numpy(), math.sqrt(variance), rtol=5e-3)


def test_the_dropped_constant_is_not_1():
    """With an identity flow and Q normal, Q G integrates to 1 / (4 pi): log s, which the loss leaves out."""
    module = make("resll-exp", base="gaussian", hidden=4)
    axis = torch.linspace(-4, 4, 17, dtype=torch.float64)
    zeros, ones = torch.zeros(1, 7, 2, dtype=torch.float64), torch.ones(1, 7, dtype=torch.float64)
    distribution = LandmarkDistribution(zeros, zeros)
    with torch.no_grad():
        losses = [
            module(distribution, LandmarkTargets(point.expand(1, 7, 2), ones))
            for point in torch.cartesian_prod(axis, axis)
        ]
    total = (-torch.stack(losses)).exp().sum() * 0.5**2
    assert total.item() == pytest.approx(1 / (4 * math.pi), rel=1e-5)


@pytest.mark.parametrize("name", ["ngll", "laplace", "l1", "l2", "resll", "resll-exp"])
def test_the_order_of_landmarks_does_not_matter(name):
    distribution, targets = case()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    other = LandmarkDistribution(distribution.mean[:, order], distribution.log_scale[:, order])
    permuted = LandmarkTargets(targets.points[:, order], targets.weight[:, order])
    module = make(name)
    torch.testing.assert_close(module(other, permuted), module(distribution, targets))


def test_scales_are_exponential_or_sigmoid():
    raw = torch.linspace(-FREE, FREE, 41)[:, None].expand(-1, 2)
    for name in ("ngll", "laplace", "resll-exp"):
        torch.testing.assert_close(make(name).log_scale(raw), raw)
    torch.testing.assert_close(make("resll").log_scale(raw).exp(), raw.sigmoid())


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
@settings(deadline=None)
def test_the_soft_bound_is_a_rising_function_within_its_bounds(a, b):
    x = torch.tensor([a, b], dtype=torch.float64, requires_grad=True)
    y = soft_bound(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert (y.abs() < 2 * FREE).all()
    assert (slope > 1e-11).all()
    assert (y[0] < y[1]) == (a < b) or abs(a - b) < 1e-6
    inside = x.detach().abs() <= FREE
    assert torch.equal(y[inside], x[inside])


def test_a_runaway_scale_comes_back():
    """From raw = 100, which is no scale in float32, training finds one again."""
    raw = torch.full((1, 7, 2), 100.0, requires_grad=True)
    targets = LandmarkTargets.of_points(torch.full((1, 7, 2), 0.1))
    module = partfit.create("loss", "ngll").module(SCHEME)
    optimizer = torch.optim.Adam([raw], lr=2)
    for _ in range(200):
        optimizer.zero_grad()
        module(LandmarkDistribution(torch.zeros(1, 7, 2), module.log_scale(raw)), targets).backward()
        optimizer.step()
    assert raw.abs().max() < FREE


SAMPLES = {
    "gaussian": lambda rng: rng.normal(size=(500, 2)),
    "laplace": lambda rng: rng.laplace(size=(500, 2)),
    "skewed": lambda rng: rng.exponential(size=(500, 2)) - 1,
}


def fitted(name, points, **options):
    """Mean and scale times deviation that a loss fits to points, with whatever else it learns."""
    torch.manual_seed(0)
    module = partfit.create("loss", name, **options).module(SCHEME)
    numbers = torch.tensor([0.0, 0.0, -3.0, -3.0], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [numbers, *module.parameters()], max_iter=100, line_search_fn="strong_wolfe"
    )
    targets = LandmarkTargets.of_points(torch.as_tensor(points, dtype=torch.float32)[:, None])

    def loss():
        optimizer.zero_grad()
        pair = numbers.expand(len(points), 1, 4)
        value = module(LandmarkDistribution(pair[..., :2], module.log_scale(pair[..., 2:])), targets)
        value.backward()
        return value

    optimizer.step(loss)
    numbers = numbers.detach()
    return numbers[:2].numpy(), (module.log_scale(numbers[2:]).exp() * module.deviation()).numpy()


@pytest.mark.parametrize("shape", SAMPLES)
def test_ngll_recovers_mean_and_deviation(shape):
    points = 0.1 + 0.02 * SAMPLES[shape](np.random.default_rng(0))
    mean, deviation = fitted("ngll", points)
    np.testing.assert_allclose(mean, points.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(deviation, points.std(axis=0), rtol=0.01)


def test_laplace_recovers_median_and_deviation():
    points = 0.1 + 0.02 * SAMPLES["laplace"](np.random.default_rng(0))
    mean, deviation = fitted("laplace", points)
    np.testing.assert_allclose(mean, np.median(points, axis=0), atol=4e-4)
    np.testing.assert_allclose(deviation, points.std(axis=0), rtol=0.06)


@pytest.mark.parametrize(
    ("shape", "tolerance", "shift"),
    [("gaussian", 0.03, 2e-3), ("laplace", 0.05, 2e-3), ("skewed", 0.12, 1e-2)],
)
@pytest.mark.parametrize("name", ["resll", "resll-exp"])
def test_residual_likelihoods_recover_the_deviation(name, shape, tolerance, shift):
    """However far the scale has drifted from it: the flow makes up for that, and for a part of the mean."""
    points = 0.1 + 0.02 * SAMPLES[shape](np.random.default_rng(0))
    mean, deviation = fitted(name, points, hidden=16)
    np.testing.assert_allclose(mean, np.median(points, axis=0), atol=shift)
    np.testing.assert_allclose(deviation, points.std(axis=0), rtol=tolerance)
