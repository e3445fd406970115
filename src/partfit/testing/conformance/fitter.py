"""The suite of fitters."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import attrs
import torch

from partfit.fitting import FitProblem, FitStatus, Fitter, Stage
from partfit.models import SkinnedModel
from partfit.testing.conformance.base import ConfiguredSuite
from partfit.testing.conformance.states import limits
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem


class FitterConformance(ConfiguredSuite):
    """A fitter: meets noise-free landmarks, keeps items apart, fails with a reason."""

    @abstractmethod
    def make(self) -> Fitter:
        """The fitter under test."""

    def test_noise_free_landmarks_are_met(self) -> None:
        problem, _ = self._problem()
        result = self.make().fit(problem)
        assert FitStatus.FAILED not in result.status
        assert result.rms_px.max() < 0.3

    def test_items_do_not_influence_one_another(self) -> None:
        problem, _ = self._problem()
        other = problem.points.clone()
        other[1] += 40
        fitter = self.make()
        first, second = fitter.fit(problem), fitter.fit(attrs.evolve(problem, points=other))
        assert torch.equal(first.x[0], second.x[0])

    def test_an_item_without_landmarks_fails_alone(self) -> None:
        problem, _ = self._problem()
        points = problem.points.clone()
        points[0] = torch.nan
        result = self.make().fit(attrs.evolve(problem, points=points))
        assert result.status[0] is FitStatus.FAILED
        assert result.messages[0]
        assert result.status[1] is not FitStatus.FAILED

    def test_its_figures_are_those_of_its_parameters(self) -> None:
        problem, _ = self._problem()
        result = self.make().fit(problem)
        away = (result.projected() - problem.points).square().sum(dim=-1)
        torch.testing.assert_close(result.rms_px.double(), away.mean(dim=1).sqrt(), rtol=1e-3, atol=1e-6)
        assert len(result.status) == len(result.messages) == len(result.x) == len(result.cost) == 2

    def test_landmarks_of_a_large_scale_hardly_count(self) -> None:
        problem, _ = self._problem()
        wrong = _every_tenth(problem)
        scale = problem.scale.clone()
        scale[:, wrong] = 1e3
        self._check_that_they_hardly_count(problem, wrong, scale=scale)

    def test_landmarks_of_too_little_confidence_are_left_out(self) -> None:
        problem, _ = self._problem()
        wrong = _every_tenth(problem)
        confidence = problem.confidence.clone()
        confidence[:, wrong] = 0.3
        self._check_that_they_hardly_count(problem, wrong, confidence=confidence, min_confidence=0.5)

    def test_priors_pull_where_landmarks_are_few(self) -> None:
        """Six landmarks off by a pixel say little about ten coefficients: these stay moderate."""
        model = synthetic_model()
        embedding = synthetic_embedding(model, 6)
        problem, _ = synthetic_problem(model, embedding, batch=4, noise_px=1.0)
        x = self.make().fit(problem).x
        for group in model.coefficients:
            largest = x[:, model.slices[group.name]].abs().max()
            assert largest < 3, f"{group.name} is {largest:.1f} standard deviations from the mean"

    def test_prior_weights_are_heeded(self) -> None:
        """The more a prior weighs, the nearer to its mean."""
        problem, _ = self._problem()
        fitter, columns = self.make(), problem.model.slices["betas"]
        plain = fitter.fit(problem).x[:, columns].norm(dim=1)
        strong = fitter.fit(attrs.evolve(problem, prior_weights={"betas": 1e6})).x[:, columns].norm(dim=1)
        assert (strong < 0.2 * plain).all(), f"1e6 times the prior: betas of length {strong}, before {plain}"

    def _check_that_they_hardly_count(self, problem: FitProblem, wrong: torch.Tensor, **changes: Any) -> None:
        """Landmarks that are 40 pixels off leave the others where they are."""
        fitter = self.make()
        points = problem.points.clone()
        points[:, wrong] += 40
        result = fitter.fit(attrs.evolve(problem, points=points, **changes))
        away = (result.projected() - problem.points).norm(dim=2).max()
        assert away < 1, f"landmarks 40 pixels off that hardly count move the others by {away:.1f} pixels"

    def test_groups_that_are_not_free_stay(self) -> None:
        problem, truth = self._problem()
        rigid = tuple(group.name for group in problem.model.groups if group.rigid)
        result = self.make().fit(attrs.evolve(problem, start=truth, stages=(Stage(rigid),)))
        free = problem.model.columns(rigid)
        kept = [i for i in range(problem.model.n_parameters) if i not in free]
        assert torch.equal(result.x[:, kept], truth[:, kept])

    def test_limits_are_kept(self) -> None:
        model = synthetic_model()
        narrow = [attrs.evolve(g, lower=[-0.1] * g.size, upper=[0.1] * g.size) for g in model.coefficients]
        limited = SkinnedModel(model.arrays, model.topology, narrow, model.poses)
        problem, _ = self._problem()
        x = self.make().fit(attrs.evolve(problem, model=limited)).x
        lower, upper = limits(limited)
        assert ((x >= lower) & (x <= upper)).all()

    def test_the_problem_is_left_as_it_is(self) -> None:
        problem, truth = self._problem()
        problem = attrs.evolve(problem, start=truth.clone())
        given = {name: getattr(problem, name).clone() for name in ("points", "scale", "confidence", "start")}
        self.make().fit(problem)
        assert all(torch.equal(getattr(problem, name), value) for name, value in given.items())

    @staticmethod
    def _problem() -> tuple[FitProblem, torch.Tensor]:
        model = synthetic_model()
        return synthetic_problem(model, synthetic_embedding(model, 80), batch=2)


def _every_tenth(problem: FitProblem) -> torch.Tensor:
    """Indices of landmarks."""
    return torch.arange(0, problem.points.shape[1], 10)
