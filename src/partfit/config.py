"""Configurations: frozen attrs classes, to and from plain dictionaries and TOML files.

The annotations that a configuration may use are `bool, int, float, str, pathlib.Path`, `Literal[...]`,
`tuple[T, ...]`, `tuple[A, B]`, `dict[str, T]`, unions of these and None, and other attrs classes. Any other
class is accepted as it is, by `isinstance`, for values passed in Python; it cannot be written to TOML.

Values are checked, not coerced: "3" is not an integer and 1 is not a boolean. Four exceptions, since TOML and
people cannot say it: an integer is accepted for a float, a string for a path and a path for a string, and a
list for a tuple. NumPy scalars become Python ones. In a union, the first member that accepts the value takes
it.

A field without a default may say in its metadata, under `hint`, where its value is to be had: the error of a
missing one ends with that.
"""

from __future__ import annotations

import numbers
import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from partfit.errors import ConfigError
from partfit.files import atomic_write
from partfit.text import closest

T = TypeVar("T")


def from_dict(config_class: type[T], mapping: Mapping[str, Any], path: str = "") -> T:
    """Build a configuration from a dictionary, as read from TOML.

    Args:
        config_class: An attrs class whose annotations are those of this module's description.
        mapping: Its fields; nested configurations as nested mappings or as objects.
        path: Where the mapping lies in a larger configuration, for messages: `model.options`.

    Returns:
        An instance of `config_class`.

    Raises:
        ConfigError: naming the dotted path of a key that is unknown, missing or of the wrong type, or
            of a value that the class itself refuses; or if an annotation is not supported.
    """
    if not isinstance(mapping, Mapping):
        raise _wrong_type(path, "a table", mapping)
    hints = _annotations(config_class)
    fields = _fields(config_class)
    for key in mapping:
        if key not in fields:
            raise ConfigError(_unknown_key(path, key, list(fields)))
    values = {}
    for key, field in fields.items():
        annotation = hints[field.name]
        if key in mapping:
            values[key] = _convert(annotation, mapping[key], _join(path, key))
        elif field.default is attrs.NOTHING:
            hint = field.metadata.get("hint", "")
            found = f"{_join(path, key)}: missing. Expected {_describe(annotation)}. {hint}"
            raise ConfigError(found.rstrip())
    try:
        return config_class(**values)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path or config_class.__qualname__}: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """The plain dictionary of a configuration: what TOML can hold, and `from_dict` reads back.

    None is left out, tuples become lists, paths become strings.

    Raises:
        ConfigError: if a value has no form in TOML, None where it is not the default included.
    """
    return _table(config, "")


def read_table(path: str | Path) -> dict[str, Any]:
    """Read a TOML file as it is.

    Raises:
        ConfigError: if the file cannot be read or is not TOML.
    """
    import tomllib

    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not a TOML file in UTF-8: {error}.") from error


