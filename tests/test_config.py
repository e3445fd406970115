from __future__ import annotations

import errno
import reprlib
import tomllib
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from partfit.config import from_dict, read_toml, to_dict, write_toml
from partfit.errors import ConfigError, OutputError


@attrs.frozen
class Stage:
    iterations: int = 10
    groups: tuple[str, ...] = ()
    kernel: Literal["none", "huber"] = "none"
    tolerance: float | None = None


@attrs.frozen
class Settings:
    path: Path
    verbose: bool = False
    scale: float = 1.0
    center: tuple[float, float] = (0.0, 0.0)
    stages: tuple[Stage, ...] = ()
    first: Stage = Stage()
    weights: dict[str, float] = attrs.field(factory=dict)
    device: int | str = "cpu"
    extra: Stage | None = None


@attrs.frozen
class Positive:
    size: int = attrs.field(default=1, validator=attrs.validators.gt(0))
    _hidden: int = 0


@attrs.frozen
class Anything:
    value: Any = None
    array: np.ndarray | None = None


@attrs.frozen
class Unsupported:
    values: list[int] = attrs.field(factory=list)


@attrs.frozen
class NoneIsNotTheDefault:
    limit: int | None = 5


stages = st.builds(
    Stage,
    iterations=st.integers(),
    groups=st.lists(st.text()).map(tuple),
    kernel=st.sampled_from(["none", "huber"]),
    tolerance=st.none() | st.floats(allow_nan=False),
)
configurations = st.builds(
    Settings,
    path=st.text().map(Path),
    verbose=st.booleans(),
    scale=st.floats(allow_nan=False),
    center=st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    stages=st.lists(stages, max_size=3).map(tuple),
    first=stages,
    weights=st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=3),
    device=st.integers() | st.text(),
    extra=st.none() | stages,
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(configurations)
def test_round_trip_through_toml_is_exact(config: Settings) -> None:
    text = tomli_w.dumps(to_dict(config))
    assert from_dict(Settings, tomllib.loads(text)) == config


@settings(derandomize=True, deadline=None, max_examples=50)
@given(configurations)
def test_to_dict_of_what_was_read_is_what_was_read(config: Settings) -> None:
    plain = to_dict(config)
    assert to_dict(from_dict(Settings, plain)) == plain


def test_values_take_the_annotated_types() -> None:
    config = from_dict(
        Settings,
        {"path": "a/b", "scale": 3, "center": [1, 2.5], "stages": [{"groups": ["pose"]}], "device": 0},
    )
    assert config == Settings(
        Path("a/b"), scale=3.0, center=(1.0, 2.5), stages=(Stage(groups=("pose",)),), device=0
    )
    assert [type(value) for value in (config.scale, *config.center)] == [float] * 3


def test_python_values_are_accepted_as_they_are() -> None:
    first = Stage(iterations=3)
    array = np.zeros(2)
    assert from_dict(Settings, {"path": Path("x"), "first": first, "extra": None}).first is first
    assert from_dict(Anything, {"value": "x", "array": array}).array is array
    scale = from_dict(Settings, {"path": "x", "scale": np.float32(0.5)}).scale
    assert (type(scale), scale) == (float, 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"pth": "x"},
            'pth: unknown key. Did you mean "path"? Known keys: path, verbose, scale, center, stages, '
            "first, weights, device, extra.",
        ),
        ({"first": {"zzz": 1}}, "first.zzz: unknown key. Known keys: iterations, groups, kernel, tolerance."),
        ({}, "path: missing. Expected a path (a string)."),
        ({"path": 3}, "path: expected a path (a string), found 3 (int)."),
        ({"verbose": 1}, "verbose: expected a boolean, found 1 (int)."),
        ({"scale": True}, "scale: expected a number, found True (bool)."),
        ({"scale": 10**400}, f"scale: expected a number, found {reprlib.repr(10**400)} (int)."),
        ({"scale": "3"}, "scale: expected a number, found '3' (str)."),
        ({"center": [1.0]}, "center: expected a list of 2: a number, a number, found [1.0] (list)."),
        ({"center": [1.0, "b"]}, "center[1]: expected a number, found 'b' (str)."),
        ({"stages": {}}, "stages: expected a list of which each item is a table (Stage), found {} (dict)."),
        (
            {"stages": [{}, {"iterations": 2.5}]},
            "stages[1].iterations: expected an integer, found 2.5 (float).",
        ),
        (
            {"stages": [{"groups": "pose"}]},
            "stages[0].groups: expected a list of which each item is a string, found 'pose' (str).",
        ),
        ({"first": 3}, "first: expected a table (Stage), found 3 (int)."),
        (
            {"first": {"kernel": "hubert"}},
            "first.kernel: expected one of 'none', 'huber', found 'hubert' (str).",
        ),
        ({"first": {"tolerance": "x"}}, "first.tolerance: expected a number, found 'x' (str)."),
        ({"weights": [1]}, "weights: expected a table of which each value is a number, found [1] (list)."),
        ({"weights": {"a": "b"}}, "weights.a: expected a number, found 'b' (str)."),
        ({"device": 1.5}, "device: expected an integer or a string, found 1.5 (float)."),
        ({"extra": {"zzz": 1}}, "extra.zzz: unknown key. Known keys: iterations, groups, kernel, tolerance."),
    ],
)
def test_errors_name_the_key_what_was_expected_and_what_was_found(
    values: dict[str, Any], message: str
) -> None:
    required = {} if message.startswith("path: missing") else {"path": "x"}
    with pytest.raises(ConfigError) as raised:
        from_dict(Settings, {**required, **values}, path="model")
    assert str(raised.value) == f"model.{message}"


