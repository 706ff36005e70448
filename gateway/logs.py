"""The one logging set-up of every process: lines on stderr, as text for people or as JSON for collectors.

Modules log through `logging.getLogger(__name__)` with what varies in `extra`; each process calls `configure` once. A
record is always exactly one line: control characters of a message are escaped, so nothing that a client sent can
forge a line. Secrets never come here: callers log ids and tails.

structlog was turned down: it costs every worker some 18 MB and 100 ms of start, more than the aiohttp it would
describe, and what is needed of it is the two formatters below.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gateway.settings.quoting import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.settings.model import LogSettings

_STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(settings: LogSettings, process: str) -> None:
    """Send records to stderr from now on; `process` ("supervisor", "worker-0", "control") is named on each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if settings.format == "json" else TextFormatter(process))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # At debug, the driver would write down the values of every statement: names, descriptions, whatever is stored.
    logging.getLogger("aiosqlite").setLevel(logging.INFO)
    if settings.level != "debug":
        # Told at every first start, and of no use to whoever runs a gateway.
        logging.getLogger("alembic").setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z warning worker-0: message key=value`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on lines of its own, indented, as people read it."""
        parts = [_timestamp(record), record.levelname.lower(), f"{self._process}:", printable(record.getMessage())]
        parts += [f"{name}={printable(str(value))}" for name, value in _extra_fields(record)]
        line = " ".join(parts)
        if record.exc_info:
            traceback = self.formatException(record.exc_info).split("\n")
            line += "".join(f"\n    {printable(each)}" for each in traceback)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, process, logger, message, the extra fields, exception."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Extra fields cannot replace the fixed ones."""
        fields: dict[str, object] = dict(_extra_fields(record))
        fields |= {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra_fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    return ((name, value) for name, value in vars(record).items() if name not in _STANDARD_FIELDS)
