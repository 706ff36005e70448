"""The directory of the spool: its id, the numbers of its segments, and how much of the disk it takes.

    id               16 hexadecimal digits, and the name of the host for which they were made
    next             the last number that was given to a segment, under whose lock all segments are made and dropped
    <number>.segment

Invariants: no number is given twice under one id, not even when `next` was lost: it is never less than the seconds
since 1970, nor that of a file that is there, and a million are left out then. A segment has its name only when it is
locked and has its header, so nobody takes one that is being made for one that was left behind. A copy of the directory
on another host has another id, so that the two never name two records alike. Turned down: names with process ids, which
come again, and random names, which say nothing of the order.
"""

import contextlib
import fcntl
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import GatewayError
from gateway.recording.open_segment import OpenSegment
from gateway.recording.segment import SUFFIX, SegmentHeader, is_abandoned

_LOG = logging.getLogger(__name__)
_UNFINISHED: Final = ".new"
_ID: Final = re.compile(r"([0-9a-f]{16}) (\S*)\n")
_NUMBER: Final = re.compile(r"[0-9]{1,11}")
_LARGEST_NUMBER: Final = (1 << 32) - 1
"""A little more than the seconds since 1970 for long. A file with a larger one was never ours: were it counted, the
next ones would grow out of the 39 bits that a position has for them."""
_LEFT_OUT: Final = 1_000_000


class SpoolUnavailable(GatewayError):
    """The spool cannot be used: no directory, no rights, no room, or a file system that cannot hold it."""

    default_code = "spool_unavailable"


class SegmentFile(NamedTuple):
    """A segment as the directory shows it."""

    number: int
    path: Path
    size: int
    """In bytes, whether written or not."""


class SpoolDirectory:
    """See the module. `open` comes first. What it does, blocks for as long as the disk takes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._id = ""
        self._strays: set[str] = set()
        """Files that were named in the log, as they are none of ours."""

    @property
    def id(self) -> str:
        """The spool's name in the ids of entries, 16 hexadecimal digits. Known once it is open."""
        return self._id

    def open(self) -> None:
        """Make the directory where there is none, for this user alone, and know its id. Raises SpoolUnavailable."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked() as counter:
                found = self._read_id()
                if found is None:
                    found = self._make_id()
                    _write_number(counter, 0)
                self._id = found
                self._clear_unfinished()
        except OSError as error:
            raise unavailable(self.path, error) from error

    def segments(self) -> list[SegmentFile]:
        """All segments there are, oldest first; what only looks like one is named in the log. Raises OSError."""
        found = []
        with os.scandir(self.path) as files:
            for file in files:
                digits = file.name.removesuffix(SUFFIX)
                if digits == file.name:
                    continue
                number = _number(digits)
                if number is None:
                    self._ignore(file.name)
                    continue
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    if file.is_file(follow_symlinks=False):
                        found.append(SegmentFile(number, Path(file.path), file.stat().st_size))
        return sorted(found)

    def _ignore(self, name: str) -> None:
        if name not in self._strays:
            self._strays.add(name)
            _LOG.warning("%s is no segment of the spool, and is ignored", self.path / name)

    def left_bytes(self) -> int:
        """How much those take that nobody writes to any more. Raises OSError."""
        left = 0
        for each in self.segments():
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                left += each.size if is_abandoned(each.path) else 0
        return left

    def used_bytes(self) -> int:
        """How much all segments take. Raises OSError."""
        return sum(each.size for each in self.segments())

    def create(self, size: int, *, run: int = 0, limit_bytes: int = 0) -> OpenSegment | None:
        """Make a segment to write to, locked; None where all would take more than the limit then (0: none).

        `run` is the number of the writer's first segment; 0: this is it. Raises OSError.
        """
        with self._locked() as counter:
            if limit_bytes and self.used_bytes() + size > limit_bytes:
                return None
            number = self._allocate(counter)
            path = self.path / f"{number}{SUFFIX}"
            made = path.with_suffix(_UNFINISHED)
            descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                header = SegmentHeader(self._id, number, run or number, os.getpid(), time.time_ns() // 1000)
                segment = OpenSegment(descriptor, path, header, size)
                made.rename(path)
                self._sync()
            except BaseException:
                os.close(descriptor)
                made.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                raise
            return segment

    def drop_oldest(self) -> SegmentFile | None:
        """Remove the oldest segment that nobody writes to; None where there is none. Raises OSError."""
        with self._locked():
            for each in self.segments():
                with contextlib.suppress(FileNotFoundError):  # taken into the store meanwhile
                    if is_abandoned(each.path):
                        each.path.unlink()
                        return each
        return None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the lock of the counter; the descriptor is that of its file."""
        descriptor = os.open(self.path / "next", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _allocate(self, counter: int) -> int:
        written = os.pread(counter, 32, 0).decode("ascii", "replace").strip()
        newest = max((each.number for each in self.segments()), default=0)
        number = max(newest + 1, int(time.time()))
        # Where many segments are made, their numbers run ahead of the seconds, but not this far.
        last = _number(written)
        number = number + _LEFT_OUT if last is None else max(number, last + 1)
        _write_number(counter, number)
        return number

    def _read_id(self) -> str | None:
        try:
            found = _ID.fullmatch((self.path / "id").read_text("ascii", "replace"))
        except FileNotFoundError:
            return None
        return found[1] if found is not None and found[2] == _host() else None

    def _make_id(self) -> str:
        made, path = secrets.token_hex(8), self.path / "id"
        written = path.with_suffix(_UNFINISHED)
        written.touch(0o600)
        with written.open("w") as file:
            file.write(f"{made} {_host()}\n")
            file.flush()
            os.fsync(file.fileno())
        written.rename(path)
        self._sync()
        return made

    def _clear_unfinished(self) -> None:
        """Remove what somebody was making when it ended. They are made under the lock that is held here."""
        for each in self.path.glob(f"*{_UNFINISHED}"):
            each.unlink()

    def _sync(self) -> None:
        """Force the names to disk."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _number(digits: str) -> int | None:
    """The number of a segment; None for what cannot be one."""
    number = int(digits) if _NUMBER.fullmatch(digits) else _LARGEST_NUMBER + 1
    return number if number <= _LARGEST_NUMBER else None


def _write_number(counter: int, number: int) -> None:
    os.pwrite(counter, b"%011d\n" % number, 0)
    os.fsync(counter)


def _host() -> str:
    return socket.gethostname().encode("ascii", "backslashreplace").decode().replace(" ", "_")


def unavailable(path: Path, error: OSError) -> SpoolUnavailable:
    """What to tell who starts the gateway."""
    return SpoolUnavailable(
        f"Requests cannot be put on record in {path}: {error.strerror or error}. "
        'Give audit.directory another place, or set audit.record to "none".'
    )
