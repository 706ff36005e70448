"""Whatever an upstream sends, a client sees one whole response, a visible abort, or the gateway's own answer.

`make fuzz-wire` goes on for half an hour with new seeds; here one seed is tried for some seconds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.proxy.profiles import scaled
from tests.wire.fuzz_campaign import Tally, campaign, fuzz_seconds, new_seed, one_round, replay
from tests.wire.fuzz_response_judge import ResponseSide

if TYPE_CHECKING:
    from tests.wire.conftest import Tried

_SEEDS = sorted((Path(__file__).parent / "seeds").glob("responses-*.bin"))


@pytest.fixture(autouse=True)
def defects_alone(caplog: pytest.LogCaptureFixture) -> None:
    """What peers do wrong is in the log as a warning each; pytest would keep a million of them."""
    caplog.set_level(logging.ERROR, logger="gateway.proxy")


def _say(text: str) -> None:
    print(f"responses, {text}", flush=True)  # noqa: T201  how it goes, for whoever waits


@pytest.mark.skipif(fuzz_seconds() > 0, reason="it goes on for longer")
def test_a_client_sees_one_response_an_abort_or_our_own_answer(tried: Tried) -> None:
    tally = Tally()
    side = ResponseSide()
    one_round(side, 1, tally, examples=scaled(15))
    side.again_on_sockets(tally.kept)
    tried("fuzz of responses", tally.inputs)


@pytest.mark.skipif(not fuzz_seconds(), reason="make fuzz-wire")
def test_a_client_sees_one_response_an_abort_or_our_own_answer_for_long(tried: Tried) -> None:
    tally = campaign(ResponseSide(), fuzz_seconds(), new_seed(), _say)
    tried("fuzz of responses", tally.inputs)


@pytest.mark.parametrize("seed", _SEEDS, ids=lambda path: path.stem)
def test_what_was_worth_keeping(seed: Path, tried: Tried) -> None:
    replay(ResponseSide(), seed.read_bytes())
    tried("fuzz of responses", 1)
