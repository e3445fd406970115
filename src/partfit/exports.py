"""One fitted part as a file for other programs: mesh, rigged mesh, arrays or table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from partfit.files import atomic_write
from partfit.gltf import write_rig
from partfit.meshes import Frame, write_mesh
from partfit.models.skinning import SkinnedModel
from partfit.pipeline import ImageResult, Instance


def export_instance(path: Path, result: ImageResult, number: int, frame: Frame) -> None:
    """Write a fitted part; the path's suffix chooses what, one of `partfit.files.RESULT_FORMATS`.

    - `obj`, `ply`: the posed mesh.
    - `glb`: the rig of a skinned model (`partfit.gltf.write_rig`), the posed mesh of any other.
    - `npz`: arrays, in the axes of `frame` itself (the camera frame is y down, z forward). Names are those of
      the JSON file, joined by a slash: `parameters/betas` and so on, `camera/focal`, `camera/principal`,
      `names/expression` (of the coefficients that have names), `image_size`, `part`, `side` (empty without
      one), `image`, `model`, `status`, `frame`. Then `vertices` (V, 3), `faces` (F, 3) and, of a skinned
      model, `joints` (J, 3).
    - `csv`: a header and one row: picture, number of the instance, and the coefficients that have names:
      expression weights of a face, angles of a hand in radians.

    Args:
        path: The file; it is replaced as a whole, or not at all.
        result: What was found in a picture.
        number: Which of its instances; the fit of that has not failed.
        frame: `camera`, or `model`: without the rigid motion.

    Raises:
        InputError: if the suffix is unknown.
        OutputError: if the file cannot be written.
    """
    assert result.picture is not None
    instance, image = result[number], result.picture.source
    model, suffix = instance.model, path.suffix
    if suffix == ".csv":
        _write_table(path, instance, image, number)
    elif suffix == ".npz":
        _write_arrays(path, instance, image, frame)
    elif suffix == ".glb" and isinstance(model, SkinnedModel):
        write_rig(path, model, instance.result.x[instance.index], instance.camera, frame)
    else:
        vertices = instance.vertices if frame == "camera" else instance.vertices_model_frame
        write_mesh(path, vertices, instance.faces, frame)


def _write_table(path: Path, instance: Instance, image: str, number: int) -> None:
    named = {
        name: str(value)
        for group, names in instance.parameter_names.items()
        for name, value in zip(names, instance.parameters[group], strict=True)
    }
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "instance", *named])
        writer.writerow([image, number, *named.values()])


def _write_arrays(path: Path, instance: Instance, image: str, frame: Frame) -> None:
    model, camera, x = instance.model, instance.camera, instance.result.x[instance.index, None]
    x = x if frame == "camera" else model.without_rigid_motion(x)
    arrays: dict[str, Any] = {f"parameters/{name}": value for name, value in instance.parameters.items()}
    arrays |= {f"names/{group}": np.array(names) for group, names in instance.parameter_names.items()}
    texts = {
        "part": instance.part,
        "side": instance.side or "",
        "image": image,
        "model": instance.pipeline.component_names["model"],
        "status": str(instance.status),
        "frame": frame,
    }
    arrays |= {name: np.array(text) for name, text in texts.items()}
    arrays |= {
        "camera/focal": camera.focal[0].cpu().numpy(),
        "camera/principal": camera.principal[0].cpu().numpy(),
        "image_size": camera.size[0].cpu().numpy().astype(np.int64),
        "vertices": model.vertices(x)[0].cpu().numpy(),
        "faces": instance.faces,
    }
    if isinstance(model, SkinnedModel):
        arrays["joints"] = model.joints(x)[0].cpu().numpy()
    with atomic_write(path) as temporary:
        np.savez(temporary, **arrays)
