"""Gates that a fuzzer sends its inputs through: each serves some hundred, and must then be as if nobody had been there.

A gate for each input would cost more than judging it; one for all would hide what an input leaves behind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.proxy.harness import Gate

_LIFE: Final = 400


class Gates(ABC):
    """See the module."""

    def __init__(self) -> None:
        self.served = 0
        self.gate = self.new_gate()

    @abstractmethod
    def new_gate(self) -> Gate:
        """Such as this side's inputs want it."""

    def input_over(self) -> None:
        """Everybody who had to do with an input has left; what is idle stays for the next one."""
        gate = self.gate
        gate.upstreams = [each for each in gate.upstreams if not each.gone]
        gate.clients.clear()
        gate.check_counts()
        assert gate.worker.in_flight == 0
        self.served += 1
        if self.served % _LIFE == 0:
            self.close()
            self.gate = self.new_gate()
        del gate.loop.tasks[:]

    def close(self) -> None:
        """Nothing may be left of anybody."""
        self.gate.advance(80, step=20)
        self.gate.check_nothing_is_left()
