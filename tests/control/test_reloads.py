"""Asking the supervisor for a reload: each question gets its own answer."""

from __future__ import annotations

import asyncio

from gateway.control.reloads import Outcome, Reloads


def _answer(number: int, **said: object) -> dict[str, object]:
    return {"number": number, "ok": True, "code": "", "problems": [], "changed": [], **said}


async def test_answers_find_who_asked_in_whatever_order_they_come() -> None:
    asked: list[int] = []
    reloads = Reloads(asked.append)
    first, second = asyncio.create_task(reloads.reload()), asyncio.create_task(reloads.reload())
    await asyncio.sleep(0)
    reloads.reloaded(_answer(asked[1], ok=False, code="reload_in_progress", problems=["Later."]))
    assert await second == Outcome(ok=False, code="reload_in_progress", problems=("Later.",), changed=())
    reloads.reloaded(_answer(asked[0], changed=["a.b"]))
    assert await first == Outcome(ok=True, code="", problems=(), changed=("a.b",))


async def test_an_answer_to_somebody_who_is_gone_is_nobodys() -> None:
    asked: list[int] = []
    reloads = Reloads(asked.append)
    gone = asyncio.create_task(reloads.reload())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    reloads.reloaded(_answer(asked[0]))
