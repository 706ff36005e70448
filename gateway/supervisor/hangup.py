"""What SIGHUP means to this process.

To a program in a terminal it says that the terminal was closed, to a daemon "read your settings again", and to one that
nohup started nothing at all. Which of them counts is decided once, at the start, by what can be seen then: whoever set
the signal to be ignored wants it so, and a process without a controlling terminal (of systemd, in a container) cannot
lose one.
"""

from __future__ import annotations

import enum
import os
import signal


class Hangup(enum.Enum):
    """The three meanings."""

    IGNORED = "ignored"
    STOP = "stop"
    RELOAD = "reload"


def meaning_of_hangup() -> Hangup:
    """Which of them counts for this process."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return Hangup.IGNORED
    return Hangup.STOP if _has_terminal() else Hangup.RELOAD


def _has_terminal() -> bool:
    """Whether there is a controlling terminal: its name, the same for everybody, can be opened only then."""
    try:
        os.close(os.open(os.ctermid(), os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
