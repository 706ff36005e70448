"""Every setting there is: its name, default, bounds and meaning, once.

The settings reference, the JSON Schema, the commented `config/gateway.toml`, the environment variables and the reasons
in error messages are all made from this file, so none of them can say something else. Each name ends in its unit.
Invariant: a value of these classes is valid by itself and never changes; whether the values agree with each other is
`agreement.py`'s question, which `loading.py` asks. Turned down: pydantic-settings, which reads the environment but
neither names all mistakes at once nor knows which line of which file a value came from. Values are strict: "4" is no
number in TOML, and a text that is taken for one hides a mistake.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.settings import forms, redis_url, server_urls

MEBIBYTE = 1 << 20
DAY_SECONDS = 86_400

Listen = Annotated[str, AfterValidator(forms.listen)]
Name = Annotated[str, AfterValidator(forms.name)]
Network = Annotated[str, AfterValidator(forms.network)]
TargetText = Annotated[str, AfterValidator(forms.target)]
HostPattern = Annotated[str, AfterValidator(forms.host_pattern)]
RoutePath = Annotated[str, AfterValidator(forms.route_path)]
Method = Annotated[str, AfterValidator(forms.method)]
Permission = Annotated[str, AfterValidator(forms.permission)]
Origin = Annotated[str, AfterValidator(forms.origin)]
FieldName = Annotated[str, AfterValidator(forms.field_name)]
TenantHeader = Annotated[str, AfterValidator(forms.tenant_header)]


class Section(BaseModel):
    """A table of settings: nothing unknown is accepted, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)


FileName = Annotated[str, AfterValidator(forms.file_name)]
TlsVersion = Literal["1.2", "1.3"]


class ServerTlsSettings(Section):
    """TLS in front: with this table the proxy's listener speaks HTTPS, and nothing else. docs/tls.md has the rest."""

    certificate_file: FileName = Field(
        min_length=1,
        examples=["/etc/keygate/fullchain.pem"],
        description="PEM file of the certificate, followed by those of the authorities in between.",
    )
    private_key_file: FileName = Field(
        min_length=1,
        examples=["/etc/keygate/privkey.pem"],
        description="PEM file of its private key, without a password.",
    )
    minimum_version: TlsVersion = Field(default="1.2", description="Oldest version of TLS that clients may speak.")


class ServerSettings(Section):
    """The proxy's listener: where clients connect, and what they may ask of it."""

    listen: Listen = Field(default="0.0.0.0:8080", description="Address that clients connect to, as host:port.")
    workers: int = Field(default=1, ge=1, le=256, description="Worker processes; about one per core.")
    backlog: int = Field(
        default=1024, ge=1, le=65_535, description="Connections that may wait to be accepted, per worker."
    )
    via: bool = Field(
        default=False, description="Add a Via field to what is forwarded; nginx upstreams then answer uncompressed."
    )
    me_path: RoutePath | None = Field(
        default=None,
        examples=["/users/me"],
        description="Path at which a key's holder is told who they are, instead of the API behind; unset is nowhere.",
    )
    drain_timeout_seconds: float = Field(
        default=30, ge=0, le=3600, description="How long a stopping worker lets requests in flight finish."
    )
    max_connections: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Client connections per worker; more are answered 503."
    )
    max_in_flight: int = Field(
        default=5000, ge=1, le=1_000_000, description="Requests in progress per worker; more are answered 503."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        strict=False,
        description="Networks of the proxies in front, whose X-Forwarded-* and X-Request-ID fields are believed.",
    )
    request_line_limit_bytes: int = Field(
        default=8192, ge=256, le=65_536, description="Longest request line; a longer one is answered 414."
    )
    header_section_limit_bytes: int = Field(
        default=32_768, ge=1024, le=MEBIBYTE, description="Largest header section; a larger one is answered 431."
    )
    header_count_limit: int = Field(
        default=100, ge=8, le=1000, description="Most header fields; more are answered 431."
    )
    client_head_timeout_seconds: float = Field(
        default=10, gt=0, le=3600, description="From the first byte of a request to the end of its header section."
    )
    client_idle_timeout_seconds: float = Field(
        default=75, gt=0, le=3600, description="How long a connection without a request is kept."
    )
    client_body_timeout_seconds: float = Field(
        default=60, gt=0, le=3600, description="Longest silence while a client sends a body or reads an answer."
    )
    client_body_min_bytes_per_second: int = Field(
        default=240,
        ge=0,
        le=MEBIBYTE,
        description="Least rate at which a client sends a body, or reads what waits for it, measured over "
        "client_body_timeout_seconds; time in which the upstream is the slow one is left out; 0 bounds silence alone.",
    )
    tls: ServerTlsSettings | None = Field(default=None, description="HTTPS for clients; unset is plain HTTP.")


