"""Fit the face in a photograph, write the mesh and the overlay, print what the face does.

python examples/fit_a_face.py [PHOTO] [FOLDER]
"""

import sys
from pathlib import Path

import partfit
from partfit.meshes import write_mesh
from partfit.results import overlay_image


def main(photo: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (result,) = partfit.fit(photo)
    overlay_image(result).save(folder / "overlay.png")
    for k, face in enumerate(result):
        write_mesh(folder / f"face-{k}.glb", face.vertices, face.faces)
        expression = face.parameters["expression"]
        names = face.model.group("expression").names
        strongest = sorted(zip(expression, names, strict=True), reverse=True)[:5]
        print(f"face {k}: {face.status},", ", ".join(f"{name} {value:.2f}" for value, name in strongest))


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    defaults = [Path(__file__).parent / "astronaut.jpg", Path("results")]
    main(*given, *defaults[len(given) :])
