"""Write the measured part of partfit-dense's card, plugins/partfit-dense/README.md.

    python benchmarks/dense.py LABELS.json > FIGURES/dense.json
    python benchmarks/faces.py LABELS.json --landmarker partfit-dense > FIGURES/fits.json
    python benchmarks/faces.py LABELS.json > FIGURES/default.json
    python benchmarks/dense_card.py [--readme FILE]

The first three print figures, FIGURES being plugins/partfit-dense/training/figures; what the training itself
reports lies beside that.
"""

import argparse
import json
import textwrap
from pathlib import Path

PLUGIN = Path(__file__).parents[1] / "plugins" / "partfit-dense"
MARK = "<!-- measured -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readme", type=Path, default=PLUGIN / "README.md")
    readme = parser.parse_args().readme
    dense, fits, default = (read(f"figures/{name}.json") for name in ("dense", "fits", "default"))
    lines = [
        *training_lines(read("report.json")),
        *render_lines(dense["renders"]),
        *photograph_lines(dense["photographs"], fits["faces"]),
        *fit_lines(fits, default),
    ]
    head = readme.read_text(encoding="utf-8").partition(MARK)[0]
    readme.write_text(head + MARK + "\n".join(lines) + "\n", encoding="utf-8")


def read(name: str) -> dict:
    return json.loads((PLUGIN / "training" / name).read_text(encoding="utf-8"))


def training_lines(report: dict) -> list[str]:
    config, network = report["config"], report["network"]
    weights = sum(network["parameters"].values()) / 1e6
    train, val = (config["data"][name]["options"] for name in ("train", "val"))
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [
        "",
        "### Training",
        "",
        paragraph(
            f"{report['data']['train']['samples']} renders of seed {train['seed']}, validated on",
            f"{report['data']['val']['samples']} of seed {val['seed']}; {report['samples']} samples in",
            f"batches of {config['run']['batch_size']}, seed {config['run']['seed']};",
            f"{report['seconds'] / 3600:.1f} hours on two cores, rendering not counted.",
            f"{weights:.1f} million weights. Versions: {versions}.",
        ),
    ]


def render_lines(figures: dict) -> list[str]:
    return [
        "",
        "### On renders that it never saw",
        "",
        paragraph(
            f"Mean error {100 * figures['error_box']:.2f} % of the box, {figures['error_px']:.2f} px of the",
            f"crop. Errors over calibrated scales {figures['rms_z']:.3f} (root mean square; 1 is ideal) and",
            f"{figures['robust_z']:.3f} (median). Area under the ROC curve of the visibility inside one",
            f"picture {figures['visibility_auc']:.3f}.",
        ),
    ]


def photograph_lines(looks: dict, faces: int) -> list[str]:
    """Errors on labelled photographs, and what becomes of them when the detector's regions move."""
    moves = list(next(iter(looks.values())))
    still = moves[0]
    return [
        "",
        "### On labelled photographs",
        "",
        paragraph(
            f"{faces} faces, from the regions of the detector `mediapipe-face`. `error` is the median over",
            "the faces of the mean error of iBUG's inner 51 points in percent of the distance between the",
            "outer corners of the eyes; `rms z` and `robust z` are errors over scales, whose ideal is 1:",
        ),
        "",
        "| way of looking | error, % | rms z | robust z |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {rows[still]['inner51_interocular']:.2f} | {rows[still]['rms_z']:.2f} | "
            f"{rows[still]['robust_z']:.2f} |"
            for name, rows in looks.items()
        ),
        "",
        paragraph(
            "The same errors when regions are shifted and scaled at random, by multiples of the spread that",
            "was found between the detector's regions and the boxes of renders:",
        ),
        "",
        "| way of looking | "
        + " | ".join(move.removeprefix("regions moved by ").replace("deviations", "times") for move in moves)
        + " |",
        "| --- |" + " ---: |" * len(moves),
        *(
            f"| {name} | " + " | ".join(f"{rows[move]['inner51_interocular']:.2f}" for move in moves) + " |"
            for name, rows in looks.items()
        ),
    ]


def fit_lines(fits: dict, default: dict) -> list[str]:
    """Fits to these landmarks beside those to MediaPipe's."""
    rows = {"`partfit-dense`": fits, "`mediapipe-face`, the default": default}
    return [
        "",
        "### Fits",
        "",
        paragraph(
            "Of the Anny head to the landmarks, on the same faces: the same error of landmarks and of the",
            "fitted mesh, and the root mean square of the identity's coefficients in standard deviations:",
        ),
        "",
        "| landmarker | found | landmarks, % | fit, % | identity |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {row['found']} | {row['inner51_interocular']['network']:.2f} | "
            f"{row['inner51_interocular']['fit']:.2f} | {row['betas_rms']:.2f} |"
            for name, row in rows.items()
        ),
    ]


def paragraph(*parts: str) -> str:
    return textwrap.fill(" ".join(parts), 124)


if __name__ == "__main__":
    main()
