"""What is done to a gateway and its surroundings while the mixed load runs, at moments that follow from a seed.

Invariant: every fault is written down with its beginning and its end, before anybody judges what clients saw; and what
it explains is stated here, once: a cut connection by the kill of a worker, a 502 or a broken-off answer by the restart
of the upstream, and nothing by anything else. Only processes of the gateway and servers of the test are touched.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.e2e.audit_site import kill

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.e2e.audit_site import RecordedSite
    from tests.e2e.mixed_load import Failed, MixedUpstream
    from tests.servers.redis import RedisServer

GENTLE: Final = ("upstream", "redis", "sleep")
DEADLY: Final = ("reload", "worker", "control", "worker", "reload")
_SEEN_SECONDS: Final = 3.0
"""A client on a busy machine may see the end of its connection this much later."""
_NOTICED_SECONDS: Final = 1.0
"""This long something may still be sent, by either side, on a connection whose end it has not read yet."""


@dataclass(frozen=True)
class Fault:
    """One, as it was. Moments by CLOCK_MONOTONIC."""

    name: str
    began: float
    ended: float
    detail: str = ""

    def explains(self, failed: Failed) -> bool:
        """Whether it may be the reason of what a client saw."""
        if not self.began <= failed.at <= self.ended + _SEEN_SECONDS:
            return False
        if self.name == "worker":
            return failed.what == "cut" and failed.sent <= self.began + _NOTICED_SECONDS
        if self.name == "upstream" and failed.sent <= self.ended + _NOTICED_SECONDS:
            return failed.what == "502 upstream_unreachable" or (failed.what == "cut" and failed.begun)
        return False


def unexplained(failures: Sequence[Failed], faults: Sequence[Fault]) -> list[Failed]:
    """Those that no fault is the reason of: each is a wrong answer. One kill cuts the connections of one worker."""
    left = []
    cut: dict[Fault, dict[str, list[Failed]]] = defaultdict(lambda: defaultdict(list))
    for failed in failures:
        reasons = [fault for fault in faults if fault.explains(failed)]
        if not reasons:
            left.append(failed)
        elif len(reasons) == 1 and reasons[0].name == "worker" and failed.worker:
            cut[reasons[0]][failed.worker].append(failed)
    for workers in cut.values():
        killed = max(workers, key=lambda worker: len(workers[worker]))
        left += [failed for worker, others in workers.items() if worker != killed for failed in others]
    return left


class Faults:
    """Does them, one after the other."""

    def __init__(self, site: RecordedSite, upstream: MixedUpstream, redis: RedisServer, seed: int) -> None:
        self._site, self.upstream, self._redis = site, upstream, redis
        self._chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.done: list[Fault] = []
        self._works: dict[str, Callable[[], str]] = {
            "upstream": self._restart_upstream,
            "redis": self._restart_redis,
            "sleep": self._stop_a_worker,
            "reload": self._reload,
            "worker": self._kill_a_worker,
            "control": self._kill_control,
        }

    def once(self, names: Sequence[str], pause_seconds: float) -> None:
        """Each of these, in this order, with time between them."""
        for name in names:
            time.sleep(pause_seconds)
            self._do(name)
        time.sleep(pause_seconds)

    def during(self, names: Sequence[str], seconds: float, pause_seconds: tuple[float, float]) -> None:
        """All of these in any order, then all again, for so long."""
        until = time.monotonic() + seconds
        deck: list[str] = []
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, self._chance.uniform(*pause_seconds)))
            if not deck:
                deck = self._chance.sample(names, len(names))
            if time.monotonic() < until:
                self._do(deck.pop())

    def end(self) -> None:
        """The upstream's, whichever it is by now."""
        self.upstream.close()

    def _do(self, name: str) -> None:
        began = time.monotonic()
        detail = self._works[name]()
        self.done.append(Fault(name, began, time.monotonic(), detail))

    def _wait(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "the gateway is not whole again"
            time.sleep(0.02)

    def _restart_upstream(self) -> str:
        self.upstream.kill()
        time.sleep(self._chance.uniform(0.0, 0.5))
        self.upstream = self.upstream.again()
        return ""

    def _restart_redis(self) -> str:
        self._redis.process.kill()
        time.sleep(self._chance.uniform(0.1, 1.5))
        self._redis.restart()
        return ""

    def _stop_a_worker(self) -> str:
        pid = self._chance.choice(sorted(self._site.workers))
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self._chance.uniform(1.0, 2.0))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        return str(pid)

    def _reload(self) -> str:
        old = set(self._site.workers)
        self._site.site.running.process.send_signal(signal.SIGHUP)
        self._wait(lambda: self._site.is_whole and not old & set(self._site.workers))
        return ""

    def _kill_a_worker(self) -> str:
        pid = self._chance.choice(sorted(self._site.workers))
        kill(pid)
        self._wait(lambda: self._site.is_whole and pid not in self._site.workers)
        return str(pid)

    def _kill_control(self) -> str:
        control = self._site.control
        kill(*control)
        self._wait(lambda: self._site.is_whole and not set(control) & set(self._site.control))
        return str(control)
