"""A store that is moved away, replaced or held: nothing unproven is trusted, and what needs no store goes on."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from gateway.errors import StoreBusy
from gateway.store.sqlite_reader import SqliteReader
from tests.e2e.site import CONTROL, WORKER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site
    from tests.e2e.wire import Message

    Eventually = Callable[[Callable[[], object]], None]
    Serve = Callable[..., Site]

_TTL_SECONDS = 1.0


@pytest.fixture
def site(serve: Serve, upstream_module: RecordingUpstream) -> Site:
    """Its cache believes for a second; /open needs no key."""
    routes = [{"name": "open", "path": "/open", "auth": "none"}, {"name": "rest", "path": "/"}]
    ttl = str(_TTL_SECONDS)
    return serve(upstream_module.url, routes, CACHE__POSITIVE_TTL_SECONDS=ttl, CACHE__NEGATIVE_TTL_SECONDS=ttl)


def _moved(site: Site) -> Path:
    """Take the store's name away: the file goes on existing, and so does whatever has it open."""
    away = site.store.with_name("away.db")
    with closing(sqlite3.connect(site.store)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return site.store.rename(away)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Lock a store that nobody has open, so that nobody can read it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("UPDATE store_identity SET epoch = epoch")
        yield
        connection.execute("ROLLBACK")


def _code(answer: Message) -> str:
    return str(answer.json()["code"]) if answer.status >= 400 else "ok"


def _restart_worker(site: Site, eventually: Eventually) -> None:
    (worker,) = site.processes(WORKER)
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: site.processes(WORKER) not in ([], [worker]))


def test_a_key_that_was_revoked_while_the_store_was_away_dies_within_its_ttl(
    site: Site, eventually: Eventually
) -> None:
    """The file that lost its name is read no more, however much is asked, and a store in its place counts at once."""
    key = site.issue("to be revoked")
    assert site.get("/", key.secret).status == 200
    away = _moved(site)
    moved = time.monotonic()
    codes: list[tuple[float, str]] = []
    while not codes or codes[-1][1] == "ok":
        asked = time.monotonic()
        codes.append((asked, _code(site.get("/", key.secret))))
    assert codes[-1][1] == "key_store_unavailable"
    assert all(asked < moved + _TTL_SECONDS for asked, code in codes if code == "ok")
    assert [_code(site.get("/", key.secret)) for _ in range(20)] == ["key_store_unavailable"] * 20
    assert site.get("/open").status == 200

    with closing(sqlite3.connect(away)) as connection:
        with connection:
            connection.execute("UPDATE keys SET revoked_at = 1 WHERE id = ?", (key.id,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # into the file, whoever else has it open by another name
    away.rename(site.store)
    eventually(lambda: _code(site.get()) == "ok")
    assert _code(site.get("/", key.secret)) == "revoked_api_key"


def test_a_worker_that_was_stopped_meanwhile_asks_no_file_that_has_lost_its_name(site: Site) -> None:
    """Not even for the first request that it finds, before it has looked for changes."""
    (worker,) = site.processes(WORKER)
    with site.wire() as connection:
        request = ("GET / HTTP/1.1", "Host: x", f"X-API-KEY: {site.secret}")
        assert connection.ask(*request).status == 200
        os.kill(worker, signal.SIGSTOP)
        try:
            _moved(site)
            connection.send(*request)
            time.sleep(_TTL_SECONDS)
        finally:
            os.kill(worker, signal.SIGCONT)
        assert _code(connection.read_answer()) == "key_store_unavailable"


def test_a_backup_that_is_renamed_into_place_counts_at_once(serve: Serve, upstream_module: RecordingUpstream) -> None:
    """Although it is of the same epoch and has as many changes by then; the cache believes for a day."""
    site = serve(upstream_module.url, CACHE__POSITIVE_TTL_SECONDS="86400")
    with closing(sqlite3.connect(site.store)) as connection, closing(sqlite3.connect(f"{site.store}.bak")) as backup:
        connection.backup(backup)
    lost = site.issue("lost with the store that is replaced")
    assert site.get("/", lost.secret).status == 200
    with closing(sqlite3.connect(f"{site.store}.bak")) as backup, backup:
        (head,) = backup.execute("SELECT max(seq) FROM key_changes").fetchone()
        for seq in range(head + 1, head + 5):
            backup.execute("INSERT INTO key_changes VALUES (?, 'key', 'key_other', 1)", (seq,))
    _moved(site)
    shutil.move(f"{site.store}.bak", site.store)
    deadline = time.monotonic() + 5
    while site.get("/", lost.secret).status == 200:
        assert time.monotonic() < deadline
    assert _code(site.get("/", lost.secret)) == "invalid_api_key"
    assert site.get().status == 200


@pytest.mark.parametrize("outage", ["moved away", "held", "no permission"])
def test_a_worker_that_starts_while_the_store_cannot_be_read_comes_up_without_it(
    site: Site, eventually: Eventually, outage: str
) -> None:
    """Keys are answered 503 until it can be read, which is noticed by itself; what needs no key is served."""
    assert site.get().status == 200
    away = _moved(site)
    eventually(lambda: _code(site.get()) == "key_store_unavailable")  # so the worker has let go of the file
    if outage == "moved away":
        _assert_comes_up_without_a_store(site, eventually)
        away.rename(site.store)
    elif outage == "held":
        (control,) = site.processes(CONTROL)
        os.kill(control, signal.SIGKILL)  # it has the file open as well; the next one does not find it
        eventually(lambda: site.processes(CONTROL) not in ([], [control]))
        with _held(away):
            away.rename(site.store)
            with pytest.raises(StoreBusy):
                SqliteReader(site.store)
            _assert_comes_up_without_a_store(site, eventually)
    else:
        away.chmod(0)
        if os.access(away, os.R_OK):
            pytest.skip("root may read everything")
        away.rename(site.store)
        _assert_comes_up_without_a_store(site, eventually)
        site.store.chmod(0o600)
    (worker,) = site.processes(WORKER)
    eventually(lambda: _code(site.get()) == "ok")
    assert site.processes(WORKER) == [worker]


def _assert_comes_up_without_a_store(site: Site, eventually: Eventually) -> None:
    _restart_worker(site, eventually)
    assert _code(site.get()) == "key_store_unavailable"
    assert site.get("/open").status == 200
    assert site.ask("GET / HTTP/1.1").status == 401  # no key is no key
