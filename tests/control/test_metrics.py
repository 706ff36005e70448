"""`/metrics`: what the page says there is, for the facts at hand, and nothing that is not a number."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from gateway.control.api.propagation import PropagationShape, SilentWorker
from gateway.control.health import Workers
from gateway.control.metrics import Facts, MeasuredPropagation, Metrics, exposition
from gateway.control.worker_counts import WorkerCount, WorkerCounts
from gateway.errors import StoreUnavailable
from tests.control.test_health import Recording, Relay

if TYPE_CHECKING:
    from pytest_aiohttp import AiohttpClient

PAGE: Final = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)


class Answers:
    """A propagation that takes as long, and has as many silent workers, as it is told."""

    def __init__(self) -> None:
        self.milliseconds = 4
        self.silent: tuple[SilentWorker, ...] = ()

    async def wait(self, seq: int | None) -> PropagationShape:
        return PropagationShape(seq=seq, applied=1, of=1, milliseconds=self.milliseconds, silent=self.silent)


def _facts(**others: object) -> Facts:
    workers = Workers(ready=1, of=2, reloads=3, reloads_failed=1, settings_loaded_at=NOW)
    count = WorkerCount("worker-0", 41, hits=9, lookups=2, feed="redis", applied=5, requests=12)
    facts = {
        "workers": workers,
        "counts": (count,),
        "head": 7,
        "relay": Relay(),
        "propagation": MeasuredPropagation(Answers()),
        "recording": Recording(),
    }
    return Facts(**{**facts, **others})  # type: ignore[arg-type]  # by name, as above


def _samples(facts: Facts) -> dict[str, float]:
    """Each sample as it is written, labels and all."""
    found = {}
    for family in text_string_to_metric_families(exposition(facts).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_the_page_lists_every_metric_with_its_kind_labels_and_meaning() -> None:
    rows = re.findall(r"^\| `(gateway_\w+)` \| (\w+) \| ([^|]*) \| (.+) \|$", PAGE, re.MULTILINE)
    families = []
    for family in text_string_to_metric_families(exposition(_facts()).decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = list(dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le"))
        families.append((name, family.type, ", ".join(f"`{label}`" for label in labels), family.documentation))
    assert rows == families


def test_what_workers_count_is_told_of_each_process() -> None:
    samples = _samples(_facts())
    assert samples["gateway_cache_hits_total{pid=41,worker=worker-0}"] == 9
    assert samples["gateway_cache_misses_total{pid=41,worker=worker-0}"] == 2
    assert samples["gateway_worker_lag_changes{pid=41,worker=worker-0}"] == 2
    feeds = {feed: samples[f"gateway_worker_feed{{feed={feed},pid=41,worker=worker-0}}"] for feed in ("redis", "store")}
    assert feeds == {"redis": 1, "store": 0}


def test_what_is_not_known_has_no_sample_instead_of_a_zero() -> None:
    samples = _samples(_facts(head=None, relay=None))
    assert samples["gateway_store_reachable"] == 0
    assert not [
        each for each in samples if each.startswith(("gateway_store_head", "gateway_redis", "gateway_worker_lag"))
    ]


def test_the_record_of_requests_is_told_of_the_node_and_of_each_worker() -> None:
    count = WorkerCount("worker-0", 41, audit_entries=9, audit_blocked=1)
    samples = _samples(_facts(counts=(count,)))
    assert samples["gateway_audit_spooled_total{pid=41,worker=worker-0}"] == 9
    assert samples["gateway_audit_blocked{pid=41,worker=worker-0}"] == 1
    told = {name: value for name, value in samples.items() if name.startswith("gateway_audit") and "{" not in name}
    assert told == {
        "gateway_audit_entries_total": 7,
        "gateway_audit_lag_seconds": 0.5,
        "gateway_audit_spool_bytes": 100,
        "gateway_audit_waiting_bytes": 79,
        "gateway_audit_spool_limit_bytes": 100,
        "gateway_audit_damaged_bytes_total": 3,
        "gateway_audit_unrecorded_refusals_total": 5,
        "gateway_audit_dropped_segments_total": 1,
        "gateway_audit_ndjson_failures_total": 2,
    }
    waiting = _samples(_facts(recording=Recording(active=False, lag_seconds=None)))
    assert "gateway_audit_lag_seconds" not in waiting
    assert not [each for each in _samples(_facts(counts=(), recording=None)) if each.startswith("gateway_audit")]


def test_a_table_in_a_redis_that_does_not_answer_is_not_called_complete() -> None:
    assert _samples(_facts(relay=Relay(redis_reachable=False)))["gateway_redis_table_complete"] == 0


async def test_the_time_of_each_change_is_measured_and_silent_workers_are_counted() -> None:
    answers = Answers()
    measured = MeasuredPropagation(answers)
    await measured.wait(None)  # nothing had to be changed
    await measured.wait(1)
    answers.milliseconds, answers.silent = 2000, (SilentWorker(name="worker-1", until=NOW),)
    await measured.wait(2)
    answers.milliseconds = 9000
    await measured.wait(3)
    samples = _samples(_facts(propagation=measured))
    buckets = [
        samples[f"gateway_propagation_seconds_bucket{{le={bound}}}"] for bound in ("0.005", "1.0", "2.0", "+Inf")
    ]
    assert buckets == [1, 1, 2, 3]
    assert samples["gateway_propagation_seconds_count"] == 3
    assert samples["gateway_propagation_seconds_sum"] == 11.004
    assert samples["gateway_propagation_silent_total"] == 2


async def test_a_scrape_is_answered_whatever_is_away(aiohttp_client: AiohttpClient) -> None:
    async def unreadable() -> int:
        raise StoreUnavailable("The key store /var/lib/x.db is gone.")

    metrics = Metrics(Workers(), WorkerCounts(), unreadable, None, MeasuredPropagation(Answers()))
    application = web.Application()
    application.add_routes(metrics.routes())
    client = await aiohttp_client(application)
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        text = await answer.text()
    assert "gateway_store_reachable 0.0" in text
    assert "/var/lib" not in text
