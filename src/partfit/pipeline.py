"""The way from pictures to meshes: detector, landmarker, fitter; for one part, or several in one picture."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch

from partfit.component import Component, NoConfig
from partfit.config import read_table
from partfit.embedding_finder import EmbeddingFinder
from partfit.errors import ComponentError, ConfigError, InputError, NoEmbeddingError, PartfitError
from partfit.fitting import FitProblem, FitResult, FitStatus, Fitter
from partfit.fitting.starts import with_detected_starts
from partfit.geometry.camera import Camera, focal_from_field_of_view
from partfit.images import Picture, PictureSource, load_or_error
from partfit.landmarks import Detection, Detector, LandmarkEmbedding, Landmarker
from partfit.models.base import ParametricModel
from partfit.models.contour import landmark_points
from partfit.pipeline_config import COMPONENT_KINDS, Choice, PipelineConfig, check_one_camera, recipe_for
from partfit.recipe import FitSettings, Recipe
from partfit.registry import Registry, default_registry


@attrs.frozen(eq=False, repr=False)
class Instance:
    """One fitted part in one picture.

    Attributes:
        pipeline: What fitted it.
        detection: Its landmarks, in pixels of the full picture.
        result: Of the batch it was fitted in.
        index: Its place there.
    """

    pipeline: Pipeline
    detection: Detection
    result: FitResult
    index: int

    def __repr__(self) -> str:
        sided = f"{self.part} {self.side}" if self.side else self.part
        return f"<Instance {sided}: {self.status}, {self.rms_px:.3g} px>"

    @property
    def part(self) -> str:
        """The body part, as its recipe calls it."""
        return self.pipeline.recipe.part

    @property
    def side(self) -> str | None:
        """`left` or `right`, the subject's: that of the model, if it has sides, else of the detection."""
        return getattr(self.model.config, "side", self.detection.side)

    @property
    def model(self) -> ParametricModel:
        """The model that was fitted."""
        return self.result.problem.model

    @property
    def status(self) -> FitStatus:
        """How the fit ended."""
        return self.result.status[self.index]

    @property
    def message(self) -> str:
        """The reason for the status."""
        return self.result.messages[self.index]

    @property
    def rms_px(self) -> float:
        """Root mean square distance of projected and given landmarks, pixels; NaN if the fit failed."""
        return float(self.result.rms_px[self.index])

    @property
    def camera(self) -> Camera:
        """The camera, as a batch of one."""
        return self.result.camera.select([self.index])

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """Named parameter groups, each (size,)."""
        return {name: value[self.index].cpu().numpy() for name, value in self.result.parameters.items()}

    @property
    def parameter_names(self) -> dict[str, tuple[str, ...]]:
        """The names of the coordinates of each parameter group that has any."""
        return {group.name: group.names for group in self.model.groups if group.names}

    @property
    def faces(self) -> np.ndarray:
        """(F, 3) vertex indices."""
        return self.model.topology.faces

    @cached_property
    def vertices(self) -> np.ndarray:
        """(V, 3), metres, in the camera frame."""
        return self.model.vertices(self._x)[0].cpu().numpy()

    @property
    def vertices_model_frame(self) -> np.ndarray:
        """(V, 3), metres, without the rigid motion: in the model's own frame."""
        x = self.model.without_rigid_motion(self._x)
        return self.model.vertices(x)[0].cpu().numpy()

    def projected(self, scheme: str | None = None) -> np.ndarray:
        """(L, 2) landmarks of the fitted mesh in pixels, of the fitted or another scheme.

        NaN where the embedding does not know the place of a landmark.

        Raises:
            ComponentError: if the scheme has no embedding on the model.
        """
        problem = self.result.problem
        chosen = problem.embedding if scheme is None else self.pipeline.find_embedding(scheme, self.model)
        camera = self.camera.to(self._x)
        return camera.project(landmark_points(self.model, chosen, self._x, camera))[0].cpu().numpy()

    @property
    def _x(self) -> torch.Tensor:
        """The parameter vector, as a batch of one."""
        return self.result.x[self.index, None]


