"""The way to Redis: one connection on which any number of callers ask, and others for what it announces.

Invariants:
- A call ends within the link's time-out, with the answer or with `RedisUnavailable`; nothing is tried again beyond it.
- A connection on which an answer is overdue is closed, as it may be half open: the next call makes a new one. After an
  attempt that failed, calls fail at once for a moment, so that a Redis that is away costs few callers its time-out.
- Redis answers in the order of the questions, so whoever gives up waiting leaves its place in the queue behind.
- Where Redis moved (a failover, a cluster's slot), the old connection is closed: what is asked `on` a connection is
  never answered by another server.
- No text here holds a password.

Turned down: redis-py's asyncio client. A command takes it 55 µs and a connection of its own, where this takes 7 µs and
64 callers share one connection (their questions travel together); it would cost each worker 10 MB. The parser is the
same, hiredis. Clusters need no map of slots here: all our keys are in one slot, and every node says who has it.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator
from typing import Final

import hiredis

from gateway.errors import ConfigProblem, ConfigurationError, RedisUnavailable
from gateway.settings.redis_url import RedisAddress, parse_redis_url
from gateway.store.redis_connection import Connection, ConnectionLost, Reply, Unread, Word

_LONGEST_REFUSAL: Final = 300
_PORT_DIGITS: Final = 5
_AVOID_SECONDS: Final = 0.2
_LISTENING_PING_SECONDS: Final = 1.0
_MOST_HOPS: Final = 3
"""How often one call follows to where Redis says that the keys are."""
_CLIENT_NAME: Final = "keygate"

_MOVED_ON: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING"})
"""Answers after which the connection leads to the wrong server, or to none that serves."""

_ADVICE: Final = {
    "NOAUTH": "it asks for a password: write it in redis.url",
    "WRONGPASS": "it does not accept the user name and password of redis.url",
    "NOPERM": "the user of redis.url may not do what is needed; docs/redis.md has the lines of its ACL",
    "READONLY": "it is a replica that may not be written to: redis.url must lead to the primary",
    "OOM": "its memory is full (maxmemory): give it more; docs/redis.md says how much is needed",
    "MISCONF": "it refuses to write because it cannot save its data: see its log and its disk",
    "WRONGTYPE": "a name of ours holds something else there: choose another redis.namespace, or delete that key",
    "LOADING": "it is still loading its data",
    "CLUSTERDOWN": "its cluster is down",
    "MASTERDOWN": "it is a replica whose primary is away",
    "NOREPLICAS": "too few of its replicas are connected (min-replicas-to-write)",
    "BUSY": "a script blocks it",
}


class RedisRefused(RedisUnavailable):
    """Redis answered, with an error. `kind` is its first word, such as READONLY."""

    def __init__(self, kind: str, detail: str, *, internal: str) -> None:
        super().__init__(detail, internal=internal)
        self.kind = kind


class RedisLink:
    """The way to the one Redis server that has our keys, wherever it is at the moment."""

    def __init__(self, address: RedisAddress, *, timeout_seconds: float) -> None:
        """No I/O yet."""
        self._address = address
        self._timeout = timeout_seconds
        self._tls: ssl.SSLContext | None = None
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._where: tuple[str, int] | None = None
        """Who has our keys: what sentinels or the cluster's nodes said last."""
        self._turn = 0
        """Which of several servers is asked first."""
        self._failed: tuple[float, RedisUnavailable] | None = None
        self._closed = False

    def __str__(self) -> str:
        """Name it for people, without user and password."""
        return str(self._address)

    @property
    def database(self) -> int:
        """Which of the server's databases has our keys; a Cluster has one alone."""
        return 0 if self._address.kind == "cluster" else self._address.database

    # --- asking -------------------------------------------------------------------------------------------------------

    async def call(self, *words: Word, on: Connection | None = None) -> Reply:
        """One command, and its answer. `on`: only over this connection. Raises RedisUnavailable, RedisRefused."""
        return (await self.ask(*words, on=on))[0]

    async def ask(self, *words: Word, on: Connection | None = None) -> tuple[Reply, Connection]:
        """As `call`, and the connection that the answer came over."""
        connection = None
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(_MOST_HOPS):
                    connection = await self.connection()
                    if on is not None and connection is not on:
                        raise RedisUnavailable("Redis was connected to anew.", internal="what was read before is void")
                    try:
                        return await connection.ask(words), connection
                    except hiredis.ReplyError as error:
                        if on is not None or not self._follow(str(error), connection):
                            raise self._refusal(str(error), connection) from None
        except TimeoutError:
            overdue = self._unavailable(f"no answer within {self._timeout:g} s")
            if connection is not None:
                connection.close()
                self._avoid(overdue)
            raise overdue from None
        except ConnectionLost as lost:
            raise self._unavailable(f"the connection was lost: {lost}") from None
        raise self._unavailable("it sends on from server to server")

    async def connection(self) -> Connection:
        """The connection that is open, or a new one; callers of one moment share the attempt."""
        if self._connection is not None and not self._connection.is_closed:
            return self._connection
        if self._closed:
            raise RedisUnavailable("The link to Redis is closed.")
        if self._connecting is None:
            if self._failed is not None:
                since, failure = self._failed
                if asyncio.get_running_loop().time() - since < _AVOID_SECONDS:
                    raise RedisUnavailable(failure.detail, internal=failure.internal)
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connected)
        # One caller that gives up must not end the attempt of the others.
        return await asyncio.shield(self._connecting)

    async def close(self) -> None:
        """Doing it twice is harmless; nothing can be asked afterwards."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, RedisUnavailable):
                await self._connecting
        if self._connection is not None:
            self._connection.close()

    # --- listening ----------------------------------------------------------------------------------------------------

    async def subscribe(self, channel: str) -> AsyncGenerator[bytes | None, None]:
        """None when the subscription holds, then each message. Raises RedisUnavailable when it no longer does.

        On a connection of its own, which is asked for a sign of life while nothing comes, and given up when Redis has
        moved.
        """
        connection = await self._open_listening()
        where = self._where
        unread = Unread(connection)
        connection.send(("SUBSCRIBE", channel))
        pinged = True  # the confirmation is as good as the answer to a ping
        try:
            while True:
                unread.arrived.clear()
                while unread.replies:
                    reply, pinged = unread.take(), False
                    if isinstance(reply, hiredis.ReplyError):
                        raise self._refusal(str(reply), connection)
                    match reply:
                        case [b"subscribe", *_]:
                            yield None
                        case [b"message", _, bytes(message)]:
                            yield message
                        case [b"pong", *_]:
                            pass
                        case _:
                            raise self._unavailable("the subscription is answered in a way that is not understood")
                if connection.is_closed or where != self._where:
                    raise self._unavailable("the subscription was lost")
                pinged = await self._hear(connection, unread.arrived, pinged=pinged)
        finally:
            connection.close()

    async def _hear(self, connection: Connection, arrived: asyncio.Event, *, pinged: bool) -> bool:
        """Wait until something comes, and ask for a sign of life where nothing does; whether one is waited for."""
        try:
            async with asyncio.timeout(self._timeout if pinged else _LISTENING_PING_SECONDS):
                await arrived.wait()
        except TimeoutError:
            if pinged:
                raise self._unavailable(f"no answer within {self._timeout:g} s") from None
            connection.send(("PING",))
            return True
        return pinged

    async def _open_listening(self) -> Connection:
        try:
            async with asyncio.timeout(self._timeout):
                await self.connection()  # finds out where to go, and fails at once where that has just failed
                return await self._open_right_server()
        except TimeoutError:
            raise self._unavailable(f"no connection within {self._timeout:g} s") from None

    # --- finding the server, and connecting ---------------------------------------------------------------------------

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._open_right_server()
        except TimeoutError:
            raise self._unavailable(f"no connection within {self._timeout:g} s") from None

    def _connected(self, done: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._connection, self._failed = done.result(), None
            if self._closed:
                self._connection.close()
        elif isinstance(error, RedisUnavailable):
            self._avoid(error)

    def _avoid(self, error: RedisUnavailable) -> None:
        """Fail at once for a moment, and begin with another server then."""
        self._failed = asyncio.get_running_loop().time(), error
        self._turn += 1
        if self._address.kind == "cluster":
            self._where = None

    async def _open_right_server(self) -> Connection:
        address = self._address
        if address.kind == "unix":
            return await self._open(None)
        if address.kind == "server":
            return await self._open(address.servers[0])
        if address.kind == "cluster" and self._where is not None:
            return await self._open(self._where)
        errors: list[str] = []
        servers = address.servers
        for place in range(len(servers)):
            server = servers[(self._turn + place) % len(servers)]
            try:
                # Any node of a cluster will do: it says who has our keys when it is asked for them.
                if address.kind == "cluster":
                    return await self._open(server)
                self._where = await self._ask_sentinel(server)
                return await self._open(self._where, primary=True)
            except RedisUnavailable as error:
                errors.append(error.internal)
        raise self._unavailable("; ".join(errors))

    async def _ask_sentinel(self, server: tuple[str, int]) -> tuple[str, int]:
        connection = await self._open(server, as_sentinel=True)
        try:
            found = await connection.ask(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service))
        except hiredis.ReplyError as error:
            raise self._refusal(str(error), None) from None
        except ConnectionLost as lost:
            raise self._unavailable(f"a sentinel was lost: {lost}") from None
        finally:
            connection.close()
        match found:
            case [bytes(host), bytes(port)] if port.isdigit() and len(port) <= _PORT_DIGITS:
                return host.decode(errors="replace"), int(port)
        raise self._unavailable(f'the sentinel {server[0]}:{server[1]} knows no service "{self._address.service}"')

    async def _open(
        self, server: tuple[str, int] | None, *, primary: bool = False, as_sentinel: bool = False
    ) -> Connection:
        """Connect, and say who we are. No time-out of its own: the caller's counts."""
        loop = asyncio.get_running_loop()
        connection = None
        try:
            if server is None:
                _, connection = await loop.create_unix_connection(Connection, self._address.socket)
            else:
                tls = self._tls_context()
                _, connection = await loop.create_connection(
                    Connection, *server, ssl=tls, server_hostname=server[0] if tls else None
                )
            connection.server = server
            await self._greet(connection, primary=primary, as_sentinel=as_sentinel)
        except (
            OSError,
            ValueError,
            OverflowError,
            ConnectionLost,
        ) as error:  # of a name or port that no host can have
            name = self._address.socket if server is None else f"{server[0]}:{server[1]}"
            raise self._unavailable(f"{name}: {str(error) or type(error).__name__}") from None
        except hiredis.ReplyError as error:
            raise self._refusal(str(error), None) from None
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        return connection

    async def _greet(self, connection: Connection, *, primary: bool, as_sentinel: bool) -> None:
        address = self._address
        user, password = address.username, address.password
        if as_sentinel:
            user, password = address.sentinel_username, address.sentinel_password
        asked = []
        if password is not None:
            asked.append(connection.ask(("AUTH", user, password) if user else ("AUTH", password)))
        if address.database and not as_sentinel:
            asked.append(connection.ask(("SELECT", address.database)))
        named = connection.ask(("CLIENT", "SETNAME", _CLIENT_NAME))
        role = connection.ask(("ROLE",)) if primary else None
        try:
            for each in asked:
                await each
            with contextlib.suppress(hiredis.ReplyError):  # a name is for people; a user need not be allowed to have it
                await named
            found = None if role is None else await role
        except BaseException:
            connection.close()
            raise
        if primary and not (isinstance(found, list) and found[:1] == [b"master"]):
            connection.close()
            raise self._unavailable("the sentinels name a server that is no primary (yet)")

    def _tls_context(self) -> ssl.SSLContext | None:
        address = self._address
        if address.tls and self._tls is None:
            try:
                context = ssl.create_default_context(cafile=address.ca_file)
                if address.cert_file is not None:
                    context.load_cert_chain(address.cert_file, address.key_file)
            except OSError as error:  # ssl.SSLError is one
                raise self._unavailable(f"the files for TLS in redis.url cannot be read: {error}") from None
            self._tls = context
        return self._tls

    # --- what Redis refuses -------------------------------------------------------------------------------------------

    def _follow(self, refusal: str, connection: Connection) -> bool:
        """Whether the same question may be asked again right away, of the server that has our keys."""
        kind, *rest = refusal.split(" ")
        if kind != "MOVED" or connection.server is None or len(rest) != 2:  # noqa: PLR2004 - slot and server
            return False
        host, _, port = rest[1].rpartition(":")
        if self._address.kind != "cluster" or not port.isdecimal() or len(port) > _PORT_DIGITS:
            return False
        self._where = host.strip("[]") or connection.server[0], int(port)  # no host: the one that was asked, again
        connection.close()
        return True

    def _refusal(self, text: str, connection: Connection | None) -> RedisRefused:
        text = text[:_LONGEST_REFUSAL]
        kind = text.partition(" ")[0]
        if "Redis allow-oom" in text or "-OOM " in text:
            kind = "OOM"
        error = RedisRefused(kind, f"Redis ({self}) refuses: {_ADVICE.get(kind, 'see its answer')}.", internal=text)
        if kind in _MOVED_ON and connection is not None:
            connection.close()
            self._where = None
            self._avoid(error)
        return error

    def _unavailable(self, why: str) -> RedisUnavailable:
        return RedisUnavailable(f"Redis ({self}) cannot be asked.", internal=why)


def connect(url: str, *, timeout_seconds: float) -> RedisLink:
    """Make a link, which connects when it is first asked. Raises ConfigurationError for an address of no known form."""
    try:
        address = parse_redis_url(url)
    except ValueError as error:
        raise ConfigurationError([ConfigProblem("redis", "redis.url", str(error))]) from None
    return RedisLink(address, timeout_seconds=timeout_seconds)
