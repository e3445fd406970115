"""Write measured figures into benchmarks/README.md.

python benchmarks/table.py SPEED.json FACES.json, where `partfit bench --picture PHOTO --out SPEED.json` wrote
the first file and `python benchmarks/faces.py LABELS.json > FACES.json` the second.
"""

import json
import sys
from pathlib import Path

README = Path(__file__).with_name("README.md")
MARK = "<!-- measured -->\n"


def main(speed_file: Path, faces_file: Path) -> None:
    speed, faces = (json.loads(file.read_text(encoding="utf-8")) for file in (speed_file, faces_file))
    head = README.read_text(encoding="utf-8").partition(MARK)[0]
    README.write_text(head + MARK + "\n".join([*speed_lines(speed), *faces_lines(faces)]), encoding="utf-8")


def speed_lines(report: dict) -> list[str]:
    machine, gemm, after = report["machine"], report["gemm_before"], report["gemm_after"]
    batches = sorted({row["batch"] for row in report["fit"]})
    cells = {(row["landmarks"], row["batch"]): row for row in report["fit"]}
    picture = report["picture"]
    width, height = picture["size"]
    return [
        "\n## Speed\n",
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}.",
        f"A float32 product of two {gemm['side']} x {gemm['side']} matrices took {gemm['ms']:.1f} ms",
        f"({gemm['gflops']:.0f} GFLOP/s) before and {after['ms']:.1f} ms after the other figures.\n",
        "Both stages of a fit, milliseconds an item (best of several):\n",
        "| landmarks x parameters | " + " | ".join(f"batch {batch}" for batch in batches) + " |",
        "| --- |" + " ---: |" * len(batches),
        *(
            f"| {landmarks} x {cells[landmarks, batches[0]]['parameters']} | "
            + " | ".join(f"{cells[landmarks, batch]['ms_an_item']['both_stages']:.1f}" for batch in batches)
            + " |"
            for landmarks in sorted({row["landmarks"] for row in report["fit"]})
        ),
        f"\nFrom a JPEG file of {width} x {height} pixels, faces: {picture['instances']},",
        "to vertices, warm, milliseconds: "
        + ", ".join(f"{name} {value:.1f}" for name, value in picture["ms"].items())
        + ".\n",
        f"`import partfit`: {report['import_cpu_s']:.3f} s of CPU.",
    ]


def faces_lines(report: dict) -> list[str]:
    errors = report["error_percent_of_box"]
    return [
        "\n## Accuracy\n",
        f"{report['found']} of {report['faces']} labelled faces found, detections: {report['detected']}.",
        "Mean distance from the labels in percent of the box of the labelled points:\n",
        "| points | network | fit | ratio |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {row['network']:.2f} | {row['fit']:.2f} | {row['ratio']:.3f} |"
            for name, row in errors.items()
        ),
        "",
    ]


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
