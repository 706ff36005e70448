"""Random people do random things to each other's keys, and services, model and proxy always agree on what came of it.

`KEYGATE_FUZZ=20` tries twenty times as many walks.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.store.migrate import migrate
from tests.proxy.profiles import scaled
from tests.services.moves import ENDINGS, MOVES, LifeOfKeys


@pytest.fixture(autouse=True, scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    LifeOfKeys.template = tmp_path_factory.mktemp("template") / "gateway.db"
    migrate(f"sqlite:///{LifeOfKeys.template}")


def test_whatever_people_do_services_model_and_proxy_agree() -> None:
    run_state_machine_as_test(
        LifeOfKeys,
        settings=settings(
            max_examples=scaled(10), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize("seed", range(scaled(4)))
def test_long_walks(seed: int) -> None:
    """The same, without the preference for short runs and few rules that makes failures of the other readable."""
    chance = random.Random(seed)  # noqa: S311 - reproducible on purpose
    for _ in range(2):
        walk(chance)


def walk(chance: random.Random) -> None:
    """Go on for a while, or until hardly anybody is left who could do anything."""
    machine = LifeOfKeys()
    taken: list[str] = []
    try:
        machine.found_two_organizations()
        while len(taken) < 100 and machine.good_secrets()[3:]:
            (name,) = chance.choices(list(MOVES), [1 if name in ENDINGS else 4 for name in MOVES])
            arguments = {argument: chance.choice(pool) for argument, pool in MOVES[name].items()}
            taken.append(f"{name}({arguments})")
            getattr(machine, name)(**arguments)
            machine.the_proxy_agrees()
    except BaseException as error:
        error.add_note("after:\n" + "\n".join(taken))
        raise
    finally:
        machine.teardown()
