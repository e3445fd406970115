"""What knowing the camera is worth: errors of fits to landmarks whose cameras are known.

    python benchmarks/camera.py > benchmarks/camera.json

Anny heads with identities and expressions of the prior are seen by every eighth of the dense landmarks, in
pictures of 1600 x 1200 pixels. Noise has a standard deviation of 1 % of the size of the landmarks' box, which
the scales say: `independent` from landmark to landmark, or `shared` by neighbours, a smooth field over the
face, as networks' errors are. `inflation` is what `inflation_factor` makes of it.

`distances`: heads near the middle, for several lenses (focal lengths as on 35 mm film) and distances, fitted
with the exact camera; with the fixed rule, the picture's diagonal; with 5 % of error, as EXIF has it;
30 % too long or too short; and with an estimated focal length, by middle and deviation of its prior.
`off_centre`: a wide lens, with heads at several angles to the optical axis, for the camera of the full
picture and for the crop as camera: the principal point in the middle of the crop, with the exact focal length
or the diagonal of the crop.

Errors are means over the heads: `shape_mm` of the landmarks in the model's frame, `form_mm` after the best
similarity, which leaves out size; `rotation_deg` of the root; `depth_percent` of the distance of the
landmarks' middle, without sign; `focal_percent` likewise of an estimated focal length. `shape_spread` and
`form_spread` are standard errors. `rotation_towards_deg` is the error of a crop's rotation after that was
turned to the ray through the crop's middle.
"""

import argparse
import json
import math
from collections.abc import Iterator

import attrs
import numpy as np
import torch
from hands import aligned
from heads import FREE, RIGID, face_landmarks, placed, random_heads

import partfit
from partfit.fitting import FitProblem, FitResult, FitStatus, LevenbergMarquardt, Stage
from partfit.fitting.uncertainty import inflation_factor
from partfit.geometry.camera import Camera
from partfit.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from partfit.images import FILM_DIAGONAL

SIZE = (1600, 1200)
DIAGONAL = math.hypot(*SIZE)
#: Focal lengths on 35 mm film. The second is that of the fixed rule.
LENSES = {"wide": 24.0, "as the rule": FILM_DIAGONAL, "tele": 85.0}
DISTANCES = (0.3, 0.6, 1.2, 3.0)
#: A head that extends over more of the picture's height is left out.
LARGEST = 0.9
#: Extent of a face, metres.
FACE = 0.19
#: Heads are turned by up to this angle, radians.
TURN = 0.5
EVERY = 8
#: Noise: of the box; and the length over which neighbours share theirs, metres.
NOISE, LENGTH = 0.01, 0.06
EXIF_ERROR, WRONG = 0.05, 1.3
#: Middle of the prior of the focal length, and its deviations.
PRIORS = {"rule": (0.3, 0.6), "exif": (0.05,)}
#: Off-centre heads: their lens, distance, and angles to the optical axis in degrees.
OFF_LENS, OFF_DISTANCE, OFF_ANGLES = 24.0, 0.8, (0, 10, 20, 30)
#: Side of a crop, of the longer side of the landmarks' box.
CROP = 1.5
FITTER = LevenbergMarquardt()


@attrs.frozen(eq=False)
class Heads:
    """Heads before their cameras, and what is seen of them.

    Attributes:
        truth: (B, P) states.
        camera: The cameras.
        points: (B, L, 2) landmarks with noise, pixels.
        scale: (B, L, 2).
    """

    truth: torch.Tensor
    camera: Camera
    points: torch.Tensor
    scale: torch.Tensor


