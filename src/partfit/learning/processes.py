"""Work that processes share."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from partfit.errors import InputError


def done_by_processes(work: Callable[[int], int], items: Sequence[int], workers: int) -> Iterator[int]:
    """Call `work` with each item, and yield what it returns as soon as it does.

    Args:
        work: Picklable; each process is sent it once. An exception of it ends all.
        items: What it is called with.
        workers: How many processes, each with one thread. With 1 this process does the work, in order.

    Raises:
        InputError: if a process ends early, killed for want of memory for example.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("spawn")  # forking a process in which torch runs threads may hang
    with (
        _one_thread_in_children(),
        ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(work,)) as pool,
    ):
        try:
            for future in as_completed([pool.submit(_work, item) for item in items]):
                yield future.result()
        except BrokenProcessPool as error:
            raise InputError(
                "A process that reads samples ended early, perhaps for want of memory. Try fewer workers; "
                "what is done is kept."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextlib.contextmanager
def _one_thread_in_children() -> Iterator[None]:
    """Processes that are started meanwhile use one thread for linear algebra."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


_worker_work: Callable[[int], int] | None = None


def _start_worker(work: Callable[[int], int]) -> None:
    global _worker_work
    _worker_work = work
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone, killed for example."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(item: int) -> int:
    if _worker_work is None:
        raise RuntimeError("The worker was not started by `done_by_processes`.")
    return _worker_work(item)