@attrs.frozen(eq=False)
class ImageResult:
    """What was found in one picture. Iterating yields its instances.

    Attributes:
        picture: The picture, or None where it could not be read.
        instances: The fitted parts: the order of the pipelines, then best score first.
        error: Why the picture could not be used, or None.
        timings_ms: Milliseconds of each step: an equal share of the batch's.
    """

    picture: Picture | None = attrs.field(repr=False)
    instances: tuple[Instance, ...] = ()
    error: PartfitError | None = None
    timings_ms: dict[str, float] = attrs.field(factory=dict)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.instances)

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, index: int) -> Instance:
        return self.instances[index]


class Pipeline:
    """Pictures in, fitted meshes out, for one body part.

    Every component may be given as a name, a `Choice` (a name with options) or an object. Two options are
    passed on to components whose `Config` has a field of that name and that were not given it: `device`,
    and, to models, `side`: one model is built for each side of the part that is found.

    Example:
        pipeline = Pipeline(part="face", fitter=Choice("lm", {"damping": "additive"}))
        for result in pipeline(["one.jpg", "two.jpg"]):
            for instance in result:
                print(instance.status, instance.vertices.shape)
    """

    def __init__(
        self,
        part: str | Recipe = "face",
        *,
        detector: str | Choice | Detector | None = None,
        landmarker: str | Choice | Landmarker | None = None,
        model: str | Choice | ParametricModel | None = None,
        fitter: str | Choice | Fitter | None = None,
        embeddings: Sequence[str | Path | LandmarkEmbedding] = (),
        preset: str | None = None,
        settings: FitSettings | None = None,
        focal: float | None = None,
        field_of_view: float | None = None,
        focal_deviation: float | None = None,
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
        registry: Registry | None = None,
    ) -> None:
        """Build the components.

        Raises:
            ComponentError: if one does not exist or cannot be loaded.
            ConfigError: if an option is wrong.
        """
        self.registry = registry or default_registry()
        self._given = {"detector": detector, "landmarker": landmarker, "model": model, "fitter": fitter}
        self._objects = {kind for kind, given in self._given.items() if _is_object(kind, given)}
        if isinstance(part, Recipe):
            self._objects.add("part")
        if any(isinstance(given, LandmarkEmbedding) for given in embeddings):
            self._objects.add("embeddings")
        self.config = PipelineConfig(
            part=part.part if isinstance(part, Recipe) else part,
            **{kind: _as_choice(given) for kind, given in self._given.items()},
            embeddings=tuple(str(given) for given in embeddings if not isinstance(given, LandmarkEmbedding)),
            preset=preset,
            settings=settings,
            focal=focal,
            field_of_view=field_of_view,
            focal_deviation=focal_deviation,
            device=device,
            dtype=dtype,
        )
        self.recipe = (
            part if isinstance(part, Recipe) else recipe_for(self.registry, part, self.config.model or model)
        )
        self.embeddings = EmbeddingFinder(self.registry, embeddings)
        if settings is not None and not isinstance(settings, FitSettings):
            raise ConfigError(f"settings: expected a FitSettings, found a {type(settings).__name__}.")
        self.settings: FitSettings = settings or self.recipe.settings_of(preset)
        self._models: dict[str | None, ParametricModel] = {}
        self.detector: Detector = self._component("detector")
        self.landmarker: Landmarker = self._component("landmarker")
        self._warn_of_other_detector()

    def _warn_of_other_detector(self) -> None:
        meant, found = self.landmarker.detector, self.component_names["detector"]
        if meant is not None and meant != found:
            warnings.warn(
                f"The landmarker {self.component_names['landmarker']!r} was made for the regions of the "
                f"detector {meant!r} and gets those of {found!r}: its crops may be wrong. Choose the other "
                "detector, or train with this one.",
                stacklevel=3,
            )

    @property
    def inflation(self) -> float:
        """For covariances of the fits: that of the settings, else the landmarker's."""
        return self.settings.inflation or self.landmarker.inflation

    @property
    def sided(self) -> bool:
        """Whether one model is built for each side of the part."""
        return self._has_option("model", "side")

    @property
    def model(self) -> ParametricModel:
        """The model, the right one if it has sides; built on first use: landmarks alone need none."""
        return self.model_of_side(None)

    def model_of_side(self, side: str | None) -> ParametricModel:
        """The model for a side of the part; built on first use.

        It is the same for all sides if it has none, or if its side was given as an option.
        """
        key = (side or "right") if self.sided else None
        if key not in self._models:
            self._models[key] = self._component("model", **({} if key is None else {"side": key}))
            if key is None:
                self._check_embeddings(self._models[key])
        return self._models[key]

    def _check_embeddings(self, model: ParametricModel) -> None:
        """Refuse given embeddings that lie on another model."""
        for given in self.embeddings.given:
            if given.topology != model.topology.name:
                raise ConfigError(
                    f"embeddings: the {given.label} does not lie on the model "
                    f"{self.component_names['model']!r}, of topology {model.topology.name!r}."
                )

    @cached_property
    def fitter(self) -> Fitter:
        """The fitter; built on first use."""
        return self._component("fitter")

    @classmethod
    def from_config(
        cls, config: PipelineConfig | dict[str, Any] | str | Path, registry: Registry | None = None
    ) -> Pipeline:
        """The pipeline of a configuration, of a TOML file, or of a table as such a file holds it.

        A table is laid over its recipe, see `PipelineConfig.from_table`.

        Raises:
            ConfigError: for unknown keys and wrong types, with their path.
        """
        if isinstance(config, str | Path):
            config = read_table(config)
        if isinstance(config, dict):
            config = PipelineConfig.from_table(config, registry or default_registry())
        return cls(**attrs.asdict(config, recurse=False), registry=registry)

    def to_config(self) -> PipelineConfig:
        """The configuration with everything the recipe filled in, for `write_toml` and `from_config`.

        Raises:
            ConfigError: if a component was given as an object, which has no name to write down.
        """
        if self._objects:
            raise ConfigError(f"{min(self._objects)}: was given as an object; a configuration needs a name.")
        return self.config.resolved(self.registry)

    @property
    def component_names(self) -> dict[str, str]:
        """The name of each component; the class of one that was given as an object."""
        return {
            kind: type(given).__name__ if kind in self._objects else self._choice(kind).name
            for kind, given in self._given.items()
        }

    def find_embedding(self, scheme: str, model: ParametricModel | None = None) -> LandmarkEmbedding:
        """The embedding of a landmark scheme on this pipeline's model, or on that of a side.

        It is looked for among the embeddings that the pipeline was given, those of the model itself, those of
        plugins, and the transferred ones.

        Raises:
            NoEmbeddingError: if there is none.
        """
        landmarks = self.landmarker.scheme if scheme == self.landmarker.scheme.name else None
        model = self.model if model is None else model
        try:
            return self.embeddings.find(scheme, model, landmarks)
        except NoEmbeddingError as error:
            hint = f" {self._how_to_transfer(model)}" if landmarks else ""
            raise NoEmbeddingError(f"{error}{hint}") from None

    def has_embedding(self, scheme: str, model: ParametricModel | None = None) -> bool:
        """Whether a landmark scheme lies on this pipeline's model, or on that of a side."""
        try:
            self.find_embedding(scheme, model)
        except NoEmbeddingError:
            return False
        return True

    def _how_to_transfer(self, model: ParametricModel) -> str:
        """What to do where nobody knows where the landmarks lie on a model."""
        if "model" in self._objects or "landmarker" in self._objects:
            return "Transfer the landmarks: partfit.transfer.transfer_landmarks, and give its embedding."
        model_name, landmarker = self.component_names["model"], self._choice("landmarker").text
        given = getattr(self.config.model, "options", {})
        words = ["--part", self.recipe.part, "--model", model_name, "--landmarker", landmarker]
        words += ["--model-path", str(given["path"])] if "path" in given else []
        if self.sided:
            words += ["--set", f"model.options.side={getattr(model.config, 'side', 'right')}"]
        return f"Transfer the landmarks: `partfit transfer-landmarks {' '.join(words)}`."

    def __call__(self, images: PictureSource | Iterable[PictureSource]) -> list[ImageResult]:
        """Fit all parts in some pictures.

        Args:
            images: One picture or several, of mixed sizes: paths, RGB arrays (H, W, 3), PIL images.

        Returns:
            One result a picture, in order. A picture that cannot be read has its `error` set; the
            others go on.
        """
        return list(self.stream(_listed(images)))

    def stream(self, images: Iterable[PictureSource], batch_size: int = 8) -> Iterator[ImageResult]:
        """The results of many pictures one after another, `batch_size` pictures in memory at a time.

        Raises:
            InputError: if `batch_size` is less than 1.
        """
        return stream([self], images, batch_size)

    def locate(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        """The landmarks of every part in the pictures, in pixels of the full pictures."""
        return self._locate(pictures, _Clock())

    def _run(self, pictures: Sequence[Picture], clock: _Clock) -> list[list[Instance]]:
        """The fitted parts in each picture."""
        detections = self._locate(pictures, clock)
        if self.sided:
            _check_sides(self.landmarker, detections)
        found = self.fit(pictures, detections)
        clock.lap("fit")
        return found

    def _locate(self, pictures: Sequence[Picture], clock: _Clock) -> list[list[Detection]]:
        pixels = [picture.pixels for picture in pictures]
        regions = self.detector.detect(pixels) if pixels else []
        check_lists(self.detector, "detect", regions, len(pixels))
        clock.lap("detect")
        detections = self.landmarker.locate(pixels, regions) if pixels else []
        check_lists(self.landmarker, "locate", detections, len(pixels))
        clock.lap("landmarks")
        return [
            [detection.mapped(picture.reduction) for detection in sorted(found, key=lambda d: -d.score)]
            for picture, found in zip(pictures, detections, strict=True)
        ]

    def fit(
        self, pictures: Sequence[Picture], detections: Sequence[Sequence[Detection]]
    ) -> list[list[Instance]]:
        """Fit the model to given landmarks: all pictures in one batch, one batch for each side.

        Args:
            pictures: Where the sizes and focal lengths come from.
            detections: For each picture its landmarks, in pixels of the full picture.

        Raises:
            InputError: if the model has sides and a detection does not say its own.
        """
        flat = [(i, detection) for i, found in enumerate(detections) for detection in found]
        fitted: dict[int, Instance] = {}
        for model, places in self._by_model([detection for _, detection in flat]):
            chosen = [flat[place] for place in places]
            result = self._fit_model(model, [pictures[i] for i, _ in chosen], [d for _, d in chosen])
            for index, (place, (_, detection)) in enumerate(zip(places, chosen, strict=True)):
                fitted[place] = Instance(self, detection, result, index)
        instances: list[list[Instance]] = [[] for _ in pictures]
        for place, (i, _) in enumerate(flat):
            instances[i].append(fitted[place])
        return instances

    def _by_model(self, detections: Sequence[Detection]) -> list[tuple[ParametricModel, list[int]]]:
        """The models to fit, and which detections are theirs."""
        sided = bool(detections) and self.sided
        groups: dict[str | None, list[int]] = {}
        for place, detection in enumerate(detections):
            if sided and detection.side is None:
                raise InputError(
                    f"{self.recipe.part} {place} must say its side, left or right: the model "
                    f"{self._choice('model').name!r} has both. Give its landmarks a `side`, or the model one "
                    "as an option."
                )
            groups.setdefault(detection.side if sided else None, []).append(place)
        return [(self.model_of_side(side), places) for side, places in groups.items()]

    def _fit_model(
        self, model: ParametricModel, pictures: Sequence[Picture], detections: Sequence[Detection]
    ) -> FitResult:
        stages, deviation = self.settings.stages, self.config.focal_deviation or 0.0
        if deviation > 0 and stages:
            stages = (*stages[:-1], attrs.evolve(stages[-1], focal=True))
        problem = FitProblem.from_detections(
            model,
            self.find_embedding(self.landmarker.scheme.name, model),
            detections,
            self._camera(pictures, detections),
            stages,
            weighting=self.settings.weighting,
            prior_weights=self.settings.prior_weights,
            min_confidence=self.settings.min_confidence,
            focal_deviation=deviation,
        )
        return self.fitter.fit(with_detected_starts(problem, detections))

    def _camera(self, pictures: Sequence[Picture], detections: Sequence[Detection]) -> Camera:
        config = self.config
        focals: list[float | None] = []
        for picture, detection in zip(pictures, detections, strict=True):
            if config.field_of_view is not None:
                focals.append(focal_from_field_of_view(*picture.size, config.field_of_view))
            else:
                seen = None if detection.start is None else detection.start.focal
                focals.append(config.focal or picture.focal or seen)
        dtype = getattr(torch, config.dtype)
        return Camera.for_images([p.size for p in pictures], focals, dtype=dtype, device=config.device)

    def _choice(self, kind: str) -> Choice:
        """The component that was named, or the recipe's."""
        return getattr(self.config, kind) or Choice(getattr(self.recipe, kind))

    def _component(self, kind: str, **options: Any) -> Any:
        """The component, with options that go to it unless it was given others."""
        if kind in self._objects:
            return self._given[kind]
        choice = self._choice(kind)
        if self._has_option(kind, "device"):
            options["device"] = self.config.device
        return self.registry.create(kind, choice.name, **{**options, **choice.options})

    def _has_option(self, kind: str, name: str) -> bool:
        """Whether the component is to be built here, and its `Config` has a field that was not given."""
        if kind in self._objects:
            return False
        choice = self._choice(kind)
        target = self.registry.resolve(kind, choice.name)
        config = getattr(target, "Config", NoConfig) if isinstance(target, type) else NoConfig
        return name in attrs.fields_dict(config) and name not in choice.options


def stream(
    pipelines: Sequence[Pipeline], images: Iterable[PictureSource], batch_size: int = 8
) -> Iterator[ImageResult]:
    """The results of several pipelines in the same pictures, for example of faces and hands.

    Each picture is read once; its instances come in the order of the pipelines. `batch_size` pictures are in
    memory at a time.

    Raises:
        InputError: if `batch_size` is less than 1, or there is no pipeline.
        ConfigError: if the pipelines see one picture through different cameras.
    """
    if batch_size < 1:
        raise InputError(f"batch_size: expected 1 or more, found {batch_size}.")
    if not pipelines:
        raise InputError("No part was asked for: expected at least one pipeline.")
    check_one_camera([pipeline.config for pipeline in pipelines])
    return _stream(pipelines, images, batch_size)


def _stream(
    pipelines: Sequence[Pipeline], images: Iterable[PictureSource], batch_size: int
) -> Iterator[ImageResult]:
    sources = iter(images)
    while batch := list(itertools.islice(sources, batch_size)):
        yield from _fit_batch(pipelines, batch)


def _fit_batch(pipelines: Sequence[Pipeline], sources: Sequence[PictureSource]) -> list[ImageResult]:
    clock = _Clock()
    loaded = [load_or_error(source) for source in sources]
    pictures = [picture for picture in loaded if isinstance(picture, Picture)]
    clock.lap("load")
    by_pipeline = [pipeline._run(pictures, clock) for pipeline in pipelines]
    found = iter(zip(*by_pipeline, strict=True))
    shares = clock.shares(max(len(pictures), 1))
    return [
        ImageResult(item, tuple(itertools.chain.from_iterable(next(found))), None, shares)
        if isinstance(item, Picture)
        else ImageResult(None, error=item)
        for item in loaded
    ]


def fit(
    images: PictureSource | Iterable[PictureSource],
    part: str | Recipe | Sequence[str | Recipe] = "face",
    **options: Any,
) -> list[ImageResult]:
    """Fit all parts in some pictures with a recipe's components.

    For many calls keep a `Pipeline`, which loads its networks and model once.

    Args:
        images: One picture or several: paths, RGB arrays (H, W, 3), PIL images.
        part: The recipe, or several: `["face", "hand"]`.
        options: As of `Pipeline`.

    Returns:
        One `ImageResult` a picture.

    Raises:
        InputError: if one picture was given, not in a list, and cannot be read.
        ConfigError: if several parts share an option that only one can have.
    """
    parts = [part] if isinstance(part, str | Recipe) else list(part)
    names = [one for one in parts if isinstance(one, str)]
    if len(set(names)) < len(names):
        raise ConfigError(f"part: expected different parts, found {names}.")
    if len(parts) > 1:
        _check_shared_options(options)
    results = list(stream([Pipeline(one, **options) for one in parts], _listed(images)))
    if isinstance(images, PictureSource) and results[0].error is not None:
        raise results[0].error
    return results


def _check_shared_options(options: Iterable[str]) -> None:
    """Refuse options that mean a component or the settings of one part, where several parts share them.

    Raises:
        ConfigError: naming the option.
    """
    single = sorted({*COMPONENT_KINDS, "embeddings", "preset", "settings"}.intersection(options))
    if single:
        raise ConfigError(
            f"{single[0]}: goes with one part, found several. Build a Pipeline for each part, or write a "
            "configuration with a table [[pipelines]] for each."
        )


def _listed(images: PictureSource | Iterable[PictureSource]) -> Iterable[PictureSource]:
    return [images] if isinstance(images, PictureSource) else images


def check_lists(component: Component, method: str, found: Any, expected: int) -> None:
    """Raise ComponentError, naming the plugin, where its answer is not one list for each picture."""
    if not isinstance(found, list) or len(found) != expected:
        answer = f"a list of {len(found)}" if isinstance(found, list) else repr(found)
        raise ComponentError(
            f"{type(component).__module__}.{type(component).__name__}.{method} returned {answer}; "
            f"expected one list for each of {expected} pictures."
        )


def _check_sides(landmarker: Landmarker, found: Sequence[Sequence[Detection]]) -> None:
    """Name the landmarker that does not tell left from right, where the model needs to know."""
    if any(detection.side is None for detections in found for detection in detections):
        raise ComponentError(
            f"{type(landmarker).__module__}.{type(landmarker).__name__}.locate returned a detection without "
            "a side; the model has a left and a right one. Give the model a side as an option."
        )


_BASES = {"detector": Detector, "landmarker": Landmarker, "model": ParametricModel, "fitter": Fitter}


def _as_choice(given: Any) -> Choice | None:
    if isinstance(given, str):
        return Choice.of_text(given)
    return given if isinstance(given, Choice) else None


def _is_object(kind: str, given: Any) -> bool:
    """Whether a component was given as an object; refuses what is neither object nor name."""
    base = _BASES[kind]
    if isinstance(given, base):
        return True
    if given is None or isinstance(given, str | Choice):
        return False
    found = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
    raise ConfigError(f"{kind}: expected a name, a Choice or a {base.__name__} object, found {found}.")


class _Clock:
    """Milliseconds between laps, summed over laps of one name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + (now - self._last) * 1e3
        self._last = now

    def shares(self, n: int) -> dict[str, float]:
        return {name: round(value / n, 3) for name, value in self.laps.items()}
