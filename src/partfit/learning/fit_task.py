"""The fit that a network learns to start, and through which it may learn; see `FitConfig`.

Landmarks, scales and the start come from the network, `FitLayer` refines, and losses compare the start and
the fitted vertices with the true parameters. Source: thesis chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partfit.embedding_finder import EmbeddingFinder
from partfit.errors import ConfigError
from partfit.fitting import FitLayer, FitResult, FitStatus
from partfit.fitting.starts import placed, seen_pose
from partfit.geometry.camera import Camera
from partfit.landmarks import LandmarkEmbedding, LandmarkScheme
from partfit.learning.augmentation import to_crop_units
from partfit.learning.batches import Batch, make_batch
from partfit.learning.crops import CropRule
from partfit.learning.distribution import LandmarkDistribution
from partfit.learning.networks import LandmarkNetwork
from partfit.learning.packing import PackedDataset
from partfit.learning.start_head import StartPrediction, start_layout, start_loss
from partfit.learning.training_config import FitConfig
from partfit.models.base import LandmarkFunction, ParametricModel
from partfit.pipeline_config import Choice, recipe_for
from partfit.registry import Registry, default_registry


class FitTask:
    """The fit of a configuration: what is true of a batch, its losses and its figures.

    Attributes:
        config: What it was built from.
        model: The model.
        layer: The fit.
        layout: What the network's start head predicts.
    """

    def __init__(self, config: FitConfig, scheme: LandmarkScheme, registry: Registry | None = None) -> None:
        """Build the model and the fit of landmarks of a scheme.

        Raises:
            ComponentError, NoEmbeddingError: if a component or the embedding does not exist.
            ConfigError: if an option is wrong, or the embedding is of another version of the scheme.
        """
        registry = registry or default_registry()
        recipe = recipe_for(registry, config.part, config.model)
        chosen, fitter = config.model or Choice(recipe.model), config.fitter or Choice(recipe.fitter)
        self.config = config
        self.model: ParametricModel = registry.create("model", chosen.name, **chosen.options)
        self._settings = config.settings or recipe.settings_of(config.preset)
        embedding = EmbeddingFinder(registry, config.embeddings).find(scheme.name, self.model, scheme)
        if embedding.scheme.hash != scheme.hash:
            raise ConfigError(
                f"fit: the {embedding.label} is of version {embedding.scheme.version}, the data are of "
                f"version {scheme.version}. Choose an embedding of one version in fit.embeddings."
            )
        self.layer = FitLayer(
            self.model,
            embedding,
            self._settings.stages,
            registry.create("fitter", fitter.name, **fitter.options),
            config.backward,
            self._settings.weighting,
        )
        free = [name for stage in self._settings.stages for name in stage.free]
        self.layout = start_layout(self.model, free, config.focal, config.hidden)
        self._judged = _vertices_of(self.model, config.region)
        self._columns = self.model.columns([group.name for group in self.layout.groups])
        self._functions: dict[tuple[str, torch.device, torch.dtype], LandmarkFunction] = {}

    @property
    def groups(self) -> dict[str, int]:
        """Names and sizes of the model's groups, in the order of its parameter vector."""
        return {group.name: group.size for group in self.model.groups}

    def truth(self, batch: Batch) -> StartPrediction:
        """What the start head ought to say of a batch; coefficients as the model has them."""
        x, camera, side = self._true(batch), batch.camera, batch.side
        pose = seen_pose(self.model, self._function(self.layer.embedding, x), x, camera)
        return StartPrediction(
            x[:, self._columns],
            batch.turn @ pose.rotation,
            to_crop_units(pose.pixel[:, None], batch.matrix)[:, 0],
            (pose.metres_per_pixel * side).log(),
            (camera.focal / side).log() if self.config.focal else None,
        )

    def samples(self, packed: PackedDataset, crop: CropRule, count: int = 512) -> StartPrediction:
        """The truth about some samples, spread evenly over a data set, in crops as in use."""
        rows = np.unique(np.linspace(0, len(packed) - 1, min(count, len(packed))).round().astype(np.int64))
        return self.truth(make_batch(packed, rows, crop, resolution=1))

    def start(self, network: LandmarkNetwork, prediction: StartPrediction, batch: Batch) -> Tensor:
        """Where the fit starts: parameter vectors (B, P) in the frames of the crops' cameras."""
        assert network.start is not None
        mean = np.concatenate([group.prior_mean for group in self.model.groups])
        x = torch.as_tensor(mean).to(prediction.place).repeat(len(batch), 1)
        x[:, self._columns] = network.start.natural(prediction.coefficients)
        camera = _focused(batch, prediction)
        pose = prediction.pose(network.config.resolution)
        return placed(self.model, self._function(self.layer.embedding, x), x, pose, camera)

    def fit(
        self,
        network: LandmarkNetwork,
        distribution: LandmarkDistribution,
        batch: Batch,
        start: Float[Tensor, "batch parameters"] | None,
    ) -> FitResult:
        """Fit what the network says of a batch, in the crops' pixels and cameras.

        Args:
            network: The network.
            distribution: What it says.
            batch: Of which crops.
            start: By default the closed-form start.
        """
        side = network.config.resolution
        with torch.no_grad():
            residual = network.likelihood.deviation()
        scale = distribution.scale * residual * side
        confidence = distribution.confidence
        left_out = confidence < self._settings.min_confidence
        camera = batch.crop_camera
        if network.start is not None and distribution.start is not None:
            camera = _focused(batch, network.start.prediction(distribution.start))
        return self.layer(
            (distribution.mean + 0.5) * side - 0.5,
            torch.where(left_out[..., None], torch.inf, scale),
            camera,
            confidence,
            self._settings.prior_weights,
            start,
        )

    def losses(
        self, network: LandmarkNetwork, distribution: LandmarkDistribution, batch: Batch, fitted: bool
    ) -> dict[str, Tensor]:
        """The weighted losses of a batch: of the start, and if `fitted` of the vertices after the fit.

        Fits that have not converged do not count: there is no minimum that would move with the landmarks.
        """
        assert network.start is not None
        assert distribution.start is not None
        prediction, truth = network.start.prediction(distribution.start), self.truth(batch)
        truth = attrs.evolve(truth, coefficients=network.start.standardised(truth.coefficients))
        terms = {"start": self.config.parameters * start_loss(prediction, truth)}
        if fitted:
            with torch.no_grad():
                start = self.start(network, prediction, batch)
            result = self.fit(network, _guarded(distribution), batch, start)
            errors = self.vertex_errors(result.x, batch).mean(dim=1)
            counted = _converged(result) & errors.isfinite()
            mean = torch.where(counted, errors, 0).sum() / counted.sum().clamp_min(1)
            terms["vertices"] = self.config.vertices * 1e3 * mean
        return terms

    def vertex_errors(
        self, x: Float[Tensor, "batch parameters"], batch: Batch
    ) -> Float[Tensor, "batch vertices"]:
        """Distances (B, V) of the judged vertices to the true ones, metres, both about their own mean.

        Where they are is left out: distance and focal length are hardly told apart in a picture.

        Args:
            x: Parameter vectors in the frames of the crops' cameras.
            batch: That knows the truth.
        """
        function = self._function(self._judged, x)
        own, true = function.points(x), function.points(self._true(batch)) @ batch.turn.mT
        return ((own - own.mean(1, keepdim=True)) - (true - true.mean(1, keepdim=True))).norm(dim=-1)

    @torch.no_grad()
    def evaluate(self, network: LandmarkNetwork, batches: Iterable[Batch]) -> dict[str, float]:
        """Vertex errors before and after the fit, and how fits end, over all crops.

        - `start_mm`, `fit_mm`: medians over the crops of the mean `vertex_errors` where the fit starts and
          where it ends, millimetres.
        - `fit_converged`: share of the fits that converge.
        - `fit_iterations`: mean number of iterations.
        """
        training, device = network.training, next(network.parameters()).device
        network.eval()
        rows: list[Tensor] = []
        for batch in batches:
            batch = batch.to(device)
            distribution = network(batch.images)
            assert network.start is not None
            assert distribution.start is not None
            start = self.start(network, network.start.prediction(distribution.start), batch)
            result = self.fit(network, distribution, batch, start)
            columns = [self.vertex_errors(x, batch).mean(dim=1) for x in (start, result.x)]
            columns += [_converged(result).to(start), result.iterations.to(start)]
            rows.append(torch.stack(columns, dim=1).double().cpu())
        network.train(training)
        table = torch.cat(rows)
        start_mm, fit_mm = (1e3 * table[:, :2].nanmedian(dim=0)[0]).tolist()
        converged, iterations = table[:, 2:].mean(dim=0).tolist()
        return {
            "start_mm": start_mm,
            "fit_mm": fit_mm,
            "fit_converged": converged,
            "fit_iterations": iterations,
        }

    def _true(self, batch: Batch) -> Float[Tensor, "batch parameters"]:
        """The true parameter vectors, in the frames of the cameras of the data set's pictures."""
        assert batch.model is not None
        return batch.model.parameters

    def _function(self, embedding: LandmarkEmbedding, like: Tensor) -> LandmarkFunction:
        """The points of an embedding; made once for each device and dtype."""
        key = (embedding.scheme.name, like.device, like.dtype)
        if key not in self._functions:
            self._functions[key] = self.model.landmarks(embedding, like)
        return self._functions[key]


