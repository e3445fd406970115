"""Data in the format of DAD-3DHeads, made by hand from its description: nothing of the plugin writes it."""

import json

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 64, 48


def perspective(focal, center_x, center_y):
    """OpenGL's perspective times its viewport, as one matrix to pixels: y up, from the bottom-left corner."""
    return np.array(
        [
            [focal, 0.0, -center_x, 0.0],
            [0.0, focal, -center_y, 0.0],
            [0.0, 0.0, -1.002, -0.2],
            [0.0, 0.0, -1.0, 0.0],
        ]
    )


class Folder:
    """A data set on the disk whose files a test may change."""

    def __init__(self, root, vertices=12):
        self.root = root
        self.n_vertices = vertices
        self.lists = {}

    def add(self, split, name, *, annotation=None, **entry):
        rng = np.random.default_rng(sum(name.encode()))
        folder = self.root / split
        for part in ("images", "annotations"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        model_view = np.eye(4)
        model_view[:3, :3], model_view[:3, 3] = 2.5 * turn * np.linalg.det(turn), [0.02, -0.03, -3.0]
        content = {
            "vertices": rng.uniform(-0.1, 0.1, (self.n_vertices, 3)).tolist(),
            "model_view_matrix": model_view.tolist(),
            "projection_matrix": perspective(150.0, 30.0, 25.0).tolist(),
            **(annotation or {}),
        }
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
        self.lists.setdefault(split, []).append(
            {
                "item_id": name,
                "annotation_path": f"{split}/annotations/{name}.json",
                "img_path": f"{split}/images/{name}.png",
                "bbox": [10, 6, 40, 36],
                "attributes": {"quality": "hq", "standard light": True, "pose": "front", "age": None},
                **entry,
            }
        )
        self.write_list(split)
        return pixels, content

    def write_list(self, split):
        (self.root / split / f"{split}.json").write_text(json.dumps(self.lists[split]))


@pytest.fixture
def make_folder(tmp_path):
    """Makes an empty data set."""

    def make(name="heads", **options):
        return Folder(tmp_path / name, **options)

    return make


@pytest.fixture
def folder(make_folder):
    """Three samples to train on, of heads with 12 vertices."""
    made = make_folder()
    for name in ("one", "two", "three"):
        made.add("train", name)
    return made


@pytest.fixture
def indices(tmp_path):
    """Landmarks 0, 3, 4 and 11."""
    path = tmp_path / "few.txt"
    path.write_text("4 0\n11 3")
    return path
