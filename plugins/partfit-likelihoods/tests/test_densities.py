"""The fixed densities and the flow's: they integrate to 1."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from partfit_likelihoods.densities import DENSITIES, full_precision
from partfit_likelihoods.likelihoods import ResidualConfig, ResidualModule, ResLLExp

SCIPY = {"gaussian": scipy.stats.norm, "laplace": scipy.stats.laplace}


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_is_that_of_scipy_and_integrates_to_1(name):
    density = DENSITIES[name]
    r = np.linspace(-30, 30, 301)
    log_density = density.log_density(torch.as_tensor(r)).numpy()
    np.testing.assert_allclose(log_density, SCIPY[name].logpdf(r), rtol=1e-12)
    assert density.deviation == pytest.approx(SCIPY[name].std(), rel=1e-12)
    assert SCIPY[name].sf(density.reach) < 5e-7

    def p(x):
        return density.log_density(torch.tensor(x, dtype=torch.float64)).exp().item()

    parts = [scipy.integrate.quad(p, low, high)[0] for low, high in ((-30, 0), (0, 30))]
    assert sum(parts) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("residual", [True, False])
def test_the_density_of_the_flow_integrates_to_1(residual):
    module = stirred(ResidualConfig(base="laplace", residual=residual, hidden=8))
    axis = torch.linspace(-40, 40, 801, dtype=torch.float64)
    with torch.no_grad():
        density = module.log_g(torch.cartesian_prod(axis, axis)).exp().reshape(801, 801).numpy()
    total = scipy.integrate.simpson(scipy.integrate.simpson(density, x=axis), x=axis)
    assert total == pytest.approx(1, abs=2e-3)


def test_halves_become_whole():
    for dtype, expected in [(torch.float16, torch.float32), (torch.float64, torch.float64)]:
        assert full_precision(torch.ones(2, dtype=dtype)).dtype == expected


def stirred(config) -> ResidualModule:
    module = ResLLExp(config).module(None).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module
