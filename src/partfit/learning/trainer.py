"""The steps of a training run, on Lightning, and what happens between them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from partfit.learning.batches import Batch, EvaluationBatches
from partfit.learning.curves import Curves
from partfit.learning.evaluation import evaluate
from partfit.learning.networks import LandmarkNetwork
from partfit.learning.pictures import draw_samples
from partfit.learning.runs import CONFIG_FILE
from partfit.learning.states import latest_state, save_state
from partfit.learning.training_module import TrainingError, TrainingModule

#: Crops shown with their predictions.
_SHOWN = 8


class TrainingInterruptedError(TrainingError):
    """A run was asked to stop; its state is saved."""


def is_first() -> bool:
    """Whether this process is the first of those that train together, by what their launcher says.

    Lightning counts the processes of all machines once they are connected; before that, and where no launcher
    numbers them all, those of each machine.
    """
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"


def take_steps(
    module: TrainingModule, val_batches: EvaluationBatches, out: Path, device: torch.device
) -> None:
    """Take the steps that are left, and write curves and states into a folder.

    Raises:
        TrainingError: if a loss or a gradient is not finite.
        TrainingInterruptedError: after Ctrl-C or SIGTERM; the state is saved.
        OutputError: if the folder cannot be written.
    """
    watch = _Watch(module, val_batches, out)
    with contextlib.closing(watch), _quiet(), _asking_to_stop(watch):
        trainer = Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=module.config.run.devices if device.index is None else [device.index],
            num_nodes=module.config.run.nodes,
            strategy=module.config.run.strategy,
            precision=module.config.run.precision,
            max_steps=module.total,
            max_epochs=-1,
            callbacks=[watch],
            default_root_dir=out,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            use_distributed_sampler=False,
        )
        trainer.fit(module, ckpt_path=latest_state(out / "state"), weights_only=True)


class _Watch(Callback):
    """What happens between steps: rows of the curves, evaluations, states, and the end after a signal."""

    def __init__(self, module: TrainingModule, val_batches: EvaluationBatches, out: Path) -> None:
        self._run, self._total = module.config.run, module.total
        self._val_batches, self._out = val_batches, out
        self._curves: Curves | None = None
        self._since = time.monotonic()
        self.asked_to_stop = False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Open the curves, after a state was loaded."""
        self._since = time.monotonic()
        if trainer.is_global_zero:
            self._curves = Curves(self._out, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See the class; the state comes last, so that it holds all that came before."""
        assert isinstance(module, TrainingModule)
        step, last = trainer.global_step, trainer.global_step == self._total
        if step % self._run.log_every == 0 or last:
            self._add(step, "train", module.window.take())
        if last or (self._run.validate_every and step % self._run.validate_every == 0):
            self._validate(trainer, module, step)
        stop = trainer.strategy.reduce_boolean_decision(self.asked_to_stop, all=False)
        if step % self._run.save_every == 0 or last or stop:
            now = time.monotonic()
            module.seconds, self._since = module.seconds + now - self._since, now
            save_state(self._out / "state", trainer)
        if stop and not last:
            raise TrainingInterruptedError(
                f"Stopped after step {step} of {self._total}; its state is saved. To go on: "
                f"partfit train {self._out / CONFIG_FILE} --out {self._out} --resume"
            )

    def _add(self, step: int, curve: str, values: Mapping[str, float]) -> None:
        if self._curves is not None:
            self._curves.add(step, curve, values)

    def _validate(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        if self._curves is not None:
            module.metrics = evaluate(module.best, self._val_batches.on(module.device))
            if module.fit is not None:
                module.metrics |= module.fit.evaluate(module.best, self._val_batches.on(module.device))
            self._curves.add(step, "validation", module.metrics)
            self._curves.show(step, _samples(module.best, self._val_batches[0].to(module.device)))
        trainer.strategy.barrier()

    def close(self) -> None:
        """Close the curves."""
        if self._curves is not None:
            self._curves.close()


@torch.no_grad()
def _samples(network: LandmarkNetwork, batch: Batch) -> np.ndarray:
    """Some crops of a batch with their predictions."""
    training = network.training
    network.eval()
    images = batch.images[:_SHOWN]
    picture = draw_samples(images, network(images))
    network.train(training)
    return picture


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning says about itself, and its advice that does not fit here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*dataloader is not resumable.*",  # ours begins at the step of the state
            ".*available but not used.*",
            ".*in eval mode at the start.*",  # the average
            ".*treespec, LeafSpec.*",  # of its own tree walks, to torch
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def _asking_to_stop(watch: _Watch) -> Iterator[None]:
    """Ctrl-C and SIGTERM end training after the step in progress; the second time, Ctrl-C ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def ask(number: int, frame: Any) -> None:
        if watch.asked_to_stop:
            raise KeyboardInterrupt
        watch.asked_to_stop = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
