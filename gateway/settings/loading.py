"""Load the settings: flags before the environment before the file before the defaults.

Invariant: the answer is either settings that are valid and agree with each other, or one ConfigurationError with every
problem of every source. Nothing is ever dropped, repaired or guessed. To find all problems at once, what is wrong by
itself is set aside, and the rest is asked whether it agrees. Turned down: stopping at the first source or stage that
has a problem, which turns three mistakes into three attempts to start.

This is the only door for settings that people wrote. The processes below receive the outcome and need no more than
`Settings.model_validate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gateway.errors import ConfigProblem, ConfigurationError
from gateway.settings import certificates, directories, forms
from gateway.settings.agreement import Disagreement, disagreements
from gateway.settings.complaints import Complaint, complaints
from gateway.settings.key_path import overlap, written
from gateway.settings.model import Settings
from gateway.settings.quoting import printable, shortened
from gateway.settings.sources import SHORTHAND, Origin, from_environment, from_file, from_flags, variable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from gateway.settings.key_path import KeyPath
    from gateway.settings.sources import Layer


NOWHERE = Origin("default", "settings")
IMPLIED_NAME = "default"
_MAX_SOURCE_CHARACTERS = 300  # a path with its line
_MAX_KEY_CHARACTERS = 120
_MAX_REASON_CHARACTERS = 800  # long lists of what there is
_STAND_INS: Mapping[str, Mapping[str, Any]] = {  # for what must be there, while the rest of a row is looked at
    "upstreams": {"name": "unnamed", "targets": ["http://localhost"]},
    "routes": {"name": "unnamed", "upstream": "unnamed"},
}
_NO_UPSTREAM = (
    "is missing: say which API to protect, with --upstream http://127.0.0.1:9000, "
    f"{variable((SHORTHAND,))}, or [[upstreams]] in the file that --config names"
)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and for each single one ("server.listen", "upstreams[0].name") where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    config: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    require_upstream: bool = False,
) -> LoadedSettings:
    """Load the settings, or raise ConfigurationError with every problem.

    `overrides` are flags by path ("server.listen"), or "upstream" for `--upstream`, as text. `require_upstream` makes
    the lack of any upstream a problem: of what runs the proxy, not of what only needs the store.
    """
    layers = [from_file(config)] if config is not None else []
    layers += [from_environment(environ or {}), from_flags(overrides or {})]
    problems = [problem for layer in layers for problem in layer.problems]
    data, origins = _merge(layers)
    problems += _expand_shorthand(layers, data, origins)
    settings, found, tainted = _judge(data)
    if config is not None and layers[0].problems:
        tainted.append(())  # what the file says is unknown, so nothing can be said to contradict it
    if require_upstream and not data.get("upstreams") and not _touched(("upstreams",), tainted):
        found.append((("upstreams",), _NO_UPSTREAM))
        tainted.append(("upstreams",))
    problems += [ConfigProblem(*_place(path, origins), reason) for path, reason in found]
    if settings is not None:
        problems += _disagreements(disagreements(settings), tainted, data, origins)
    if settings is not None and require_upstream:  # what only needs the store need not be able to read them
        for unusable in (certificates.problems(settings), directories.problems(settings)):
            problems += _disagreements((Disagreement(*each) for each in unusable), tainted, data, origins)
    if problems or settings is None:
        in_order = sorted(dict.fromkeys(problems), key=_reading_order)
        raise ConfigurationError([_presentable(problem) for problem in in_order])
    return LoadedSettings(settings, dict(_origins_of_values((), settings.model_dump(), data, origins)))


def _merge(layers: list[Layer]) -> tuple[dict[str, Any], dict[KeyPath, Origin]]:
    """Lay the layers over each other, last on top. A list is taken as a whole, never joined with another."""
    data: dict[str, Any] = {}
    origins: dict[KeyPath, Origin] = {}
    for layer in layers:
        for path, value in layer.values.items():
            table: Any = data
            for part in path[:-1]:
                table = table.setdefault(str(part), {}) if isinstance(table, dict) else None
            if isinstance(table, dict):  # else it is a mistake of the file, which will be complained about
                table[str(path[-1])] = value
            for hidden in [known for known in origins if known[: len(path)] == path]:
                del origins[hidden]
        origins.update(layer.origins)
    return data, origins


def _expand_shorthand(layers: list[Layer], data: dict[str, Any], origins: dict[KeyPath, Origin]) -> list[ConfigProblem]:
    """Make `--upstream URL` an upstream, and give a single upstream without routes the one route it must mean."""
    problems = []
    given = next((layer.shorthand for layer in reversed(layers) if layer.shorthand), None)
    if given and data.get("upstreams"):
        place = _origin(("upstreams",), origins).source
        reason = f"cannot be combined with the upstreams of {place}: leave one of them out"
        problems.append(ConfigProblem(given[1].source, SHORTHAND, reason))
    elif given:
        targets, origin = given
        data["upstreams"] = [{"name": IMPLIED_NAME, "targets": targets}]
        origins["upstreams",] = Origin(origin.kind, origin.source, SHORTHAND)
    match data:
        case {"routes": routes} if routes != []:  # an empty list says no more than no list
            pass
        case {"upstreams": [dict(upstream)]}:
            data["routes"] = [{"name": IMPLIED_NAME, "upstream": _usable_name(upstream)}]
            origins["routes",] = Origin("implied", "implied by the only upstream")
    return problems


def _usable_name(upstream: Mapping[Any, Any]) -> str:
    """Return the name of an upstream; where it is wrong, that is complained about at the upstream alone."""
    try:
        return forms.name(upstream["name"])
    except (KeyError, TypeError, ValueError):
        return str(_STAND_INS["upstreams"]["name"])


def _judge(data: dict[str, Any]) -> tuple[Settings | None, list[tuple[KeyPath, str]], list[KeyPath]]:
    """Validate, and where values are wrong, validate what is left without them.

    Returns what is left, what is wrong and why, and the settings about which nothing more can be said.
    """
    try:
        return Settings.model_validate(data), [], []
    except ValidationError as error:
        found = complaints(error.errors(include_url=False))
    tainted = [path for each in found for path in (each.path, each.meant) if path is not None]
    return _left_over(data, found), [(complaint.path, complaint.reason) for complaint in found], tainted


def _left_over(data: dict[str, Any], found: Iterable[Complaint]) -> Settings | None:
    """What is left without the wrong values; of an inner table as much as can be, else nothing."""
    for alone in (True, False):
        rest = _copied(data, levels=4)
        for complaint in found:
            _set_aside(rest, complaint.path, alone=alone)
        try:
            return Settings.model_validate(rest)
        except ValidationError:
            pass
    return None


def _copied(value: Any, *, levels: int) -> Any:  # noqa: ANN401 - whatever TOML holds
    """Copy as far down as `_set_aside` reaches. A deep copy would follow whatever nesting somebody wrote, and fail."""
    if levels and isinstance(value, dict):
        return {name: _copied(inner, levels=levels - 1) for name, inner in value.items()}
    if levels and isinstance(value, list):
        return [_copied(inner, levels=levels - 1) for inner in value]
    return value


def _set_aside(data: dict[str, Any], path: KeyPath, *, alone: bool) -> None:
    """Take a wrong value out of the data; rows of a list stay, so that indexes go on meaning the same.

    `alone`: of an inner table, such as server.tls, the value and not the table.
    """
    table = str(path[0])
    if len(path) == 1:
        data.pop(table, None)
    elif isinstance(path[1], str):
        _take_out(data[table], path[1:], alone=alone)
    elif table in data:
        row = data[table][path[1]]
        kept = row if isinstance(row, dict) else {}
        _take_out(kept, path[2:], alone=alone)
        data[table][path[1]] = {**_STAND_INS[table], **kept}


def _take_out(values: dict[str, Any], path: KeyPath, *, alone: bool) -> None:
    match path:
        case (str(name), str(inner), *_) if alone and isinstance(values.get(name), dict) and inner in values[name]:
            del values[name][inner]
        case (str(name), *_):
            values.pop(name, None)


def _disagreements(
    all_found: Iterable[Disagreement],
    tainted: list[KeyPath],
    data: Mapping[str, Any],
    origins: Mapping[KeyPath, Origin],
) -> Iterator[ConfigProblem]:
    """Name what does not fit together, at the first of the settings involved that somebody wrote."""
    for found in all_found:
        involved = (found.path, *found.also)
        if any(_touched(path, tainted) for path in involved):
            continue
        where = next((path for path in involved if _is_given(path, data)), found.path)
        yield ConfigProblem(_place(where, origins)[0], written(found.path), found.reason)


def _touched(path: KeyPath, tainted: list[KeyPath]) -> bool:
    return any(overlap(path, other) for other in tainted)


def _is_given(path: KeyPath, data: Any) -> bool:  # noqa: ANN401 - whatever TOML holds
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _origin(path: KeyPath, origins: Mapping[KeyPath, Origin]) -> Origin:
    """Return the origin of a setting, or of the nearest table around it."""
    return next((origins[path[:end]] for end in range(len(path), -1, -1) if path[:end] in origins), NOWHERE)


def _place(path: KeyPath, origins: Mapping[KeyPath, Origin]) -> tuple[str, str]:
    origin = _origin(path, origins)
    return origin.source, origin.key or written(path)


def _reading_order(problem: ConfigProblem) -> tuple[bool, str, int]:
    """Order problems as they stand in the file, and what stands on no line behind them."""
    file, _, line = problem.source.rpartition(":")
    return (False, file, int(line)) if line.isdecimal() else (True, problem.source, 0)


def _presentable(problem: ConfigProblem) -> ConfigProblem:
    """Bound and escape what names and other programs' messages bring along; values are, where they are quoted."""
    return ConfigProblem(
        printable(shortened(problem.source, _MAX_SOURCE_CHARACTERS)),
        printable(shortened(problem.key, _MAX_KEY_CHARACTERS)),
        printable(shortened(problem.reason, _MAX_REASON_CHARACTERS)),
    )


def _origins_of_values(
    path: KeyPath, value: object, data: object, origins: Mapping[KeyPath, Origin]
) -> Iterator[tuple[str, str]]:
    """Yield the origin of each single setting; what the data does not hold is a default."""
    match value:
        case dict():
            given = data if isinstance(data, dict) else {}
            for name, inner in value.items():
                yield from _origins_of_values((*path, name), inner, given.get(name), origins)
        case tuple([{}, *_]) if isinstance(data, list):
            for index, row in enumerate(value):
                yield from _origins_of_values((*path, index), row, data[index], origins)
        case _:
            yield written(path), "default" if data is None else _origin(path, origins).source
