"""What a service refuses a call with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable


async def code_of(call: Awaitable[object], error: type[Exception]) -> str:
    """The code that the call is refused with."""
    with pytest.raises(error) as caught:
        await call
    code: str = caught.value.code  # type: ignore[attr-defined]
    return code