class Studio:
    """The model, its landmarks, and the source of randomness."""

    def __init__(self, count: int) -> None:
        self.model = partfit.create("model", "anny-head")
        self.embedding = face_landmarks(EVERY)
        self.count = count

    def shoot(self, lens: float, middles: np.ndarray, noise: str, seed: int) -> Heads:
        """Heads with their middles at (B, 3), metres, before a lens: the same heads for the same seed."""
        rng = np.random.default_rng(seed)
        heads = random_heads(self.model, self.count, TURN, rng)
        truth = placed(self.model, self.embedding, heads, torch.as_tensor(middles))
        focal = lens / FILM_DIAGONAL * DIAGONAL
        camera = Camera.for_images([SIZE] * self.count, [focal] * self.count, dtype=torch.float64)
        exact = camera.project(self.model.landmarks(self.embedding, truth).points(truth))
        size = np.sqrt(np.ptp(exact.numpy(), axis=1).prod(axis=1))
        scale = torch.as_tensor(NOISE * size)[:, None, None].expand_as(exact).contiguous()
        errors = self.noise(noise, rng)
        return Heads(truth, camera, exact + scale * torch.as_tensor(errors), scale)

    def noise(self, kind: str, rng: np.random.Generator) -> np.ndarray:
        """(B, L, 2) of unit variance.

        The smooth field has the covariance exp(-d^2 / 2 l^2) at the distance d, by random waves: Rahimi &
        Recht, "Random features for large-scale kernel machines", NeurIPS 2007.
        """
        L = len(self.embedding.scheme)
        if kind == "independent":
            return rng.normal(size=(self.count, L, 2))
        rest = torch.zeros(1, self.model.n_parameters, dtype=torch.float64)
        places = self.model.landmarks(self.embedding, rest).points(rest)[0].numpy()
        n = 256
        waves = rng.normal(size=(self.count, 2, n, 3)) / LENGTH
        phases = rng.uniform(0, 2 * np.pi, size=(self.count, 2, 1, n))
        return np.cos(places @ waves.swapaxes(2, 3) + phases).sum(-1).swapaxes(1, 2) * math.sqrt(2 / n)

    def fit(self, heads: Heads, camera: Camera, deviation: float = 0.0) -> FitResult:
        """The heads as seen by some cameras, with estimated focal lengths if these have a deviation."""
        stages = (Stage(RIGID, 10), Stage(FREE, 40, focal=deviation > 0))
        problem = FitProblem(
            self.model,
            self.embedding,
            heads.points,
            heads.scale,
            torch.ones_like(heads.points[..., 0]),
            camera,
            stages,
            focal_deviation=deviation,
        )
        return FITTER.fit(problem)

    def errors(
        self, heads: Heads, result: FitResult, towards: torch.Tensor | None = None
    ) -> dict[str, object]:
        """The figures of fits. `towards` (B, 3, 3) turns rotations before they are compared once more."""
        model = self.model
        surface = model.landmarks(self.embedding, result.x)
        own, true = (surface.points(model.without_rigid_motion(x)) for x in (result.x, heads.truth))
        shape = 1e3 * (own - true).norm(dim=-1).mean(1)
        pairs = zip(own.numpy(), true.numpy(), strict=True)
        form = 1e3 * np.array([np.linalg.norm(aligned(a, b) - b, axis=1).mean() for a, b in pairs])
        depth, distance = (surface.points(x)[..., 2].mean(1) for x in (result.x, heads.truth))
        columns = model.slices["global_orient"]
        turned, exact = (rotvec_to_matrix(x[:, columns]) for x in (result.x, heads.truth))
        figures = {
            "shape_mm": shape.mean().item(),
            "shape_spread": (shape.std() / len(shape) ** 0.5).item(),
            "form_mm": form.mean(),
            "form_spread": form.std(ddof=1) / len(form) ** 0.5,
            "rotation_deg": angle(turned, exact).mean().item(),
            "depth_percent": 100 * (depth / distance - 1).abs().mean().item(),
            "failed": sum(status is FitStatus.FAILED for status in result.status),
        }
        if result.focal is not None:
            figures["focal_percent"] = 100 * (result.focal / heads.camera.focal - 1).abs().mean().item()
        if towards is not None:
            figures["rotation_towards_deg"] = angle(towards @ turned, exact).mean().item()
        return figures


