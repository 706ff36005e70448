"""What a peer is: a proxy that can be started on a port in front of the upstream, and what it claims to do.

Invariant: a peer is measured only after every claim it makes has been seen to hold (`benchmarks/probe.py`); a row that
fails is named and left out. A table of speeds of proxies that do unequal work unnoticed was the alternative.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from benchmarks.known_keys import KnownKeys
from benchmarks.processes import find_program


class Promise(Enum):
    """A piece of work that a peer claims to do on each request."""

    CONSUMER_HEADER = auto()  # tells the upstream whose key it was, and nobody else can
    IDENTITY_HEADERS = auto()  # all five identity headers, forged ones of any spelling dropped
    HIDES_CREDENTIAL = auto()  # the upstream never sees the key
    BEARER = auto()  # takes `Authorization: Bearer` as well
    STATUS = auto()  # refuses expired, disabled and revoked keys
    PERMISSIONS = auto()  # refuses a key that lacks the route's permission, with 403
    REQUEST_ID = auto()  # the same X-Request-ID to the upstream and in the answer
    FORWARDED = auto()  # X-Forwarded-For, -Proto and -Host written anew
    PROBLEM_JSON = auto()  # refusals are application/problem+json


EVERYTHING = frozenset(Promise)

# The one that is installed for this interpreter: without -P, a checkout in the working directory would be run instead.
INSTALLED_GATEWAY = (sys.executable, "-P", "-m", "gateway")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a peer runs: a directory of its own, its port, the upstream's, and the keys it must know.

    `gateway` is the command line that is measured, where the peer is Keygate.
    """

    directory: Path
    port: int
    upstream_port: int
    keys: KnownKeys
    gateway: tuple[str, ...] = INSTALLED_GATEWAY


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the comparison.

    `missing` returns why the peer cannot run here, or None. `command` writes what the peer needs into its site and
    returns the command that runs it in the foreground. `worker_marker` tells the processes that move requests from the
    rest of the tree by their command line; None where all of them do.
    """

    name: str
    title: str
    promises: frozenset[Promise]
    missing: Callable[[], str | None]
    command: Callable[[Site], list[str]]
    worker_marker: str | None = None


def render(template: Path, **values: str) -> str:
    """Fill in `@NAME@` places; `string.Template` would trip over nginx's own `$variables`."""

    def value(place: re.Match[str]) -> str:
        return values[place[1]]

    return re.sub(r"@([A-Z_]+)@", value, template.read_text())


def template(name: str) -> Path:
    """Return the path of a configuration template kept beside the peers."""
    return Path(__file__).with_name(name)


def needs(program: str, *files: str) -> Callable[[], str | None]:
    """Return a check for a program on PATH (or in sbin) and for files such as modules."""

    def missing() -> str | None:
        if find_program(program) is None:
            return f"{program} is not installed"
        return next((f"{file} is not installed" for file in files if not Path(file).exists()), None)

    return missing
