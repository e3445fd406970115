"""What this distribution provides."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl

_LOSSES = (
    ("ngll", "likelihoods:GaussianLikelihood", "Gaussian log-likelihood with a predicted scale"),
    ("laplace", "likelihoods:LaplaceLikelihood", "Laplace log-likelihood with a predicted scale"),
    ("l1", "likelihoods:L1", "Absolute error"),
    ("l2", "likelihoods:L2", "Squared error"),
    ("resll", "likelihoods:ResLL", "Residual log-likelihood of a flow, scale by a sigmoid"),
    ("resll-exp", "likelihoods:ResLLExp", "Residual log-likelihood of a flow, scale by the exponential"),
    ("vertex-edge", "edges:VertexEdge", "Squared error of the edges between landmarks"),
)


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """The losses."""
    return [
        ComponentSpec("loss", name, f"partfit_likelihoods.{target}", summary, 1)
        for name, target, summary in _LOSSES
    ]
