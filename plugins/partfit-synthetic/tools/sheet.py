"""Write a sheet of samples, to look at: python tools/sheet.py SHEET.png --count 40 [--landmarks]."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import partfit
from partfit.learning.datasets import Sample

_COLUMNS = 10


def main() -> None:
    """Parse the command line, render, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="anny-head")
    parser.add_argument("--scheme", default="anny-face-dense")
    parser.add_argument("--columns", type=int, default=_COLUMNS)
    parser.add_argument("--landmarks", action="store_true", help="green where visible, red where hidden")
    options = parser.parse_args()
    dataset = partfit.create(
        "dataset",
        "synthetic",
        model={"name": options.model},
        scheme=options.scheme,
        size=options.size,
        seed=options.seed,
        length=options.start + options.count,
    )
    dataset[options.start]
    start = time.process_time()
    samples = [dataset[options.start + k] for k in range(options.count)]
    elapsed = time.process_time() - start
    rows = -(-options.count // options.columns)
    sheet = Image.new("RGB", (options.columns * options.size, rows * options.size))
    for k, sample in enumerate(samples):
        place = (k % options.columns * options.size, k // options.columns * options.size)
        sheet.paste(_tile(sample, options.landmarks), place)
    sheet.save(options.sheet)
    print(f"{1000 * elapsed / options.count:.1f} ms of processor time a sample")


def _tile(sample: Sample, landmarks: bool) -> Image.Image:
    tile = Image.fromarray(sample.image)
    if landmarks and sample.visible is not None:
        pixels = tile.load()
        for (x, y), seen in zip(np.rint(sample.points).astype(int), sample.visible, strict=True):
            if 0 <= x < tile.width and 0 <= y < tile.height:
                pixels[int(x), int(y)] = (60, 230, 60) if seen else (230, 40, 40)
        ImageDraw.Draw(tile).rectangle(sample.box.tolist(), outline=(60, 120, 255))
    return tile


if __name__ == "__main__":
    main()
