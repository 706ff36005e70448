"""Whatever a client sends, what goes upstream is exactly the requests that were authorised, to every reader.

`make fuzz-wire` goes on for half an hour with new seeds; here one seed is tried for some seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire import fuzz_campaign
from tests.wire.fuzz_request_judge import RequestSide

if TYPE_CHECKING:
    from pathlib import Path

    from tests.wire.conftest import Tried

pytestmark = pytest.mark.usefixtures("defects_alone")


@pytest.mark.skipif(fuzz_campaign.fuzz_seconds() > 0, reason="it goes on for longer")
def test_what_goes_upstream_is_what_was_authorised(tried: Tried) -> None:
    fuzz_campaign.briefly(RequestSide(), tried)


@pytest.mark.skipif(not fuzz_campaign.fuzz_seconds(), reason="make fuzz-wire")
def test_what_goes_upstream_is_what_was_authorised_for_long(tried: Tried) -> None:
    fuzz_campaign.for_long(RequestSide(), tried)


@pytest.mark.parametrize("seed", fuzz_campaign.kept_seeds("requests"), ids=lambda path: path.stem)
def test_what_was_worth_keeping(seed: Path, tried: Tried) -> None:
    fuzz_campaign.kept(RequestSide(), seed, tried)
