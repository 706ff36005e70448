"""What the admin API answers with, as typed objects; a test holds them against docs/openapi.json.

Invariant: a gateway that is newer than this client must not break it. So fields that are unknown here are passed over
(`raw` has them, just as they were sent), and tokens that may grow, such as a status, are texts. `repr` and `str` of
any shape leave secrets out, so that none gets into a log by the way; `raw` and `model_dump` have them.

Times are aware, in UTC. Turned down: generating this file from the OpenAPI document; generated names say less, and
what has to agree can be tested.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

Item = TypeVar("Item", bound="Shape")


class Shape(BaseModel):
    """Frozen. Made by `read`, from the object of an answer."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
    _raw: Mapping[str, object] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(cls, document: Mapping[str, object]) -> Self:
        """Read an answer. Raises pydantic's ValidationError."""
        made = cls.model_validate(document)
        made._raw = document  # noqa: SLF001 - of this very class
        return made

    @property
    def raw(self) -> Mapping[str, object]:
        """The answer's JSON object as it came, the secret of a new key included. Empty for parts of an answer."""
        return self._raw


class SilentWorker(Shape):
    """A worker that has not answered; from `until` on it certainly serves nothing from what it remembers."""

    name: str
    until: datetime


class Propagation(Shape):
    """How far a change has come: `applied` of `of` workers have it; `silent` names those that have not said so.

    `seq` is null where nothing had to be changed. `of` is 0 where no worker runs.
    """

    seq: int | None = None
    applied: int
    of: int
    milliseconds: int
    silent: tuple[SilentWorker, ...] = ()


class Actor(Shape):
    """Who did something: `API Key: …`, `Member: …` or `System`."""

    id: str | None
    text: str


class Owner(Shape):
    """Whose key it is: `kind` is "member" (then `name` is the e-mail address) or "service_account"."""

    id: str
    kind: str
    name: str


class LastUse(Shape):
    """The newest request made with a key."""

    at: datetime
    address: str
    user_agent: str | None


class PreviousSecret(Shape):
    """The secret that a rotation replaced, while it is still good."""

    tail: str | None
    valid_until: datetime
    last_used: LastUse | None


class Key(Shape):
    """A key. `status`: active, disabled, expired or revoked. `permissions` is None where it inherits its owner's.

    `last_used` is of whichever secret, `secret_last_used` of the present one; None: no use is recorded.
    """

    id: str
    organization_id: str
    name: str
    description: str
    prefix: str | None
    tail: str | None
    status: str
    expires_soon: bool
    permissions: tuple[str, ...] | None
    allowed_origins: tuple[str, ...] | None = None
    owner: Owner
    created_at: datetime
    created_by: Actor
    expires_at: datetime | None
    disabled_at: datetime | None
    disabled_by: Actor | None
    revoked_at: datetime | None
    revoked_by: Actor | None
    revoked_reason: str | None
    last_used: LastUse | None
    secret_last_used: LastUse | None = None
    previous_secret: PreviousSecret | None = None
    imported: bool = False
    version: int


class ChangedKey(Key):
    """A key after a change."""

    propagation: Propagation


class Warned(Shape):
    """Something that was done as asked, and may not be what was meant."""

    code: str
    detail: str


class ChangedImportedKey(ChangedKey):
    """The answer to an import."""

    warnings: tuple[Warned, ...] = ()


class IssuedKey(Key):
    """A key with its new secret: shown this once.

    `secret` is None, and `code` "secret_already_issued", where an earlier answer to the same request has shown it.
    """

    secret: str | None = Field(repr=False)
    code: str | None = None
    warnings: tuple[Warned, ...] = ()


class ChangedIssuedKey(IssuedKey):
    """The answer to a create or a rotation."""

    propagation: Propagation


class Verification(Shape):
    """Whether a secret is good, and for what. `code` says why not, None where it is."""

    valid: bool
    code: str | None
    key: Key | None
    permissions: tuple[str, ...]


class Member(Shape):
    """A person. `role`: admin or member."""

    id: str
    organization_id: str
    email: str
    role: str
    permissions: tuple[str, ...]
    external_id: str | None
    created_at: datetime
    version: int


class ChangedMember(Member):
    """A member after a change."""

    propagation: Propagation


class AddedMember(ChangedMember):
    """A new member; `key` is their first one, where it was asked for."""

    key: IssuedKey | None = None


class KeysLeft(Shape):
    """What became of the keys of an owner who was removed."""

    revoked: int
    moved: int
    moved_to: Owner | None


class RemovedMember(ChangedMember):
    """The last state of a member."""

    keys: KeysLeft


class ServiceAccount(Shape):
    """An owner of keys that is no person."""

    id: str
    organization_id: str
    name: str
    description: str
    permissions: tuple[str, ...]
    external_id: str | None
    created_at: datetime
    version: int


class ChangedServiceAccount(ServiceAccount):
    """A service account after a change."""

    propagation: Propagation


class RemovedServiceAccount(ChangedServiceAccount):
    """The last state of a service account."""

    keys: KeysLeft


class Organization(Shape):
    """An organization and its rules for keys. `default_expiry`, `max_expiry`: presets; `max_expiry` None: no bound."""

    id: str
    name: str
    external_id: str | None
    default_expiry: str
    max_expiry: str | None
    keys_create_requires_admin: bool
    keys_revoke_requires_admin: bool
    created_at: datetime
    version: int


