"""One child and its channel: an end that was ordered is no news, one that was not is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from gateway.supervisor.child import Child

if TYPE_CHECKING:
    import pytest

    from gateway.lifecycle import Message

# Ends once it was told something, which it leaves unread; the kernel resets the channel then.
DEAF: Final = "import os, select, sys; select.select([int(sys.argv[1])], [], []); os._exit(0)"


async def ended(*told: Message) -> None:
    """A deaf child is told this, and is over."""
    child = await Child.start("deaf", (sys.executable, "-c", DEAF), ())
    for message in told:
        child.send(message)
    assert await child.wait(lambda _: None) == 0


async def test_a_channel_that_breaks_after_the_order_to_end_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    await ended({"command": "drain"}, {"command": "slots", "empty": []})
    assert not caplog.records


async def test_a_channel_that_breaks_without_one_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    await ended({"command": "slots", "empty": []})
    assert [record.message for record in caplog.records] == ["broken channel to a child"]
