"""Write the default head with a few of its 52 expressions, as one .glb each.

python examples/expressions.py [FOLDER]
"""

import sys
from pathlib import Path

import torch

import partfit
from partfit.meshes import write_mesh

SHOWN = {
    "neutral": {},
    "smile": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    "surprise": {"jawOpen": 0.7, "browInnerUp": 1.0, "eyeWideLeft": 1.0, "eyeWideRight": 1.0},
    "wink": {"eyeBlinkLeft": 1.0},
}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = partfit.create("model", "anny-head")
    names = model.group("expression").names
    for title, weights in SHOWN.items():
        expression = torch.zeros(1, len(names))
        for name, weight in weights.items():
            expression[0, names.index(name)] = weight
        x = model.pack({"expression": expression}, like=expression)
        path = folder / f"{title}.glb"
        write_mesh(path, model.vertices(x)[0].numpy(), model.topology.faces, frame="model")
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