def _vertices_of(model: ParametricModel, region: str) -> LandmarkEmbedding:
    """The vertices of a region, or all, as an embedding."""
    topology = model.topology
    if region and region not in topology.regions:
        known = ", ".join(topology.regions) or "none"
        raise ConfigError(f"fit.region: the model has no region {region!r}; it has {known}.")
    chosen = (topology.regions[region] if region else np.arange(topology.n_vertices)).tolist()
    scheme = LandmarkScheme("judged vertices", [str(vertex) for vertex in chosen])
    return LandmarkEmbedding.of_vertices(scheme, topology.name, chosen)


def _focused(batch: Batch, prediction: StartPrediction) -> Camera:
    """The crops' cameras, with the predicted focal length if there is one."""
    camera = batch.crop_camera
    if prediction.log_focal is None:
        return camera
    return attrs.evolve(camera, focal=prediction.log_focal.exp() * batch.images.shape[-1])


def _converged(result: FitResult) -> Bool[Tensor, " batch"]:
    own = [status is FitStatus.CONVERGED for status in result.status]
    return torch.tensor(own, device=result.x.device)


def _guarded(distribution: LandmarkDistribution) -> LandmarkDistribution:
    """The same distribution; an item whose gradient is not finite passes none back.

    Near a saddle of its cost a fit has no derivative that means anything.
    """
    values = {}
    for name in ("mean", "log_scale", "start"):
        value = getattr(distribution, name).clone()
        if value.requires_grad:
            value.register_hook(_finite_items)
        values[name] = value
    return attrs.evolve(distribution, **values)


def _finite_items(gradient: Tensor) -> Tensor:
    finite = gradient.flatten(1).isfinite().all(dim=1)
    return torch.where(finite.view(-1, *[1] * (gradient.ndim - 1)), gradient, 0.0)