def angle(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Degrees between rotations (B, 3, 3)."""
    return torch.rad2deg(matrix_to_rotvec(one @ other.transpose(1, 2)).norm(dim=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=12, help="in each case")
    parser.add_argument("--noise", choices=("independent", "shared"), help="by default both")
    arguments = parser.parse_args()
    studio = Studio(arguments.heads)
    kinds = [arguments.noise] if arguments.noise else ["independent", "shared"]
    report = {
        "heads": arguments.heads,
        "landmarks": len(studio.embedding.scheme),
        "size": SIZE,
        "noise_percent": 100 * NOISE,
        "lenses": LENSES,
        "exif_percent": 100 * EXIF_ERROR,
        "crop": CROP,
        "off_lens": OFF_LENS,
        "off_distance": OFF_DISTANCE,
        "inflation": {kind: inflation(kind, studio) for kind in kinds},
        "distances": [row for kind in kinds for row in distances(studio, kind)],
        "off_centre": [row for kind in kinds for row in off_centre(studio, kind)],
    }
    print(json.dumps(report, indent=1))


def inflation(kind: str, studio: Studio) -> float:
    rng = np.random.default_rng(0)
    return inflation_factor(np.concatenate([studio.noise(kind, rng) for _ in range(50)]))


def distances(studio: Studio, noise: str) -> Iterator[dict[str, object]]:
    """Heads near the middle of the picture."""
    for name, lens in LENSES.items():
        focal = lens / FILM_DIAGONAL * DIAGONAL
        for distance in DISTANCES:
            if focal * FACE / distance > LARGEST * SIZE[1]:
                continue
            rng = np.random.default_rng(7)
            away = rng.uniform(-0.08, 0.08, size=(studio.count, 2)) * SIZE / focal
            middles = distance * np.concatenate([away, np.ones((studio.count, 1))], axis=1)
            heads = studio.shoot(lens, middles, noise, seed=11)
            known = {
                "exact": heads.camera.focal,
                "rule": torch.full_like(heads.camera.focal, DIAGONAL),
                "exif": focal * torch.as_tensor(np.exp(EXIF_ERROR * rng.normal(size=studio.count))),
                "wrong": focal
                * torch.tensor([WRONG, 1 / WRONG]).double().repeat(studio.count)[: studio.count],
            }
            cameras = {key: attrs.evolve(heads.camera, focal=value) for key, value in known.items()}
            cases = [(key, 0.0) for key in cameras]
            cases += [(key, deviation) for key, own in PRIORS.items() for deviation in own]
            for key, deviation in cases:
                result = studio.fit(heads, cameras[key], deviation)
                yield {
                    "noise": noise,
                    "lens": name,
                    "distance": distance,
                    "focal": key,
                    "deviation": deviation,
                    **studio.errors(heads, result),
                }


def off_centre(studio: Studio, noise: str) -> Iterator[dict[str, object]]:
    """Heads away from the middle, with the camera of the full picture and with that of the crop."""
    for degrees in OFF_ANGLES:
        sign = np.where(np.arange(studio.count) % 2, 1.0, -1.0)
        ray = np.stack(
            [sign * math.tan(math.radians(degrees)), np.zeros_like(sign), np.ones_like(sign)], axis=1
        )
        heads = studio.shoot(OFF_LENS, OFF_DISTANCE * ray, noise, seed=13)
        low, high = heads.points.amin(1), heads.points.amax(1)
        middle, side = (low + high) / 2, CROP * (high - low).amax(1)
        true, whole = heads.camera, heads.camera.size
        crop = side[:, None].expand_as(whole).contiguous()
        cameras = {
            "full, exact": true,
            "full, rule": attrs.evolve(true, focal=torch.full_like(true.focal, DIAGONAL)),
            "crop, exact": Camera(true.focal, middle, crop),
            "crop, rule": Camera(math.sqrt(2) * side, middle, crop),
        }
        for name, camera in cameras.items():
            towards = true.rotation_towards(middle) if name.startswith("crop") else None
            figures = studio.errors(heads, studio.fit(heads, camera), towards)
            yield {"noise": noise, "degrees": degrees, "camera": name, **figures}


if __name__ == "__main__":
    main()
