"""A request under judgement, without anything around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.cache.key_cache import Entry


@dataclass
class Head:
    """The credential fields, and the ordinary ones."""

    api_key: bytes | None
    authorization: bytes | None
    forwarded: list[bytes] = field(default_factory=list)


@dataclass
class Rules:
    """What a route demands."""

    optional: bool = False
    permissions: tuple[str, ...] = ()


class Subject:
    """A PolicySubject."""

    def __init__(
        self,
        api_key: bytes | None = None,
        authorization: bytes | None = None,
        *,
        route: Rules | None = None,
        now: float = 1000.0,
        forwarded: list[bytes] | None = None,
    ) -> None:
        self.head = Head(api_key, authorization, forwarded or [])
        self.route = route or Rules()
        self.now = now
        self.secret: bytes | None = None
        self.passes_authorization = False
        self.entry: Entry | None = None
        self.known: Entry | None = None
