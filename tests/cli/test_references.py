"""A secret in the place of an id is refused, and never repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.keys import secret
from gateway.keys.identifiers import new_id
from gateway.keys.quoting import has_form_of_secret

if TYPE_CHECKING:
    from tests.cli.conftest import Gateway

PLACES = [
    ["keys", "show", "{}"],
    ["keys", "disable", "{}"],
    ["keys", "enable", "{}"],
    ["keys", "revoke", "{}", "--yes"],
    ["keys", "delete", "{}"],
    ["keys", "list", "--owner={}"],
    ["keys", "create", "name", "--owner", "{}"],
]


@pytest.mark.parametrize("prefix", ["sk_", "sk_live_", "acme_"])
def test_a_secret_is_known_by_its_form_whatever_its_prefix_and_checksum(prefix: str) -> None:
    made = secret.generate(prefix)
    assert has_form_of_secret(made)
    assert has_form_of_secret(made[:-1] + ("a" if made[-1] != "a" else "b"))
    assert not has_form_of_secret(new_id("key"))
    assert not has_form_of_secret(made[:-1])


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_never_repeated_where_an_id_belongs(gateway: Gateway, place: list[str]) -> None:
    given = secret.generate("sk_live_")
    outcome = gateway(*(argument.format(given) for argument in place))
    assert (outcome.status, outcome.out) == (2, "")
    assert "that is a key's secret, not " in outcome.err
    assert given[10:20] not in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("given", ["sk_mistyped", "", "key_", "x" * 5000, "KEY_" + "0" * 26, "org_" + "0" * 26])
def test_what_is_no_key_s_id_is_not_repeated_either(gateway: Gateway, given: str) -> None:
    """It may be a secret with a letter missing, or one of another system."""
    outcome = gateway("keys", "show", given)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == (
        "gateway: ID: must be key_ and 26 characters, as gateway keys create prints it; gateway keys list shows ids; "
        "its --search takes the last six characters of a secret\n"
    )