def read_toml(path: str | Path, config_class: type[T]) -> T:
    """Read a configuration from a TOML file.

    Paths in the file are taken as they stand: relative ones count from the working directory.

    Raises:
        ConfigError: as `read_table`, or as `from_dict`; the message begins with the file's path.
    """
    table = read_table(path)
    try:
        return from_dict(config_class, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def write_toml(config: Any, path: str | Path) -> None:
    """Write a configuration to a TOML file, whole or not at all; see `to_dict`.

    Raises:
        ConfigError: as `to_dict`.
        OutputError: if the file cannot be written.
    """
    import tomli_w

    text = tomli_w.dumps(to_dict(config))
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _annotations(config_class: type) -> dict[str, Any]:
    """The resolved annotations of an attrs class, by field name."""
    if not attrs.has(config_class):
        raise ConfigError(f"A configuration must be an attrs class; found {config_class!r}.")
    try:
        return typing.get_type_hints(config_class)
    except NameError as error:
        raise ConfigError(
            f"{config_class.__qualname__}: an annotation cannot be resolved ({error}). "
            "Import or define the types that it names at module level."
        ) from error


def _fields(config_class: Any) -> dict[str, attrs.Attribute[Any]]:
    """The fields that the class is built from, by the names of its arguments."""
    return {field.alias or field.name: field for field in attrs.fields(config_class) if field.init}


def _convert(annotation: Any, value: Any, path: str) -> Any:
    """`value` as the annotated type."""
    origin = get_origin(annotation)
    if annotation is Any:
        return value
    if annotation in _SCALARS:
        return _convert_scalar(annotation, value, path)
    if origin in _CONTAINERS:
        return _CONTAINERS[origin](annotation, value, path)
    if not isinstance(annotation, type):
        raise ConfigError(f"{path}: the annotation {annotation} is not supported in a configuration.")
    if attrs.has(annotation) and isinstance(value, Mapping):
        return from_dict(annotation, value, path)
    if not isinstance(value, annotation):
        raise _wrong_type(path, _describe(annotation), value)
    return value


def _convert_scalar(annotation: Any, value: Any, path: str) -> Any:
    accepted, description = _SCALARS[annotation]
    is_boolean = isinstance(value, bool)  # which Python counts among the integers
    if not isinstance(value, accepted) or is_boolean != (annotation is bool):
        raise _wrong_type(path, description, value)
    try:
        return None if value is None else annotation(value)
    except OverflowError as error:  # an integer beyond all floats
        raise _wrong_type(path, description, value) from error


def _convert_union(annotation: Any, value: Any, path: str) -> Any:
    """The first member that accepts the value takes it."""
    if value is None and types.NoneType in get_args(annotation):
        return None
    members = [member for member in get_args(annotation) if member is not types.NoneType]
    if len(members) == 1:
        return _convert(members[0], value, path)
    for member in members:
        try:
            return _convert(member, value, path)
        except ConfigError:
            continue
    raise _wrong_type(path, _describe(annotation), value)


def _convert_literal(annotation: Any, value: Any, path: str) -> Any:
    for choice in get_args(annotation):
        if type(choice) is type(value) and choice == value:
            return choice
    raise _wrong_type(path, _describe(annotation), value)


def _convert_tuple(annotation: Any, value: Any, path: str) -> tuple[Any, ...]:
    members = get_args(annotation)
    if not isinstance(value, list | tuple):
        raise _wrong_type(path, _describe(annotation), value)
    if members[-1:] == (Ellipsis,):
        members = members[:1] * len(value)
    if len(value) != len(members):
        raise _wrong_type(path, _describe(annotation), value)
    return tuple(
        _convert(member, item, f"{path}[{i}]")
        for i, (member, item) in enumerate(zip(members, value, strict=True))
    )


def _convert_dict(annotation: Any, value: Any, path: str) -> dict[str, Any]:
    key_type, member = get_args(annotation)
    if key_type is not str:
        raise ConfigError(f"{path}: the annotation {annotation} is not supported; keys must be str.")
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong_type(path, _describe(annotation), value)
    return {key: _convert(member, item, _join(path, key)) for key, item in value.items()}


#: Scalar annotations: the classes of the values accepted, and how messages call them.
_SCALARS: dict[Any, tuple[Any, str]] = {
    bool: (bool, "a boolean"),
    int: (numbers.Integral, "an integer"),
    float: (numbers.Real, "a number"),
    str: ((str, Path), "a string"),
    Path: ((str, Path), "a path (a string)"),
    types.NoneType: (types.NoneType, "None"),
}

_CONTAINERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    Union: _convert_union,
    types.UnionType: _convert_union,
    Literal: _convert_literal,
    tuple: _convert_tuple,
    dict: _convert_dict,
}


def _describe(annotation: Any) -> str:
    """An annotation in words."""
    origin, members = get_origin(annotation), get_args(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation][1]
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in members)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(member) for member in members)
    if origin is dict:
        return f"a table of which each value is {_describe(members[1])}"
    if origin is tuple and members[-1:] == (Ellipsis,):
        return f"a list of which each item is {_describe(members[0])}"
    if origin is tuple:
        return f"a list of {len(members)}: {', '.join(_describe(member) for member in members)}"
    name = getattr(annotation, "__qualname__", str(annotation))
    return f"a table ({name})" if attrs.has(annotation) else f"an object of class {name}"


def _table(config: Any, path: str) -> dict[str, Any]:
    """The fields of an attrs object as a table."""
    table = {}
    for key, field in _fields(type(config)).items():
        value = getattr(config, field.name)
        if value is not None:
            table[key] = _plain(value, _join(path, key))
        elif field.default is not None:
            raise ConfigError(f"{_join(path, key)}: TOML cannot say None where it is not the default.")
    return table


def _plain(value: Any, path: str) -> Any:
    """A value as TOML can hold it."""
    if attrs.has(type(value)):
        return _table(value, path)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _plain(item, _join(path, key)) for key, item in value.items()}
    if isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{path}: {_found(value)} has no form in TOML.")


def _unknown_key(path: str, key: str, known: list[str]) -> str:
    match = closest(str(key), known)
    hint = f' Did you mean "{match}"?' if match else ""
    return f"{_join(path, key)}: unknown key.{hint} Known keys: {', '.join(known) or 'none'}."


def _wrong_type(path: str, expected: str, value: Any) -> ConfigError:
    return ConfigError(f"{path or 'configuration'}: expected {expected}, found {_found(value)}.")


def _found(value: Any) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