class ControlSettings(Section):
    """The control listener: health, metrics and the admin API. Keep it off public networks."""

    listen: Listen = Field(default="127.0.0.1:8081", description="Address of the control listener, as host:port.")


class StoreSettings(Section):
    """Where keys, organizations and members are kept."""

    url: Annotated[str, AfterValidator(forms.store_url)] = Field(
        default="sqlite:///data/gateway.db",
        description="sqlite:///FILE, relative to the working directory (sqlite:////FILE: to the root), for one node; "
        "postgresql://user:password@host:5432/database?sslmode=verify-full for several.",
    )
    connections_per_worker: int = Field(
        default=4, ge=1, le=64, description="Most connections that each worker opens to PostgreSQL."
    )

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a file of this machine, else it is a PostgreSQL database that nodes share."""
        return self.url.startswith(forms.SQLITE_SCHEME)

    @property
    def sqlite_path(self) -> Path:
        """The file that `url` names, relative to the working directory where `url` is; ValueError where it is none."""
        return forms.store_path(self.url)


class RedisSettings(Section):
    """The key table that workers of all nodes share. The store stays the truth; without Redis, workers ask it alone."""

    url: Annotated[str, AfterValidator(redis_url.accepted_redis_url)] | None = Field(
        default=None,
        examples=["redis://127.0.0.1:6379/0"],
        description="redis://host:6379/0 (rediss:// with TLS), unix:///SOCKET, redis+sentinel://host:26379,host/SERVICE"
        " or redis+cluster://host:6379,host; unset is no Redis.",
    )
    namespace: Annotated[str, AfterValidator(server_urls.redis_namespace)] = Field(
        default="keygate", description="What all names in Redis begin with; one for each store."
    )
    timeout_milliseconds: int = Field(
        default=250, ge=10, le=10_000, description="Longest wait for Redis; the store is asked after that."
    )


class CacheSettings(Section):
    """What each worker remembers of keys, and for how long when no change is announced."""

    positive_ttl_seconds: float = Field(
        default=60, ge=0, le=DAY_SECONDS, description="How long a known key is believed without asking the store again."
    )
    negative_ttl_seconds: float = Field(
        default=5, ge=0, le=DAY_SECONDS, description="How long an unknown key is believed to be unknown."
    )
    max_entries: int = Field(default=100_000, ge=1, le=10_000_000, description="Known keys remembered per worker.")
    max_absent_entries: int = Field(
        default=10_000, ge=1, le=10_000_000, description="Unknown keys remembered per worker, apart from known ones."
    )
    max_stale_seconds: float = Field(
        default=0,
        ge=0,
        le=DAY_SECONDS,
        description="How long past its time a known key is still believed while the store cannot be asked; 0 is never.",
    )
    poll_interval_milliseconds: int = Field(
        default=50,
        ge=5,
        le=10_000,
        description="How often a worker asks the store for changed keys, where Redis does not tell of them.",
    )


class AuthSettings(Section):
    """How keys look, and what is said to those whose key is refused."""

    key_prefix: Annotated[str, AfterValidator(forms.key_prefix)] = Field(
        default="sk_", description="What new keys begin with; give each environment its own, such as sk_live_."
    )
    realm: Annotated[str, AfterValidator(forms.realm)] = Field(
        default="gateway", description="Realm named in the WWW-Authenticate field of a 401 answer."
    )
    error_detail: Literal["specific", "generic"] = Field(
        default="specific",
        description="specific tells the holder that a key is expired, revoked or disabled; generic calls all invalid.",
    )
    bare_authorization: bool = Field(
        default=False, description="Accept a key in Authorization without the word Bearer before it."
    )
    tenant_header: TenantHeader | None = Field(
        default=None,
        examples=["customer-id"],
        description="Field in which clients may name their organization, by id or external id; another one is a 403.",
    )


class LogSettings(Section):
    """The gateway's own log, written to the standard error stream."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity written.")
    format: Literal["text", "json"] = Field(default="text", description="Lines for people, or one JSON object each.")


