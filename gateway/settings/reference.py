"""The text of `docs/settings.md`: how settings are given, and a table of all of them.

Invariant: names, defaults, rules and meanings come from the model; only the prose about giving them is written here,
beside the code that it describes. Turned down: a documentation generator, a tool chain for two pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.settings import kinds
from gateway.settings.model import Settings
from gateway.settings.restart import RESTART_NEEDED
from gateway.settings.toml_text import value_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from gateway.settings.kinds import Kind

_PROSE = """\
# Settings

<!-- Made from gateway/settings/model.py by `python -m gateway.settings.generate`: change it there. -->

Everything has a default but the API to protect. For a first try that is enough:

    gateway run --upstream http://127.0.0.1:9000

For more, name a TOML file with `--config FILE`; [config/gateway.toml](../config/gateway.toml) shows every setting, and
[config/example.toml](../config/example.toml) a small real one. Editors that know JSON Schema take
[config/gateway.schema.json](../config/gateway.schema.json). No file is looked for by itself; the variable
`GATEWAY_CONFIG` names one where `--config` does not.

## Where a value comes from

The first that has it: a flag, an environment variable, the file, the default.
`gateway config show --origin` prints the settings in force and where each came from.

- A variable is `GATEWAY__`, the section, `__` and the setting, in capitals: `GATEWAY__CACHE__POSITIVE_TTL_SECONDS=30`.
- With `_FILE` behind it, the variable names a file that holds the value, as container secrets do:
  `GATEWAY__STORE__URL_FILE=/run/secrets/store-url`. One line end at its end is not part of the value.
- Lists are separated by commas, or JSON: `GATEWAY__SERVER__TRUSTED_PROXIES=10.0.0.0/8,192.168.0.1`.
- `GATEWAY__UPSTREAM=http://api:9000` is `--upstream`: one upstream called `default`, and a route to it for every
  request. Several addresses, separated by commas, are servers that answer alike.
- Upstreams and routes belong in the file. `GATEWAY__UPSTREAMS` and `GATEWAY__ROUTES` take the whole list as JSON.
- An unknown or misspelt name, in a file or in a variable that begins with `GATEWAY__`, is an error, never ignored.

A single upstream without any route gets the route `default`, for every request. Of several routes that fit a request,
the one with the most exact host wins, then the one with the longest path, then one that lists the method.

## When something is wrong

`gateway check --config FILE` and every start name all mistakes at once, each with the file and line (or the variable or
flag), the setting and the reason, and exit with status 78:

    gateway.toml:3: server.worker: is not a setting; did you mean workers?
    gateway.toml:9: cache.positive_ttl_seconds: must be a number from 0 to 86_400, not "1m"
    gateway.toml:17: routes[1].upstream: names "biling", which is no upstream; did you mean "billing"?

What hangs on a wrong value is judged once that one is right: the files of a table that lacks one of them, say, or a
route to an upstream whose name is wrong. Of a file that is no TOML, only that is said. Files of certificates and keys,
and `audit.directory`, are looked at by the user who asks, so ask as the one that the gateway runs as. A certificate
that has expired or will within 14 days is a warning: it is told by `gateway check`, a start and a reload, and none of
them fails for it.

## When they change

`gateway reload`, or SIGHUP to a gateway that was started without a terminal, reads the same file, flags and variables
again. Every process is replaced by one with the new settings, without losing a request. If anything is wrong, nothing
changes and every mistake is named. A SIGHUP that comes while a reload is under way is one more reload after it. A
restart is needed, and a reload is refused, where one of these differs:
RESTART_NEEDED.

## How values are written

Positions in lists count from 0. Times are numbers of what the name ends in and may have a fraction where the rule says
"a number". Numbers may have `_` between digits.
"""


def reference() -> str:
    """Return the whole page."""
    fixed = ", ".join(f"`{name}`" for name in RESTART_NEEDED)
    parts = [_PROSE.replace("RESTART_NEEDED", fixed)]
    for table, model in kinds.walk(Settings):
        parts.append(f"\n## `{kinds.header(table)}`\n\n{' '.join((model.__doc__ or '').split())}\n\n")
        parts.append("| setting | default | must be | meaning |\n|---|---|---|---|\n")
        parts.extend(_rows(model))
    return "".join(parts)


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, kind in kinds.fields(model).items():
        if kind.model is None:
            info = model.model_fields[name]
            yield f"| `{name}` | {_default(info)} | {_rule(kind)} | {info.description} |\n"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "needed"
    return "not set" if info.default is None else f"`{value_text(info.default)}`"


def _rule(kind: Kind) -> str:
    return kind.rule().replace("|", "\\|")
