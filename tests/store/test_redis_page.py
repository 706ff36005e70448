"""The lines of docs/redis.md that are to be copied do what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from gateway.keys.change import Change
from gateway.keys.projection import LogPosition, WorkerPresence
from gateway.store import redis_link
from gateway.store.key_table import KeyTable
from gateway.store.redis_link import RedisRefused, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.redis import RedisServer

PAGE: Final = (Path(__file__).parents[2] / "docs/redis.md").read_text()
LINES: Final = re.findall(r"^    user keygate (.*)$", PAGE, re.MULTILINE)
PRESENCE: Final = WorkerPresence("n:worker-0:7", "n", "host", "worker-0", 7, 60.0, None)


async def test_the_user_of_the_page_may_do_all_that_gateways_do_and_nothing_else(
    redis_server: Callable[..., RedisServer],
) -> None:
    redis = redis_server()
    assert redis.ask("ACL", "SETUSER", "keygate", *LINES[0].split()) == b"+OK"
    link = connect(redis.url.replace("redis://", "redis://keygate:PASSWORD@"), timeout_seconds=2)
    table = KeyTable(link)
    build = await table.begin_build()
    assert build is not None
    assert await build.fill([(b"x" * 32, None)], 3)
    assert await build.install(LogPosition("e", 3), Change(3, "key", "key_1", 1)) == 0
    given_up = await table.begin_build()
    assert given_up is not None
    await given_up.give_up()
    at, state = await table.state()
    assert state is not None
    messages = table.follow()
    assert await anext(messages) is None
    assert await table.put(state, 4, [(b"y" * 32, None)])
    assert await table.advance(state, Change(4, "key", "key_1", 2), 4, [])
    assert await anext(messages) is not None
    await messages.aclose()
    assert await table.stamp(at, LogPosition("e", 4))
    assert (await table.find(b"x" * 32)).complete
    pulse = await table.pulse(PRESENCE)
    assert (pulse.head, pulse.stamp and pulse.stamp.head) == (4, 4)
    assert set(await table.presences()) == {PRESENCE.id}
    await table.leave(PRESENCE.id)
    assert await table.presences() == {}
    for allowed in [("PING",), ("SELECT", 0), ("ROLE",), ("CLIENT", "SETNAME", "keygate")]:
        await link.call(*allowed)
    for refused in [("FLUSHALL",), ("KEYS", "*"), ("GET", "other"), ("PUBLISH", "other", "x"), ("CONFIG", "GET", "*")]:
        with pytest.raises(RedisRefused) as error:
            await link.call(*refused)
        assert error.value.kind == "NOPERM"
    await table.close()


async def test_the_user_for_sentinels_is_written_as_redis_reads_it(redis_server: Callable[..., RedisServer]) -> None:
    """A server that is no sentinel knows no such command; that it may be said is what counts."""
    redis = redis_server()
    words = [word for word in LINES[1].split() if "sentinel" not in word]
    assert redis.ask("ACL", "SETUSER", "keygate", *words) == b"+OK"


def test_each_advice_of_the_log_that_an_operator_must_follow_is_on_the_page() -> None:
    for kind in ("NOAUTH", "WRONGPASS", "NOPERM", "READONLY", "OOM", "MISCONF", "WRONGTYPE"):
        first = redis_link._ADVICE[kind].partition(":")[0].partition(" (")[0].partition(";")[0]
        assert first.partition(" of redis.url")[0] in PAGE.replace("the user of redis.url", "the user"), kind
