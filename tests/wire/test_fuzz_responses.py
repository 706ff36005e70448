"""Whatever an upstream sends, a client sees one whole response, a visible abort, or the gateway's own answer.

`make fuzz-wire` goes on for half an hour with new seeds; here one seed is tried for some seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire import fuzz_campaign
from tests.wire.fuzz_response_judge import ResponseSide

if TYPE_CHECKING:
    from pathlib import Path

    from tests.wire.conftest import Tried

pytestmark = pytest.mark.usefixtures("defects_alone")


@pytest.mark.skipif(fuzz_campaign.fuzz_seconds() > 0, reason="it goes on for longer")
def test_a_client_sees_one_response_an_abort_or_our_own_answer(tried: Tried) -> None:
    fuzz_campaign.briefly(ResponseSide(), tried)


@pytest.mark.skipif(not fuzz_campaign.fuzz_seconds(), reason="make fuzz-wire")
def test_a_client_sees_one_response_an_abort_or_our_own_answer_for_long(tried: Tried) -> None:
    fuzz_campaign.for_long(ResponseSide(), tried)


@pytest.mark.parametrize("seed", fuzz_campaign.kept_seeds("responses"), ids=lambda path: path.stem)
def test_what_was_worth_keeping(seed: Path, tried: Tried) -> None:
    fuzz_campaign.kept(ResponseSide(), seed, tried)
