"""The text of `config/gateway.toml`: every setting with its meaning, rule and default, ready to be edited.

Invariant: as it is, the file means the defaults and one upstream; with every setting uncommented it means the same, but
for those that are unset unless given, which show an example. Turned down: writing the file by hand, which is wrong one
release later.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from gateway.settings import kinds
from gateway.settings.model import Settings
from gateway.settings.toml_text import value_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from gateway.settings.kinds import Kind

WIDTH = 118
_OPENING = """\
#:schema ./gateway.schema.json

# Every setting of the gateway with its default: take the # away from the line of a setting to change it.
# Flags go before environment variables (GATEWAY__SERVER__LISTEN), those before this file, and this file before the
# defaults. `gateway check --config FILE` names every mistake at once; docs/settings.md is the same as a table.
"""


def commented_file() -> str:
    """Return the whole file."""
    lines = [_OPENING.rstrip("\n")]
    for table, model in kinds.walk(Settings):
        optional = kinds.at(Settings, table).optional
        lines += ["", "", *_comment(_summary(model)), f"{'#' if optional else ''}{kinds.header(table)}"]
        for name, kind in kinds.fields(model).items():
            if kind.model is None:
                lines += _setting(name, kind, model.model_fields[name], needed=not optional)
    return "\n".join(lines) + "\n"


def _setting(name: str, kind: Kind, info: FieldInfo, *, needed: bool) -> Iterator[str]:
    """`needed`: the table is there, so what it requires is, too."""
    rule = f" ({kind.rule()})" if kind.lowest is not None or kind.choices else ""
    unset = " Not set unless given; for example:" if kind.optional else ""
    yield ""
    yield from _comment(f"{info.description}{rule}{unset}")
    shown = info.examples[0] if info.examples else info.default
    yield f"{'' if needed and info.is_required() else '#'}{name} = {value_text(shown)}"


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
