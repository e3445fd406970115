"""Write measured figures into benchmarks/README.md.

python benchmarks/table.py SPEED.json MODELS.json FACES.json HANDS.json CALIBRATION.json: `partfit bench
--picture PHOTO --out SPEED.json` wrote the first file, and the standard output of `models.py`, `faces.py`,
`hands.py` and `calibration.py` is the others.
"""

import json
import sys
from pathlib import Path

README = Path(__file__).with_name("README.md")
MARK = "<!-- measured -->\n"


def main(*files: Path) -> None:
    speed, models, faces, hands, calibration = (
        json.loads(file.read_text(encoding="utf-8")) for file in files
    )
    lines = [
        *speed_lines(speed),
        *models_lines(models),
        *faces_lines(faces),
        *hands_lines(hands),
        *calibration_lines(calibration),
    ]
    head = README.read_text(encoding="utf-8").partition(MARK)[0]
    README.write_text(head + MARK + "\n".join(lines), encoding="utf-8")


def speed_lines(report: dict) -> list[str]:
    machine, gemm, after = report["machine"], report["gemm_before"], report["gemm_after"]
    picture = report["picture"]
    width, height = picture["size"]
    return [
        "\n## Speed\n",
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}.",
        f"A float32 product of two {gemm['side']} x {gemm['side']} matrices took {gemm['ms']:.1f} ms",
        f"({gemm['gflops']:.0f} GFLOP/s) before and {after['ms']:.1f} ms after the other figures.\n",
        "Both stages of a fit, milliseconds an item (best of several):\n",
        *fit_table(report["fit"], "both_stages"),
        "\nOf these, landmarks and their Jacobian by all parameters, once:\n",
        *fit_table(report["fit"], "jacobian"),
        "\nThe whole fit over the products that no iteration can do without, the same number of times: those",
        "that form J, J^T J, J^T r, and Cholesky's factorisation and solution:\n",
        *fit_table(report["fit"], "over_products"),
        *(fitters_lines(report["fitters"]) if "fitters" in report else []),
        f"\nFrom a JPEG file of {width} x {height} pixels, faces: {picture['instances']},",
        "to vertices, warm, milliseconds: "
        + ", ".join(f"{name} {value:.1f}" for name, value in picture["ms"].items())
        + ".\n",
        f"`import partfit`: {report['import_cpu_s']:.3f} s of CPU.",
    ]


def fitters_lines(report: dict) -> list[str]:
    """Theseus beside `lm`."""
    names = {
        "lm": "`lm`",
        "closed_form": "Theseus, closed form",
        "autodiff": "Theseus, autodiff",
        "autodiff_thesis": "Theseus, autodiff, the thesis' settings",
    }
    return [
        f"\n{report['landmarks']} landmarks x {report['parameters']} parameters, one face, the same start:\n",
        "| fitter | ms | iterations |",
        "| --- | ---: | ---: |",
        *(
            f"| {name} | {report['ms'][key]:.1f} | {report['iterations'][key]} |"
            for key, name in names.items()
        ),
        "",
        *(
            f"{names[fitter]} is {ratio:.0f} times as fast as {names[base]}."
            for base, row in report["times_as_fast"].items()
            for fitter, ratio in row.items()
        ),
    ]


def fit_table(rows: list[dict], figure: str) -> list[str]:
    """One figure of the fits, sizes down, batches across."""
    batches = sorted({row["batch"] for row in rows})
    cells = {
        (row["landmarks"], row["parameters"], row["batch"]): (row | row["ms_an_item"])[figure] for row in rows
    }
    sizes = sorted({(row["landmarks"], row["parameters"]) for row in rows})
    return [
        "| landmarks x parameters | " + " | ".join(f"batch {batch}" for batch in batches) + " |",
        "| --- |" + " ---: |" * len(batches),
        *(
            f"| {landmarks} x {parameters} | "
            + " | ".join(f"{cells[landmarks, parameters, batch]:.1f}" for batch in batches)
            + " |"
            for landmarks, parameters in sizes
        ),
    ]


def models_lines(report: dict) -> list[str]:
    raw, converted = report["loading_s"].values()
    timed = report["ms_an_item"]
    return [
        "\n## A model of FLAME's size\n",
        f"{report['threads']} threads; the matrix product took {report['gemm_1024_ms']:.1f} ms in this run.",
        f"Loading: {raw:.2f} s from the official form, a pickle, {converted:.2f} s converted.",
        f"{report['landmarks']} landmarks at batch {report['batch']}, milliseconds an item:\n",
        "| what | ms |",
        "| --- | ---: |",
        f"| landmarks | {timed['landmarks']:.2f} |",
        f"| with their Jacobian by 200 coefficients | {timed['landmarks_and_jacobian_200']:.2f} |",
        f"| with their Jacobian by all 218 parameters | {timed['landmarks_and_jacobian_218']:.2f} |",
        f"| normal equations of a fit | {timed['normal_equations']:.2f} |",
        "",
    ]


def faces_lines(report: dict) -> list[str]:
    errors = report["error_percent_of_box"]
    return [
        "\n## Accuracy of faces\n",
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


def hands_lines(report: dict) -> list[str]:
    return [
        "\n## Accuracy of hands\n",
        f"{report['found']} of {report['hands']} labelled hands found, with the right side: "
        f"{report['side_right']}, detections: {report['detected']}.",
        "Mean distance from the labels: percent of their box; in space, mm after the best similarity:\n",
        "| hands | number | network, % | fit, % | ratio | network, mm | fit, mm | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {row['hands']} | "
            + " | ".join(
                f"{row[kind]['network']:.2f} | {row[kind]['fit']:.2f} | {row[kind]['ratio']:.3f}"
                for kind in ("points_percent_of_box", "points_3d_mm")
            )
            + " |"
            for name, row in report["error"].items()
        ),
        "",
    ]


def calibration_lines(report: dict) -> list[str]:
    hands = report["hands"]
    return [
        "\n## Several looks, and what scales are worth\n",
        *looks_lines("Faces, the 68 points", report["faces"], "all68"),
        *looks_lines("Hands, in the picture", hands["points"], "all21"),
        *looks_lines("Hands, in space after the best rigid motion", hands["points_3d"], "all21"),
    ]


def looks_lines(title: str, report: dict, group: str) -> list[str]:
    """What several looks gain and cost, and how often an error lies within its region."""
    levels = ("50", "68", "90", "95")
    held_out = f"{report['spread_factor']['looks']}_looks_held_out"
    cases = {"one look": "single_look", f"{held_out.partition('_')[0]} looks, held-out pictures": held_out}
    return [
        f"### {title}\n",
        "Mean error (percent of the box; in space, of the palm), its rank correlation with the scale",
        "and with one minus the confidence, milliseconds of CPU for each part:\n",
        "| looks | error, % | scale | confidence | ms |",
        "| ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {row['looks']} | {row['error_percent'][group]:.2f} | "
            + " | ".join(f"{row['rank_correlation'][of][group]:.3f}" for of in ("scale", "confidence"))
            + f" | {row['milliseconds']:.1f} |"
            for row in report["looks"]
        ),
        f"\nPercent of errors within the regions that should hold so many ({report['folds']} folds):\n",
        "| | " + " | ".join(levels) + " |",
        "| --- |" + " ---: |" * len(levels),
        *(
            f"| {name} | "
            + " | ".join(f"{report['coverage_percent'][case][group][level]:.1f}" for level in levels)
            + " |"
            for name, case in cases.items()
        ),
        "",
    ]


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
