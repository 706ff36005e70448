"""What differs between two loads, and what of that a running gateway cannot change: names, never values."""

from __future__ import annotations

import pytest

from gateway.settings import restart
from gateway.settings.model import CacheSettings, RouteSettings, ServerSettings, Settings, StoreSettings
from gateway.settings.sources import settable

SECRET = "postgresql://ada:hunter2@db/keys"


def test_every_name_of_the_list_is_a_setting() -> None:
    assert {tuple(name.split(".")) for name in restart.RESTART_NEEDED} <= set(settable())


def test_settings_that_are_the_same_differ_in_nothing() -> None:
    assert restart.changed(Settings(), Settings()) == []


def test_what_differs_is_named_setting_by_setting_and_lists_of_tables_as_wholes() -> None:
    route = RouteSettings(name="r", upstream="u")
    after = Settings(server=ServerSettings(workers=2), cache=CacheSettings(max_entries=1), routes=(route,))
    assert sorted(restart.changed(Settings(), after)) == ["cache.max_entries", "routes", "server.workers"]


def test_no_value_is_named() -> None:
    changed = restart.changed(Settings(), Settings(store=StoreSettings(url=SECRET)))
    assert changed == ["store.url"]
    assert restart.needing_restart(changed) == ["store.url"]


@pytest.mark.parametrize("name", ["cache.max_entries", "routes", "server.client_idle_timeout_seconds"])
def test_what_new_processes_take_up_needs_no_restart(name: str) -> None:
    assert restart.needing_restart([name]) == []