class AuditSettings(Section):
    """The record of requests: who asked for what, when, and what became of it. Changes of keys are always on record."""

    record: Literal["all", "changes", "none"] = Field(
        default="all",
        description="all: every request is on record; changes and none: requests are not, what is done with keys is.",
    )
    directory: Annotated[str, AfterValidator(forms.new_file_name)] | None = Field(
        default=None,
        min_length=1,
        examples=["/var/lib/keygate"],
        description="Directory of the spool and of the daily files, on a local disk and for one gateway alone; unset is"
        " where the SQLite file of the store is, or data with PostgreSQL.",
    )
    retention_days: int = Field(default=90, ge=1, le=3650, description="How many days requests stay on record.")
    spool_limit_mebibytes: int = Field(
        default=1024, ge=64, le=MEBIBYTE, description="Most that waits on this machine to be taken into the store."
    )
    when_full: Literal["refuse", "drop_oldest"] = Field(
        default="refuse",
        description="At that limit: refuse answers requests 503; drop_oldest serves them and loses the oldest records.",
    )
    sync_interval_seconds: float = Field(
        default=1, ge=0.05, le=60, description="How often records are forced to disk; a power cut loses no more."
    )
    refusals_per_second: int = Field(
        default=100,
        ge=0,
        le=100_000,
        description="Refused requests on record one by one, per worker; more of them are counted by reason.",
    )
    ndjson: Annotated[str, AfterValidator(forms.new_file_name)] | None = Field(
        default=None,
        min_length=1,
        examples=["/var/log/keygate/requests.ndjson"],
        description='File that gets each record as a line of JSON too, or "stdout"; unset is none.',
    )


class UpstreamTlsSettings(Section):
    """TLS to an upstream: how its certificate is checked, and what it is shown of ours; for https targets."""

    verify: bool = Field(default=True, description="Check the certificate; false accepts any, for tests only.")
    ca_file: Annotated[str, AfterValidator(forms.file_name)] | None = Field(
        default=None,
        min_length=1,
        examples=["/etc/gateway/authorities.pem"],
        description="PEM file of the authorities to believe instead of the system's.",
    )
    server_name: Annotated[str, AfterValidator(forms.server_name)] | None = Field(
        default=None,
        examples=["api.internal"],
        description="Name expected in the certificate instead of the target's host.",
    )
    certificate_file: FileName | None = Field(
        default=None,
        min_length=1,
        examples=["/etc/keygate/client.pem"],
        description="PEM file of a client certificate, for upstreams that ask for one.",
    )
    private_key_file: FileName | None = Field(
        default=None,
        min_length=1,
        examples=["/etc/keygate/client-key.pem"],
        description="PEM file of its private key, without a password.",
    )
    minimum_version: TlsVersion = Field(default="1.2", description="Oldest version of TLS that is spoken with it.")


class UpstreamSettings(Section):
    """An HTTP API behind the gateway: one or more servers that answer alike."""

    name: Name = Field(examples=["default"], description="What routes and logs call it.")
    targets: Annotated[tuple[TargetText, ...], AfterValidator(forms.distinct_targets)] = Field(
        min_length=1,
        max_length=1000,
        strict=False,
        examples=[["http://127.0.0.1:9000"]],
        description="Its servers, each as http://host:port or https://host:port.",
    )
    balance: Literal["round_robin", "least_in_flight"] = Field(
        default="round_robin", description="Which of several targets gets the next request."
    )
    connect_timeout_seconds: float = Field(
        default=5, gt=0, le=3600, description="Longest wait for a connection (then 502)."
    )
    head_timeout_seconds: float = Field(
        default=60, gt=0, le=DAY_SECONDS, description="Longest wait for the head of a response (then 504)."
    )
    body_timeout_seconds: float = Field(
        default=300,
        gt=0,
        le=DAY_SECONDS,
        description="Longest silence within a response, or in a websocket of which one side has ended its half.",
    )
    idle_timeout_seconds: float = Field(
        default=4, ge=0, le=3600, description="How long an unused connection is kept; less than the upstream keeps it."
    )
    max_idle_connections: int = Field(
        default=512, ge=0, le=65_535, description="Unused connections kept per target and worker."
    )
    ejection_failures: int = Field(
        default=5, ge=0, le=1000, description="Failures in a row after which a target is left out; 0 is never."
    )
    ejection_seconds: float = Field(
        default=10, gt=0, le=3600, description="How long a failing target is left out before it is tried again."
    )
    health_path: Annotated[str, AfterValidator(forms.health_path)] | None = Field(
        default=None,
        examples=["/health"],
        description="Path asked for regularly on each target; a status below 400 is healthy; unset is off.",
    )
    health_interval_seconds: float = Field(default=5, gt=0, le=3600, description="Time between two health checks.")
    health_timeout_seconds: float = Field(default=2, gt=0, le=3600, description="Longest wait for a health check.")
    tls: UpstreamTlsSettings = Field(default=UpstreamTlsSettings(), description="For https targets.")


