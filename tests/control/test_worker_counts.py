"""What workers say of themselves: kept while their process lives, and no longer."""

from __future__ import annotations

from gateway.control.worker_counts import WorkerCount, WorkerCounts


def _following(*pids: int) -> dict[str, object]:
    return {"command": "workers", "following": [{"pid": pid} for pid in pids]}


def test_the_last_word_of_each_process_is_kept() -> None:
    counts = WorkerCounts()
    counts.update(_following(1, 2))
    counts.counted({"command": "counts", "pid": 2, "name": "worker-0", "hits": 1})
    counts.counted({"command": "counts", "pid": 2, "name": "worker-0", "hits": 5, "feed": "redis"})
    counts.counted({"command": "counts", "pid": 1, "name": "worker-1", "in_flight": 2})
    assert counts.all() == [WorkerCount("worker-0", 2, hits=5, feed="redis"), WorkerCount("worker-1", 1, in_flight=2)]
    assert counts.of(2) == WorkerCount("worker-0", 2, hits=5, feed="redis")


def test_a_process_that_has_ended_is_forgotten_and_its_last_words_come_too_late() -> None:
    counts = WorkerCounts()
    counts.update(_following(1))
    counts.counted({"pid": 1, "name": "worker-0", "hits": 1})
    counts.update(_following(2))
    counts.counted({"pid": 1, "name": "worker-0", "hits": 2})
    assert counts.all() == []
    assert counts.of(1) is None


def test_a_worker_of_another_version_may_count_more() -> None:
    counts = WorkerCounts()
    counts.update(_following(1))
    counts.counted({"pid": 1, "name": "worker-0", "invented_since": 3})
    assert counts.all() == [WorkerCount("worker-0", 1)]