def test_what_the_class_refuses_is_reported_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r"^model\.options: 'size' must be > 0: 0$"):
        from_dict(Positive, {"size": 0}, path="model.options")
    with pytest.raises(ConfigError, match=r"^Positive: 'size' must be > 0: 0$"):
        from_dict(Positive, {"size": 0})


def test_private_fields_go_by_their_argument_name() -> None:
    config = Positive(size=2, hidden=7)
    assert to_dict(config) == {"size": 2, "hidden": 7}
    assert from_dict(Positive, {"size": 2, "hidden": 7}) == config


def test_a_configuration_must_be_a_table_and_an_attrs_class() -> None:
    with pytest.raises(ConfigError, match=r"^configuration: expected a table, found \[\] \(list\)\.$"):
        from_dict(Settings, [])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be an attrs class; found <class 'int'>"):
        from_dict(int, {})


def test_unusable_annotations_are_reported() -> None:
    with pytest.raises(ConfigError, match=r"^values: the annotation list\[int\] is not supported"):
        from_dict(Unsupported, {"values": [1]})

    @attrs.frozen
    class Unresolvable:
        stage: NotDefinedAnywhere  # noqa: F821

    with pytest.raises(ConfigError, match="NotDefinedAnywhere"):
        from_dict(Unresolvable, {"stage": {}})


def test_what_toml_cannot_hold_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^array: array\(\[0\., 0\.\]\) \(ndarray\) has no form in TOML\.$"
    ):
        to_dict(Anything(array=np.zeros(2)))
    with pytest.raises(ConfigError, match=r"^limit: TOML cannot say None where it is not the default\.$"):
        to_dict(NoneIsNotTheDefault(limit=None))


def test_files_round_trip(tmp_path: Path) -> None:
    config = Settings(Path("model.npz"), stages=(Stage(), Stage(groups=("ä", "b"))), weights={"a b": 0.1})
    file = tmp_path / "settings.toml"
    write_toml(config, file)
    assert read_toml(file, Settings) == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path = \n", "is not a TOML file in UTF-8"),
        (b'path = "\xff"\n', "is not a TOML file in UTF-8"),
        (b"path = 3\n", "path: expected a path (a string), found 3 (int)."),
    ],
)
def test_errors_in_a_file_begin_with_its_path(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read_toml(file, Settings)
    assert str(raised.value).startswith(f"{file}: {message}")


def test_missing_files_and_folders_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read: No such file or directory\."):
        read_toml(tmp_path / "absent.toml", Settings)
    with pytest.raises(OutputError, match=r"Cannot write .*s\.toml: No such file or directory\."):
        write_toml(Settings(Path("x")), tmp_path / "absent" / "s.toml")


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    write_toml(Settings(Path("old")), file)
    before = file.read_text()

    def write_half(path: Path, text: str, **options: Any) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OutputError, match=r"settings\.toml: No space left on device"):
        write_toml(Settings(Path("new")), file)
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_field_says_where_its_value_is_to_be_had():
    @attrs.frozen
    class Licensed:
        path: str = attrs.field(metadata={"hint": "Get it from example.org."})

    with pytest.raises(
        ConfigError, match=r"^model\.path: missing\. Expected a string\. Get it from example\.org\.$"
    ):
        from_dict(Licensed, {}, "model")
