"""TOML file + environment -> frozen dataclass; unknown keys and wrong types are errors that name the place.

Each program declares its own dataclass (`daemon/settings.py`, `server/settings.py`); this module only fills it in.
It has no defaults of its own.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tokenbridge.errors import SetupError

T = TypeVar("T")

MAX_BYTES = 1 << 20


def load(cls: type[T], path: Path | None, *, prefix: str, environ: Mapping[str, str] | None = None) -> T:
    """An instance of the dataclass `cls` from the TOML file `path` (may be absent) and variables `<prefix>_<FIELD>`.

    The environment wins. Raises `SetupError` that names file and key.
    """
    values = _read(path) if path is not None and path.exists() else {}
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - names)
    if unknown:
        raise SetupError(f"{path}: unknown setting {', '.join(unknown)}",
                         next_step=f"Known settings: {', '.join(sorted(names))}")  # fmt: skip
    result = {k: _convert(v, hints[k], f"{path}: {k}") for k, v in values.items()}
    env = os.environ if environ is None else environ
    for name in names:
        variable = f"{prefix}_{name.upper()}"
        if variable in env:
            result[name] = _convert(_from_text(env[variable], hints[name]), hints[name], variable)
    return cls(**result)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SetupError(f"{path} is too large to be a settings file")
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise SetupError(f"{path} can't be read: {err}") from err


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _from_text(text: str, hint: Any) -> Any:
    kinds = _alternatives(hint)
    if bool in kinds:
        words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        return words.get(text.lower(), text)
    for number in (int, float):
        if number in kinds:
            try:
                return number(text)
            except ValueError:
                return text
    if any(typing.get_origin(k) is tuple for k in kinds):
        return [part for part in text.split(os.pathsep) if part]
    return text


def _convert(value: Any, hint: Any, where: str) -> Any:
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is tuple and isinstance(value, list):
            inner = typing.get_args(kind)[0]
            return tuple(_convert(item, inner, where) for item in value)
        if kind is Path and isinstance(value, str):
            return Path(value).expanduser()
        if kind is float and type(value) in (int, float):
            return float(value)
        if isinstance(kind, type) and type(value) is kind:
            return value
    raise SetupError(f"{where}: {value!r} is not of the right type")


def xdg(variable: str, fallback: str, environ: Mapping[str, str] | None = None) -> Path:
    """A base directory of the XDG specification, e.g. `xdg("XDG_STATE_HOME", ".local/state")`."""
    env = os.environ if environ is None else environ
    value = env.get(variable, "")
    return Path(value) if value.startswith("/") else Path(env.get("HOME", "/")) / fallback
