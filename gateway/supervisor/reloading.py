"""A reload: the settings are read again, and one child after the other is replaced by one that has them.

Invariant: settings that are bad, or that a running gateway cannot change, change nothing at all, and everything that is
wrong with them is told at once. One reload at a time. Where a new child does not get ready the reload ends there: who
was replaced stays replaced, who was not stays, so nothing that works is ever given up for something that does not.

All children are replaced even where nothing differs, as nginx does it: what a setting names (a certificate, a secret in
a file) may differ. Handing new settings to running processes was turned down: each part would have to be able to
change under requests in flight, and a process that was started with the settings is what the tests know.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gateway import logs
from gateway.errors import ConfigurationError
from gateway.settings import certificates, restart

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.lifecycle import Message
    from gateway.settings.model import Settings
    from gateway.supervisor.slot import Slot

    Answer = Callable[[Message], None]
    Replace = Callable[[Slot, Message, Callable[[], None]], Awaitable[str]]

_log: Final = logging.getLogger(__name__)
_ANSWER: Final[Message] = {"command": "reloaded", "code": "", "problems": [], "changed": [], "warnings": []}


class Reloading:
    """The reloads of one run. `replace` puts a child with these settings into a slot, or returns why it cannot."""

    def __init__(
        self, settings: Settings, load: Callable[[], Settings], slots: Sequence[Slot], replace: Replace
    ) -> None:
        self._in_force = settings
        self._loaded_at = datetime.now(UTC)
        self._load = load
        self._slots = slots
        self._replace = replace
        self._task: asyncio.Task[None] | None = None
        self._done = 0
        self._failed = 0

    @property
    def under_way(self) -> bool:
        """Whether one has begun and is not over."""
        return self._task is not None

    def facts(self) -> Message:
        """What the control process tells people of this."""
        return {
            "reloads": self._done,
            "reloads_failed": self._failed,
            "settings_loaded_at": self._loaded_at.isoformat(),
        }

    def begin(self, refusal: str, answer: Answer | None, told: Callable[[], None]) -> None:
        """Do it in a task, unless there is a `refusal` or another one is under way.

        `told` is called when it is over: the `facts` are others now, and another one may begin.
        """
        if not refusal and self.under_way:
            refusal = "another reload is under way"
        if refusal:
            self._end("reload_in_progress", [f"{refusal[0].upper()}{refusal[1:]}."], answer)
        else:
            self._task = asyncio.create_task(self._reload(answer, told))

    async def over(self) -> None:
        """Wait for the end of the one under way."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _reload(self, answer: Answer | None, told: Callable[[], None]) -> None:
        try:
            settings = self._load()
            changed = restart.changed(self._in_force, settings)
            fixed = restart.needing_restart(changed)
            if fixed:
                self._end("restart_required", [_restart_sentence(fixed)], answer)
            else:
                await self._roll(settings, changed, answer)
        except ConfigurationError as error:
            problems = [f"{each.source}: {each.key}: {each.reason}" for each in error.problems]
            self._end("bad_configuration", problems, answer)
        except Exception:  # noqa: BLE001 - whoever asked gets an answer, and the gateway goes on as it is
            _log.exception("a reload failed")
            self._end("reload_failed", ["The reload failed; the log of the gateway says why."], answer)
        finally:
            self._task = None
            told()

    async def _roll(self, settings: Settings, changed: list[str], answer: Answer | None) -> None:
        """Slot by slot; whoever asked is answered before the last one, their own process, is replaced."""
        dumped, replaced = settings.model_dump(mode="json"), list[str]()
        for slot in self._slots:
            last = slot is self._slots[-1]

            def before_handover(*, last: bool = last) -> None:
                if last:
                    self._succeed(settings, changed, answer)

            if reason := await self._replace(slot, dumped, before_handover):
                self._end("reload_failed", [f"{reason[0].upper()}{reason[1:]}.", self._left_over(replaced)], answer)
                return
            replaced.append(slot.name)

    def _left_over(self, replaced: list[str]) -> str:
        """Who goes on with which settings, after a reload that stopped half-way."""
        rest = ", ".join(slot.name for slot in self._slots if slot.name not in replaced)
        if not replaced:
            return "Nothing was replaced; everything goes on with the settings from before."
        return f"With the new settings: {', '.join(replaced)}; with those from before: {rest}."

    def _succeed(self, settings: Settings, changed: list[str], answer: Answer | None) -> None:
        if settings.log != self._in_force.log:
            logs.configure(settings.log, "supervisor")
        self._in_force, self._loaded_at = settings, datetime.now(UTC)
        self._done += 1
        _log.info("reloaded", extra={"changed": ", ".join(changed) or "no setting"})
        if answer is not None:
            warnings = list(certificates.warnings(settings, self._loaded_at))
            answer({**_ANSWER, "ok": True, "changed": changed, "warnings": warnings})

    def _end(self, code: str, problems: list[str], answer: Answer | None) -> None:
        self._failed += 1
        for problem in problems:
            _log.error("cannot reload: %s", problem)
        if answer is not None:
            answer({**_ANSWER, "ok": False, "code": code, "problems": problems})


def _restart_sentence(names: list[str]) -> str:
    return f"{', '.join(names)} cannot be changed while the gateway runs: restart it, or set back what was changed."
