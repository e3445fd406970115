"""How fast the data set `synthetic` renders: pictures a second, and processor time a picture on one core.

    python benchmarks/rendering.py [--count 60] [--workers 2]

Pictures a second are those of so many worker processes, each on one core, once all have built the model and
rendered a picture. Prints JSON, a block for each side of the pictures.
"""

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier

# before numerical libraries start their threads: a worker is meant to fill one core
os.environ["OMP_NUM_THREADS"] = "1"

import partfit

SIDES = (128, 256)

_ready: Barrier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="pictures a worker")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    result = {str(side): measure(side, arguments.count, arguments.workers) for side in SIDES}
    print(json.dumps({"count": arguments.count, "workers": arguments.workers, "sides": result}, indent=1))


def measure(side: int, count: int, workers: int) -> dict[str, float]:
    """Pictures a second of all workers together, and processor milliseconds a picture of a single one."""
    return {
        "pictures a second": workers * count / max(wall for wall, _ in at_once(side, count, workers)),
        "processor ms a picture": 1e3 * at_once(side, count, 1)[0][1] / count,
    }


def at_once(side: int, count: int, workers: int) -> list[tuple[float, float]]:
    """Wall and processor seconds of each of so many workers that render at the same time."""
    context = multiprocessing.get_context("spawn")
    ready = (context.Barrier(workers),)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=share, initargs=ready) as pool:
        firsts = range(0, workers * count, count)
        return list(pool.map(render, [side] * workers, firsts, [count] * workers))


def share(ready: Barrier) -> None:
    """Keep, in a worker, what all of them wait at."""
    global _ready
    _ready = ready


def render(side: int, first: int, count: int) -> tuple[float, float]:
    """Wall and processor seconds of `count` pictures from `first` on, all workers starting together."""
    dataset = partfit.create("dataset", "synthetic", size=side, length=first + count)
    dataset[first]
    _ready.wait()
    wall, processor = time.perf_counter(), time.process_time()
    for index in range(first, first + count):
        dataset[index]
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