class CorsSettings(Section):
    """Which pages of other origins may use a route, and what they may send and read; without this table, none may."""

    allow_origins: Annotated[tuple[Origin, ...], AfterValidator(forms.distinct)] = Field(
        strict=False,
        min_length=1,
        max_length=1000,
        examples=[["https://app.example.com"]],
        description='Origins whose pages may use the route, or "*" for all.',
    )
    allow_methods: Annotated[tuple[Method, ...], AfterValidator(forms.distinct)] = Field(
        default=(), strict=False, description="Methods that pages may use; empty is every method that the route serves."
    )
    allow_headers: Annotated[tuple[FieldName, ...], AfterValidator(forms.distinct)] = Field(
        default=(),
        strict=False,
        description="Fields that pages may send, besides those of a key, Content-Type and the tenant header.",
    )
    expose_headers: Annotated[tuple[FieldName, ...], AfterValidator(forms.distinct)] = Field(
        default=(),
        strict=False,
        description="Fields that pages may read, besides X-Request-ID, Retry-After and WWW-Authenticate.",
    )
    allow_credentials: bool = Field(default=False, description="Let pages send cookies; not together with *.")
    max_age_seconds: int = Field(
        default=600, ge=0, le=DAY_SECONDS, description="How long a browser may remember the answer to a preflight."
    )


class RouteSettings(Section):
    """Which requests go to which upstream, and what they need for it. The longest path that fits wins."""

    name: Name = Field(examples=["default"], description="What logs call it.")
    hosts: Annotated[tuple[HostPattern, ...], AfterValidator(forms.distinct)] = Field(
        default=(), strict=False, description='Hosts, as "example.com" or "*.example.com"; empty is every host.'
    )
    path: RoutePath = Field(default="/", description="Path that is covered, with everything below it.")
    case_insensitive: bool = Field(default=False, description="Match the path in any case.")
    methods: Annotated[tuple[Method, ...], AfterValidator(forms.distinct)] = Field(
        default=(), strict=False, description="Methods; empty is every method."
    )
    upstream: Name = Field(examples=["default"], description="Name of the upstream that answers.")
    auth: Literal["required", "optional", "none"] = Field(
        default="required",
        description="required: a valid key is needed; optional: it may be absent, not wrong; none: it is ignored.",
    )
    permissions: Annotated[tuple[Permission, ...], AfterValidator(forms.distinct)] = Field(
        default=(), strict=False, description='Permissions that the key needs, all of them, such as "orders:read".'
    )
    cors: CorsSettings | None = Field(default=None, description="For pages of other origins; unset is none.")
    strip_prefix: bool = Field(default=False, description="Forward the path without the part that the route names.")
    preserve_host: bool = Field(default=False, description="Forward the client's Host instead of the target's.")
    rewrite_location: bool = Field(
        default=True, description="Make a Location that points at the target point at the gateway."
    )
    forward_credential: bool = Field(default=False, description="Let the upstream see the key itself.")
    allow_encoded_slash: bool = Field(default=False, description="Accept %2F in paths, which servers read differently.")
    allow_semicolon: bool = Field(
        default=False, description="Accept ; and %3B in paths, which servers read differently."
    )
    normalize_path: bool = Field(
        default=True,
        description="Forward plain characters decoded and repeated slashes merged; strip_prefix always does.",
    )
    allow_method_override: bool = Field(
        default=False, description="Forward X-HTTP-Method-Override, X-Original-URL and their like."
    )
    max_body_bytes: int | None = Field(
        default=None,
        ge=0,
        le=1 << 40,
        examples=[10_485_760],
        description="Largest request body (then 413); unset is no limit.",
    )
    head_timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=DAY_SECONDS,
        examples=[120],
        description="Instead of the upstream's head_timeout_seconds.",
    )
    body_timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=DAY_SECONDS,
        examples=[600],
        description="Instead of the upstream's body_timeout_seconds.",
    )


class Settings(Section):
    """All settings of a gateway, as its processes receive them."""

    server: ServerSettings = Field(default=ServerSettings(), description="The proxy's listener.")
    control: ControlSettings = Field(default=ControlSettings(), description="The control listener.")
    store: StoreSettings = Field(default=StoreSettings(), description="Where keys are kept.")
    redis: RedisSettings = Field(default=RedisSettings(), description="The key table that workers share.")
    cache: CacheSettings = Field(default=CacheSettings(), description="What workers remember of keys.")
    auth: AuthSettings = Field(default=AuthSettings(), description="How keys look and how they are refused.")
    audit: AuditSettings = Field(default=AuditSettings(), description="The record of requests.")
    log: LogSettings = Field(default=LogSettings(), description="The gateway's own log.")
    upstreams: tuple[UpstreamSettings, ...] = Field(
        default=(), strict=False, description="The HTTP APIs behind the gateway."
    )
    routes: tuple[RouteSettings, ...] = Field(
        default=(), strict=False, description="Which requests go to which upstream."
    )

    @property
    def audit_directory(self) -> Path:
        """Where the spool and the daily files are: `audit.directory`, or the place that stands for it."""
        if self.audit.directory is not None:
            return Path(self.audit.directory)
        return self.store.sqlite_path.parent if self.store.is_sqlite else Path("data")
