"""The keys that every peer of a run is given: the same secrets and the same records for all of them.

Invariant: a key means the same everywhere. What a peer cannot express (permissions, expiry) it leaves out and says so
by not promising it; it never gets easier keys. Secrets come from the gateway's own generator: their checksum is real.

Turned down: keys committed to the repository. Secret scanners would (rightly) report them for ever.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from gateway.keys.identifiers import new_id
from gateway.keys.record import CredentialRecord
from gateway.keys.secret import digest, generate

PREFIX = "sk_"
ROUTE_PERMISSION = "api:read"
LONG_AGO = 1_000_000_000.0
FAR_AHEAD = 4_000_000_000.0


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A secret and what it stands for."""

    secret: str = field(repr=False)
    record: CredentialRecord


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """All keys of a run. `unknown` are well formed and stored nowhere; the four single ones must be refused."""

    good: tuple[KnownKey, ...]
    expired: KnownKey
    disabled: KnownKey
    revoked: KnownKey
    unpermitted: KnownKey
    unknown: tuple[str, ...]

    @property
    def stored(self) -> tuple[KnownKey, ...]:
        """Everything that belongs in a store."""
        return (*self.good, self.expired, self.disabled, self.revoked, self.unpermitted)

    def write_secrets(self, directory: Path) -> tuple[Path, Path]:
        """Write the good and the unknown secrets, one a line, for the load generator."""
        good, unknown = directory / "good_keys.txt", directory / "unknown_keys.txt"
        good.write_text("".join(f"{each.secret}\n" for each in self.good))
        unknown.write_text("".join(f"{each}\n" for each in self.unknown))
        return good, unknown


def make_keys(count: int = 1_000) -> KnownKeys:
    """Make `count` good keys of one organization, each with an owner of its own, and the refused ones."""
    organization = new_id("org")
    return KnownKeys(
        good=tuple(_key(organization, number) for number in range(count)),
        expired=_key(organization, count, expires_at=LONG_AGO),
        disabled=_key(organization, count + 1, disabled_at=LONG_AGO),
        revoked=_key(organization, count + 2, revoked_at=LONG_AGO),
        unpermitted=_key(organization, count + 3, permissions=("reports:read",)),
        unknown=tuple(generate(PREFIX) for _ in range(count)),
    )


def _key(  # one parameter per way in which a key can be refused
    organization: str,
    number: int,
    *,
    expires_at: float = FAR_AHEAD,
    disabled_at: float | None = None,
    revoked_at: float | None = None,
    permissions: tuple[str, ...] = ("api:read", "api:write", "reports:*"),
) -> KnownKey:
    secret = generate(PREFIX)
    record = CredentialRecord(
        digest=digest(secret.encode()),
        secret_id=new_id("sec"),
        secret_valid_until=None,
        key_id=new_id("key"),
        key_name=f"benchmark {number}",
        version=1,
        expires_at=expires_at,
        disabled_at=disabled_at,
        revoked_at=revoked_at,
        permissions=permissions,
        organization_id=organization,
        organization_external_id=None,
        owner_kind="service_account",
        owner_id=new_id("sva"),
        owner_name=f"service-{number}",
        owner_external_id=f"customer-{number}",
        owner_permissions=("*:*",),
    )
    return KnownKey(secret, record)


def as_json(keys: KnownKeys) -> str:
    """Return secret -> consumer id, what a look-up-only peer written in Python starts from."""
    return json.dumps({each.secret: each.record.owner_id for each in keys.good})
