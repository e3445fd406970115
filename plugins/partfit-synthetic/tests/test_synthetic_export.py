"""Samples written in the format of DAD-3DHeads and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import partfit

writing = pytest.importorskip("partfit_dad3dheads.writing")


def test_heads_are_read_back_as_they_were_written(tmp_path: Path):
    heads = partfit.create("dataset", "synthetic", size=64, length=4, seed=3)
    embedding = partfit.default_registry().create("embedding", "anny-head/anny-face-dense")
    writing.write_dataset(heads, tmp_path, "train")
    np.savetxt(tmp_path / "points.txt", np.unique(embedding.indices), fmt="%d")
    options = {"topology": "anny-head", "indices": tmp_path / "points.txt"}
    read = partfit.create("dataset", "dad3dheads", root=tmp_path, split="train", **options)
    assert len(read) == len(heads)
    for one, other in ((heads[i], read[i]) for i in range(len(heads))):
        x, y, z = embedding.apply(other.vertices).T
        (f, _, cx), (_, g, cy), _ = one.intrinsics
        np.testing.assert_allclose(np.stack([f * x / z + cx, g * y / z + cy], 1), one.points, atol=1e-3)
        x, y, z = one.vertices[np.unique(embedding.indices)].T
        np.testing.assert_allclose(other.points, np.stack([f * x / z + cx, g * y / z + cy], 1), atol=1e-3)
        np.testing.assert_allclose(other.box, one.box, atol=1e-3)
        assert np.array_equal(other.image, one.image)
        for name in ("expression", "pose"):
            assert other.attributes[name] == one.attributes[name]
            assert one.attributes[name] in writing.ATTRIBUTES[name]
        assert other.attributes["occlusions"] == one.occlusion.any()
