"""Where settings come from: one file, the environment, flags. Each source becomes a layer of values with their origins.

Invariant: reading a source never stops at its first mistake, and never lets an unknown name pass: a misspelt variable
that is silently ignored is a setting that somebody believes to be in force. Turned down: looking for a file in several
places. The file is the one that is named; which settings hold must not depend on the directory.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.errors import ConfigProblem
from gateway.settings import kinds
from gateway.settings.key_path import nearest, written
from gateway.settings.kinds import Kind, Shape
from gateway.settings.model import Settings
from gateway.settings.quoting import quoted
from gateway.settings.toml_lines import lines_of_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from gateway.settings.key_path import KeyPath

VARIABLE_PREFIX = "GATEWAY__"
FILE_SUFFIX = "_FILE"
SHORTHAND = "upstream"  # the one name outside the model: a whole upstream and its route from one address
_SHORTHAND_KIND = Kind(Shape.LIST)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from. `source` is what a problem names first; `key` replaces the path where it says more."""

    kind: str
    source: str
    key: str = ""


@dataclass(slots=True)
class Layer:
    """The values of one source by path (tables of a file as they are), where each came from, and what was wrong."""

    values: dict[KeyPath, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)
    shorthand: tuple[Any, Origin] | None = None


@cache
def settable() -> dict[KeyPath, Kind]:
    """Return what can be set outside a file: every single setting, and the lists of tables as wholes."""
    found: dict[KeyPath, Kind] = {(SHORTHAND,): _SHORTHAND_KIND}
    found.update(_single(Settings, ()))
    return found


def _single(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[tuple[KeyPath, Kind]]:
    for name, kind in kinds.fields(model).items():
        if kind.shape is Shape.TABLE and kind.model is not None:
            yield from _single(kind.model, (*above, name))
        else:
            yield (*above, name), kind


def variable(path: KeyPath) -> str:
    """Return the environment variable of a path."""
    return VARIABLE_PREFIX + "__".join(str(part).upper() for part in path)


def from_file(path: Path) -> Layer:
    """Read a TOML file. What its values mean is judged later; that it is TOML is judged here."""
    layer = Layer()
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        layer.problems.append(ConfigProblem(str(path), "file", "does not exist"))
    except UnicodeDecodeError as error:
        layer.problems.append(ConfigProblem(str(path), "file", f"is not UTF-8 text (byte {error.start})"))
    except tomllib.TOMLDecodeError as error:
        layer.problems.append(_syntax_problem(path, text, str(error)))
    except RecursionError:
        layer.problems.append(ConfigProblem(str(path), "file", "is nested too deeply"))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        layer.problems.append(ConfigProblem(str(path), "file", f"cannot be read: {_why(error)}"))
    else:
        layer.values = {(name,): value for name, value in tables.items()}
        layer.origins = {key: Origin("file", f"{path}:{line}") for key, line in lines_of_keys(text).items()}
        layer.origins[()] = Origin("file", str(path))
    return layer


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Read the variables that begin with GATEWAY__, and the files that those ending in _FILE name."""
    layer, known = Layer(), {variable(path): path for path in settable()}
    for name in sorted(environ):
        if not name.startswith(VARIABLE_PREFIX):
            layer.problems.extend(_almost_ours(name, known))
            continue
        plain = name.removesuffix(FILE_SUFFIX) if name not in known else name
        path = known.get(plain)
        if path is None:
            layer.problems.append(_unknown_variable(name, known))
        elif plain != name and plain in environ:
            layer.problems.append(ConfigProblem(name, written(path), f"is also set by {plain}: leave one of them out"))
        else:
            _read_variable(layer, name, path, environ[name], from_file=plain != name)
    return layer


def from_flags(overrides: Mapping[str, str]) -> Layer:
    """Read values given on the command line, by the path of their setting."""
    layer, known = Layer(), {written(path): path for path in settable()}
    for name, text in overrides.items():
        origin = Origin("flag", "--upstream" if name == SHORTHAND else "command line")
        if name in known:
            _put(layer, known[name], text, origin)
        else:
            layer.problems.append(ConfigProblem(origin.source, name, "is not a setting" + _did_you_mean(name, known)))
    return layer


def _read_variable(layer: Layer, name: str, path: KeyPath, text: str, *, from_file: bool) -> None:
    if from_file:
        try:
            text = re.sub(r"\r?\n\Z", "", Path(text).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = f"names {quoted(text)}, which cannot be read: {_why(error)}"
            layer.problems.append(ConfigProblem(name, written(path), reason))
            return
    _put(layer, path, text, Origin("environment", name))


def _put(layer: Layer, path: KeyPath, text: str, origin: Origin) -> None:
    try:
        value = kinds.parse(text, settable()[path])
    except ValueError as error:
        layer.problems.append(ConfigProblem(origin.source, written(path), str(error)))
        return
    if path == (SHORTHAND,):
        layer.shorthand = (value, origin)
    else:
        layer.values[path], layer.origins[path] = value, origin


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _syntax_problem(path: Path, text: str, message: str) -> ConfigProblem:
    """Move the line to where it belongs. `tomllib` ends its messages in "(at line 3, column 7)" up to Python 3.14."""
    found = re.fullmatch(r"(.*?)\s*\(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
    if not found:
        return ConfigProblem(str(path), "syntax", message)
    line, column = found.group(2) or str(text.rstrip("\n").count("\n") + 1), found.group(3)
    reason = found.group(1)[:1].lower() + found.group(1)[1:]
    return ConfigProblem(
        f"{path}:{line}", "syntax", f"{reason} (column {column})" if column else f"{reason} (at the end)"
    )


def _unknown_variable(name: str, known: Mapping[str, KeyPath]) -> ConfigProblem:
    path = name.removeprefix(VARIABLE_PREFIX).lower().replace("__", ".")
    if re.match(r"(?i)GATEWAY__(UPSTREAMS|ROUTES)_", name):
        reason = "cannot be set one by one in the environment: write upstreams and routes in the file"
        return ConfigProblem(name, path, reason)
    return ConfigProblem(name, path, "is not a setting" + _did_you_mean(name, known))


def _almost_ours(name: str, known: Mapping[str, KeyPath]) -> Iterator[ConfigProblem]:
    """Catch GATEWAY_STORE_URL and gateway__store__url, which differ from ours in underscores and case alone."""
    if not name.upper().startswith("GATEWAY_"):
        return
    for ours, path in known.items():
        if re.sub("_+", "_", name.upper()).removesuffix(FILE_SUFFIX) == re.sub("_+", "_", ours):
            yield ConfigProblem(name, written(path), f"has no effect under this name; did you mean {ours}?")


def _did_you_mean(name: str, known: Mapping[str, object]) -> str:
    lowered = {candidate.lower(): candidate for candidate in known}
    meant = nearest(name.lower(), lowered)
    return f"; did you mean {lowered[meant]}?" if meant else ""