class ChangedOrganization(Organization):
    """An organization after a change."""

    propagation: Propagation


class FoundedOrganization(ChangedOrganization):
    """A new organization, with its first member and the key to hand to them; None once these have gone."""

    member: Member | None
    key: IssuedKey | None


class MyOwner(Owner):
    """Whose key the calls are made with. `role` is None for a service account; `permissions`: what the owner holds."""

    role: str | None
    permissions: tuple[str, ...]
    external_id: str | None


class MyOrganization(Shape):
    """The organization of that key. `operator`: it is the one that operates the gateway."""

    id: str
    name: str
    external_id: str | None
    operator: bool


class Me(Shape):
    """Who the calling key is. `permissions`: what it may do now, by its own list and its owner's permissions.

    `uses_recorded`: where the gateway does not record requests, that a key has no last use tells nothing.
    """

    key: Key
    owner: MyOwner
    organization: MyOrganization
    permissions: tuple[str, ...]
    uses_recorded: bool = False


class Page(Shape, Generic[Item]):
    """One page of a list; `next_cursor` is None on the last one."""

    items: tuple[Item, ...]
    next_cursor: str | None


class Permission(Shape):
    """A permission that is known here, and from where: `source` is gateway, route or granted."""

    permission: str
    source: str


class PermissionList(Shape):
    """All of them."""

    items: tuple[Permission, ...]


class EventTarget(Shape):
    """What was acted upon, by the name it had then."""

    kind: str
    id: str
    name: str


class RequestDetail(Shape):
    """One request to the proxy. `outcome`: answered, refused, aborted, open or interrupted; `code`: why refused."""

    method: str | None
    path: str | None
    route: str | None
    upstream: str | None
    status: int | None
    outcome: str
    bytes_in: int
    bytes_out: int
    duration_milliseconds: float
    user_agent: str | None
    code: str | None
    secret_id: str | None


class Event(Shape):
    """An entry of what is on record: `kind` is "change" or "request", and `request` None for a change.

    `before` and `after` hold the fields that changed, never a secret; both are None for a request.
    """

    id: str
    kind: str = "change"
    at: datetime
    actor: Actor
    action: str
    target: EventTarget
    address: str | None
    request_id: str | None
    before: Mapping[str, object] | None
    after: Mapping[str, object] | None
    request: RequestDetail | None = None


class HourCount(Shape):
    """How many requests of one hour had one outcome: 1xx to 5xx, aborted, or "refused:" and the code."""

    hour: datetime
    outcome: str
    requests: int


class HourCounts(Shape):
    """All that there were, the oldest hour first."""

    items: tuple[HourCount, ...]


class SegmentDifference(Shape):
    """A segment of what workers wrote that the store does not agree with."""

    spool: str
    segment: int
    first_at: datetime | None
    last_at: datetime | None
    expected: int
    found: int
    missing: int
    surplus: int
    damaged_bytes: int


class AuditVerification(Shape):
    """Whether all that workers wrote is on record. `complete`: nothing is missing, surplus or damaged."""

    complete: bool
    segments: int
    expected: int
    found: int
    missing: int
    surplus: int
    damaged_bytes: int
    differences: tuple[SegmentDifference, ...]


class WorkerFigures(Shape):
    """What a worker did since its start. `feed`: how it hears of changes, redis, store or none."""

    feed: str
    proven_for_seconds: float
    hits: int
    misses: int
    hits_absent: int
    lookups_discarded: int
    lookup_failures: int
    evictions: int
    changes: int
    entries: int
    absent_entries: int
    oldest_entry_seconds: float
    connections: int
    in_flight: int
    requests: int


class WorkerStatus(Shape):
    """A worker of any node. `figures`: None for those of other nodes than the one that answers (`own`)."""

    name: str
    node: str
    host: str
    pid: int
    own: bool
    applied: int | None
    lag: int | None
    silent_seconds: float
    figures: WorkerFigures | None


class StoreStatus(Shape):
    """The store: whether it answers, and the newest change in its log."""

    reachable: bool
    head: int | None


class RedisStatus(Shape):
    """The shared key table: whether it answers and holds every key, and the newest change that it has."""

    reachable: bool
    complete: bool
    relayed: int | None
    rebuilds: int


class RecordingStatus(Shape):
    """The record of requests on the node that answers.

    `lag_seconds`: None where another process records, and until the store has said how far it has them.
    """

    active: bool
    lag_seconds: float | None
    store_reachable: bool
    spool_bytes: int
    waiting_bytes: int
    spool_limit_bytes: int
    entries: int
    damaged_bytes: int
    unrecorded_refusals: int
    dropped_segments: int
    ndjson_failures: int
    workers_blocked: int


class Status(Shape):
    """The gateway, as the node that answers sees it. `redis`: None where none is configured.

    `recording`: None where requests are not recorded.
    """

    version: str
    node: str
    host: str
    settings_loaded_at: datetime | None
    reloads: int
    reloads_failed: int
    workers_ready: int
    workers_of: int
    store: StoreStatus
    redis: RedisStatus | None
    recording: RecordingStatus | None = None
    workers: tuple[WorkerStatus, ...]


class Reloaded(Shape):
    """A reload that is done; `changed` names the settings that differ from before.

    `warnings`: a sentence for each certificate that has expired, or will soon.
    """

    changed: tuple[str, ...]
    warnings: tuple[str, ...] = ()
