"""Dataclasses from YAML files: every key a field, every value of the field's type, anything else an error."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from refiner.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def config_folder(*parts: str) -> Path:
    """A folder of `configs/`: inside the installed package, or at the top of a source tree."""
    installed = Path(__file__).parent / "configs"
    root = installed if installed.is_dir() else Path(__file__).parents[1] / "configs"
    return root.joinpath(*parts)


def config_names(*parts: str) -> list[str]:
    """Names of the files in a folder of `configs/`."""
    return sorted(path.stem for path in config_folder(*parts).glob("*.yaml"))


def find_config(name_or_path: str, what: str, *parts: str) -> Path:
    """The file that has this name in a folder of `configs/`, or the file at this path.

    Raises:
        SettingsError: there is neither such a name nor such a file; the message lists the names.
    """
    names = config_names(*parts)
    path = config_folder(*parts) / f"{name_or_path}.yaml" if name_or_path in names else Path(name_or_path)
    if not path.is_file():
        raise SettingsError(f"{what} {name_or_path!r}: expected one of {', '.join(names)}, or the path of a YAML file.")
    return path


def read_mapping(path: Path) -> dict[Any, Any]:
    """The keys and values of a YAML file; {} where it is empty.

    Raises:
        SettingsError: the file is not readable as YAML or holds something else than keys and values.
    """
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: not readable as YAML; expected lines of `key: value`.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected lines of `key: value`, got a {type(values).__name__}.")
    return values


def build(kind: type[_T], values: Any, where: str) -> _T:
    """Make a dataclass, nested ones included, from plain values of its fields' types.

    Args:
        kind: the dataclass. Fields may be numbers, strings, bools, tuples of them, dataclasses, or None of these.
        values: a mapping from field names to values.
        where: what messages begin with: the file's name, and the keys that lead to the values.

    Raises:
        SettingsError: a key is unknown or missing, or a value is of the wrong type.
    """
    hints = get_type_hints(kind)
    return make(kind, values, where, lambda key, value: _convert(hints[key], value, f"{where}: {key}"))


def make(kind: type[_T], values: Any, where: str, convert: Callable[[str, Any], Any]) -> _T:
    """Make a dataclass from plain values; errors of its own checks get `where` in front.

    Args:
        kind: the dataclass.
        values: a mapping from field names to values.
        where: what messages begin with.
        convert: makes the value that a field takes, from the field's name and the plain value.

    Raises:
        SettingsError: a key is unknown or missing, or a value does not fit.
    """
    if not isinstance(values, dict):
        raise SettingsError(f"{where}: expected lines of `key: value`, got {values!r}.")
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise SettingsError(f"{where}: unknown key {', '.join(unknown)}; expected {', '.join(known)}.")
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    missing = [name for name in required if name not in values]
    if missing:
        raise SettingsError(f"{where}: {', '.join(missing)} must be given.")
    converted = {key: convert(key, value) for key, value in values.items()}
    try:
        return kind(**converted)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def number_as_meant(value: Any) -> Any:
    """Make a number of text that is one, as YAML reads a bare 1e-3 as text; leave anything else as it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) in (Union, UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        hint = next(choice for choice in get_args(hint) if choice is not type(None))
    if is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_convert(get_args(hint)[0], item, where) for item in value)
    if hint is float:
        value = number_as_meant(value)
    right = isinstance(value, (int, float) if hint is float else get_origin(hint) or hint) and (
        hint is bool or not isinstance(value, bool)
    )
    if not right:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise SettingsError(f"{where}: expected {words.get(hint, hint)}, got {value!r}.")
    return float(value) if hint is float else value
