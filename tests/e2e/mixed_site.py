"""One node for the mixed load: two workers, Redis, and SQLite or PostgreSQL behind; and its keys, good and bad."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.e2e.audit_site import WORKERS, RecordedSite
from tests.e2e.conftest import Command, starting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.audit_records import Records
    from tests.e2e.nodes import Seeded

FAULT_SECONDS: Final = 1.0
"""How long the gateway waits for the API where that is asked to be silent."""
IDLE_SECONDS: Final = 2.0


@contextmanager
def mixed_site(
    directory: Path, upstream_url: str, store_url: str, redis_url: str, seeded: Seeded, records: Records
) -> Iterator[RecordedSite]:
    """A gateway on a store that is there."""
    routes: list[dict[str, object]] = [
        {"name": "all", "path": "/m"},
        {"name": "stall", "path": "/m/stall", "head_timeout_seconds": FAULT_SECONDS},
        {"name": "stall-in-body", "path": "/m/stall-in-body", "body_timeout_seconds": FAULT_SECONDS},
        {"name": "admin", "path": "/admin", "permissions": ["mixed:write"]},
    ]
    upstream = {"name": "default", "targets": [upstream_url], "idle_timeout_seconds": IDLE_SECONDS}
    environ = {
        "SERVER__WORKERS": str(WORKERS),
        "SERVER__DRAIN_TIMEOUT_SECONDS": "10",
        "UPSTREAMS": json.dumps([upstream]),
        "ROUTES": json.dumps([{"upstream": "default", **route} for route in routes]),
        "STORE__URL": store_url,
        "REDIS__URL": redis_url,
        "AUDIT__REFUSALS_PER_SECOND": "100000",
    }
    with starting(Command(directory), directory) as start:
        named = {f"GATEWAY__{name}": value for name, value in environ.items()}
        yield RecordedSite(directory, start, named, seeded, records)


def bad_secrets(site: RecordedSite) -> dict[str, str]:
    """A secret for each refusal, by its code."""
    running = site.site
    limited = running.issue("limited", permissions=["mixed:read"])
    revoked = running.issue("revoked")
    with running.client() as client:
        client.keys.revoke(revoked.id)
    unknown = revoked.secret[:-12] + running.issue("unknown").secret[-12:]
    return {"invalid_api_key": unknown, "revoked_api_key": revoked.secret, "insufficient_permissions": limited.secret}
