"""Settings as TOML text, for `gateway config show`: what is written here loads back to the same settings.

Invariant: the text holds no password, and every setting appears; one that is unset appears as a comment, as TOML has no
word for it. Turned down: a TOML writing library, which would keep neither the comments nor the order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from gateway.settings import kinds
from gateway.settings.key_path import written
from gateway.settings.quoting import between_quotes, printable, redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gateway.settings.key_path import KeyPath
    from gateway.settings.loading import LoadedSettings


def show(loaded: LoadedSettings, *, origin: bool = False) -> str:
    """Return the settings in force as a TOML file; with `origin`, each with the place it came from."""
    lines = list(_table((), loaded.settings, loaded.origins if origin else {}))
    return "\n".join(lines).strip("\n") + "\n"


def value_text(value: object) -> str:
    """Return a single value as TOML. The password of an address is hidden."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return kinds.number(value) if value == int(value) else repr(value)
        case tuple() | list():
            return f"[{', '.join(value_text(item) for item in value)}]"
        case _:
            return f'"{between_quotes(redact(str(value)))}"'


def _table(path: KeyPath, table: BaseModel, origins: Mapping[str, str]) -> Iterator[str]:
    """Yield a table's own settings before its inner tables: TOML would take them for settings of the last of those."""
    kinds_by_name = kinds.fields(type(table))
    if path:
        yield ""
        yield kinds.header(path)
    for name, kind in kinds_by_name.items():
        if kind.model is None:
            yield _line((*path, name), getattr(table, name), origins)
    for name, kind in kinds_by_name.items():
        if kind.model is not None:
            yield from _inner_tables((*path, name), getattr(table, name), origins)


def _inner_tables(path: KeyPath, value: object, origins: Mapping[str, str]) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from _table(path, value, origins)
    elif value is None:
        yield ""
        yield f"# {kinds.header(path)} is not set"
    elif isinstance(value, tuple):
        for index, row in enumerate(value):
            yield from _inner_tables((*path, index), row, origins)


def _line(path: KeyPath, value: object, origins: Mapping[str, str]) -> str:
    text = f"# {path[-1]} is not set" if value is None else f"{path[-1]} = {value_text(value)}"
    origin = origins.get(written(path))
    return f"{text:<50}  # {printable(origin)}" if origin and value is not None else text
