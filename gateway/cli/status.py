"""`gateway status`: how the running gateway is doing, one line for each worker of each node."""

from typing import TYPE_CHECKING, Final

from gateway.cli.connection import Connection, connected
from gateway.cli.exits import complain
from gateway.cli.output import Row, moment, print_json, print_table

if TYPE_CHECKING:
    from gateway.client.shapes import RecordingStatus, Status, WorkerStatus

_HEADS: Final[Row] = (
    *("NODE", "HOST", "WORKER", "PID", "APPLIED", "LAG", "FEED"),
    *("HITS", "MISSES", "ABSENT", "EVICTIONS", "ENTRIES", "OLDEST"),
)
_SHORT_NODE: Final = 8  # of 16 characters: enough to tell a few nodes apart; --json has all of it
_UNKNOWN: Final = "-"
_ALARMING_PERCENT: Final = 80  # where workers begin to warn, too


@connected
def status(connection: Connection) -> None:
    """Show how the gateway is doing: its workers, how far they follow, what they know. For the operator."""
    found = connection.client.status()
    if connection.json:
        print_json(found.raw)
        return
    print_table(_HEADS, [_row(each) for each in found.workers])
    for line in _remarks(found):
        complain(line)


def _row(worker: "WorkerStatus") -> Row:
    figures = worker.figures
    place = (worker.node[:_SHORT_NODE], worker.host, worker.name, str(worker.pid))
    follows = (_number(worker.applied), _number(worker.lag))
    if figures is None:
        return (*place, *follows, *[_UNKNOWN] * 7)
    counted = (figures.hits, figures.misses, figures.hits_absent, figures.evictions, figures.entries)
    return (*place, *follows, figures.feed, *map(str, counted), f"{figures.oldest_entry_seconds:.0f}s")


def _number(value: int | None) -> str:
    return _UNKNOWN if value is None else str(value)


def _remarks(found: "Status") -> list[str]:
    """What the table does not tell."""
    loaded = moment(found.settings_loaded_at)
    lines = [f"version {found.version}, settings of {loaded or 'the start'}, {found.reloads} reloads"]
    if found.workers_ready < found.workers_of:
        lines.append(f"warning: {found.workers_ready} of {found.workers_of} workers of this node are ready")
    if not found.store.reachable:
        lines.append("warning: the store does not answer")
    if found.redis is not None and not found.redis.reachable:
        lines.append("warning: Redis does not answer; workers ask the store")
    elif found.redis is not None and not found.redis.complete:
        lines.append("warning: the key table in Redis is being built; workers ask the store")
    return lines if found.recording is None else [*lines, *_remarks_on_recording(found.recording)]


def _remarks_on_recording(recording: "RecordingStatus") -> list[str]:
    """What hinders the record of requests, and what has been lost of it since the gateway's start."""
    lines = []
    if recording.workers_blocked:
        lines.append(f"warning: {recording.workers_blocked} workers refuse requests, which they have no room to record")
    if not recording.store_reachable:
        lines.append("warning: the store takes no records of requests; they wait on this machine's disk")
    full = recording.waiting_bytes * 100 // recording.spool_limit_bytes
    if full >= _ALARMING_PERCENT:
        lines.append(f"warning: {full} % of the room for records that wait is taken (audit.spool_limit_mebibytes)")
    if recording.dropped_segments or recording.damaged_bytes:
        lines.append("warning: records of requests are lost; see gateway audit verify")
    return lines
