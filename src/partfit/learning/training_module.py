"""The network and its losses as Lightning trains them."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler

from partfit.errors import PartfitError
from partfit.learning.batches import Batch, TrainingBatches, seeded
from partfit.learning.fit_task import FitTask
from partfit.learning.losses import LossModule
from partfit.learning.networks import LandmarkNetwork
from partfit.learning.training_config import ScheduleConfig, TrainConfig

#: What a stream of random numbers inside the network is for, so that none is one of the data's.
_NETWORK = 16
#: Steps over which a moving average forgets its beginning.
_AVERAGE_WARMUP = 10.0


class TrainingError(PartfitError):
    """A run cannot go on; its state is kept."""


class TrainingModule(LightningModule):
    """The network and its losses as Lightning trains them.

    Attributes:
        network: Trained, its likelihood with it.
        losses: The further ones; their parameters, if any, are trained too.
        fit: The fit that the network learns to start, or None.
        average: The moving average of the network, or None.
        total: Steps of the whole run.
        window: What is averaged into the next row of the curves.
        seconds: That training has taken so far, evaluations included.
        metrics: Of the last evaluation.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: LandmarkNetwork,
        losses: Iterable[LossModule],
        batches: TrainingBatches,
        fit: FitTask | None = None,
    ) -> None:
        """Train `network` with its likelihood, `losses` in the configuration's order, and a fit."""
        super().__init__()
        self.config = config
        self.network = network
        self.losses = nn.ModuleList(losses)
        self.batches = batches
        self.fit = fit
        self.total = config.run.total_steps(len(batches))
        self.average: ModelEmaV3 | None = None
        if config.optimizer.ema > 0:
            self.average = ModelEmaV3(
                self.network,
                config.optimizer.ema,
                use_warmup=True,
                warmup_gamma=_AVERAGE_WARMUP,
                warmup_power=1.0,
            ).requires_grad_(False)
        self.window = Window()
        self.seconds = 0.0
        self.metrics: dict[str, float] = {}
        self._samples: tuple[str, ...] = ()

    @property
    def best(self) -> LandmarkNetwork:
        """What is evaluated and kept: the averaged network if there is one."""
        return self.network if self.average is None else self.average.module

    def train_dataloader(self) -> DataLoader[Batch]:
        """The batches of the steps that are left."""
        steps = _Steps(self.global_step, self.total, self.global_rank, self.trainer.world_size)
        return DataLoader(
            self.batches,
            batch_size=None,
            sampler=steps,
            num_workers=self.config.data.workers,
            worker_init_fn=_ignore_interrupts,
        )

    def configure_optimizers(self) -> Any:
        """The optimiser and the schedule of its rate, step by step."""
        config = self.config.optimizer
        decayed, others = self._parameters_by_decay()
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
        optimizer = kind(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.rate,
            fused=self.config.run.precision != "16-mixed",  # gradient scaling cannot do with it
        )
        schedule = LambdaLR(optimizer, lambda step: rate_factor(self.config.schedule, step, self.total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _parameters_by_decay(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The parameters that weight decay is for, and the others.

        The first are the weights of linear maps and convolutions; not what is called otherwise (tables of
        positions, the mean shape of a head), nor what timm says of its model.
        """
        kept: set[str] = set()
        if callable(names := getattr(self.network.backbone.model, "no_weight_decay", None)):
            kept = {f"network.backbone.model.{name}" for name in names()}
        decayed: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                is_weight = parameter.ndim > 1 and name.endswith("weight") and name not in kept
                (decayed if is_weight else others).append(parameter)
        return decayed, others

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch: the likelihood's and the weighted further ones."""
        stream = (self.config.run.seed, _NETWORK, self.global_step, self.global_rank)
        torch.manual_seed(seeded(*stream).initial_seed())
        distribution = self.network(batch.images)
        with torch.autocast(batch.images.device.type, enabled=False):
            terms = {"nll": self.network.likelihood(distribution, batch.targets)}
            for term, module in zip(self.config.losses, self.losses, strict=True):
                terms[term.name] = term.weight * module(distribution, batch.targets)
            if self.fit is not None:
                terms |= self.fit.losses(self.network, distribution, batch, self._fitted(self.fit))
        loss = torch.stack(list(terms.values())).sum()
        values = {name: value.item() for name, value in {"loss": loss, **terms}.items()}
        self._samples = batch.ids
        self._require_finite("loss", values["loss"])
        self.window.add(values)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def _fitted(self, fit: FitTask) -> bool:
        """Whether the step in progress learns through the fit."""
        return fit.config.vertices > 0 and self.global_step >= fit.config.warmup * self.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measure the gradient, and shorten it if it is too long."""
        parameters = [parameter for parameter in self.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(p.grad for p in parameters if p.grad is not None)
        if self.config.run.precision != "16-mixed":  # whose scaler leaves out steps that are not finite
            self._require_finite("gradient", norm.item())
        if self.config.optimizer.clip > 0:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.config.optimizer.clip, norm)
        self.window.add({"gradient": norm.item()})

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Take the step, and let the average follow."""
        rate = optimizer.param_groups[0]["lr"]
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.window.add({"rate": rate})
        if self.average is not None:
            self.average.update(self.network, self.global_step + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put into a state what only this module knows."""
        checkpoint["partfit"] = {
            "window": self.window.sums,
            "seconds": self.seconds,
            "metrics": self.metrics,
            "samples": len(self.batches.packed),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it from there again."""
        own = checkpoint["partfit"]
        if own["samples"] != len(self.batches.packed):
            raise TrainingError(
                f"This run began with {own['samples']} usable samples of training data, now there are "
                f"{len(self.batches.packed)}: it would not be the same. Begin a new run, in another folder."
            )
        self.window = Window(own["window"])
        self.seconds, self.metrics = own["seconds"], own["metrics"]

    def _require_finite(self, what: str, value: float) -> None:
        finite = math.isfinite(value)
        if self.trainer.strategy.reduce_boolean_decision(finite):
            return
        samples = ", ".join(self._samples)
        found = "another in another process" if finite else f"{value}, on the samples {samples}"
        raise TrainingError(
            f"Step {self.global_step + 1}: expected a finite {what}, found {found}. The states before are "
            "kept. A lower optimizer.rate, or optimizer.clip, may help."
        )


class Window:
    """Means of the values of the steps since the last row of the curves.

    Attributes:
        sums: For each name the sum of its values and how many there were.
    """

    def __init__(self, sums: Mapping[str, list[float]] | None = None) -> None:
        self.sums = {name: list(pair) for name, pair in (sums or {}).items()}

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of a step."""
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, count + 1]

    def take(self) -> dict[str, float]:
        """The means; the window is empty afterwards."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means


class _Steps(Sampler[int]):
    """The batches of a process in the steps from `first` on; its length is that of the whole run."""

    def __init__(self, first: int, total: int, rank: int, processes: int) -> None:
        self._steps = range(first, total)
        self._total, self._rank, self._processes = total, rank, processes

    def __iter__(self) -> Iterator[int]:
        return (step * self._processes + self._rank for step in self._steps)

    def __len__(self) -> int:
        return self._total  # Lightning counts those that are done already


def rate_factor(config: ScheduleConfig, step: int, total: int) -> float:
    """What the learning rate is multiplied with in a step 0..total-1."""
    done = step / total
    if done < config.warmup:
        return (step + 1) / (config.warmup * total + 1)
    if config.name == "cosine":
        phase = (done - config.warmup) / (1 - config.warmup) if config.warmup < 1 else 1.0
        return config.final + (1 - config.final) * (1 + math.cos(math.pi * phase)) / 2
    if config.name == "steps":
        return config.factor ** sum(done >= share for share in config.at)
    return 1.0


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the process that trains, which still needs its batches for the step in progress."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
