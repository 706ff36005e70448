"""What is offered for production is valid: settings load, the composition names what there is, secrets are files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis
import yaml

from gateway.errors import ConfigurationError
from gateway.settings.loading import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.settings.model import Settings
    from tests.servers.redis import RedisServer

ROOT: Final = Path(__file__).parents[1]
PRODUCTION: Final = ROOT / "config/production.toml"
COMPOSE: Final = ROOT / "deploy/compose.yaml"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """As the script makes them, in a directory of this test's own."""
    script = shutil.copy(ROOT / "deploy/make-secrets", tmp_path)
    subprocess.run([script], check=True, capture_output=True)
    return tmp_path / "secrets"


@pytest.fixture
def composition() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return read


def _loaded(secrets: Path) -> Settings:
    environ = {
        "GATEWAY__STORE__URL_FILE": str(secrets / "store_url"),
        "GATEWAY__REDIS__URL_FILE": str(secrets / "redis_url"),
    }
    return load(PRODUCTION, {}, environ).settings


def test_the_production_file_loads_with_the_secrets_from_files(secrets: Path) -> None:
    settings = _loaded(secrets)
    assert settings.store.url == (secrets / "store_url").read_text()
    assert settings.redis.url == (secrets / "redis_url").read_text()
    assert not settings.store.is_sqlite
    assert settings.server.workers == 4


def test_a_secret_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="GATEWAY__STORE__URL_FILE"):
        _loaded(tmp_path)


def test_the_production_file_holds_no_password() -> None:
    assert "url =" not in PRODUCTION.read_text()


def test_secrets_are_new_each_time_and_never_replaced(secrets: Path) -> None:
    made = {path.name: path.read_text() for path in secrets.iterdir()}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert subprocess.run([secrets.parent / "make-secrets"], check=False, capture_output=True).returncode == 1
    assert {path.name: path.read_text() for path in secrets.iterdir()} == made
    assert made["postgres_password"] in made["store_url"]


def test_every_secret_of_the_composition_is_one_that_the_script_makes(
    secrets: Path, composition: dict[str, Any]
) -> None:
    files = {Path(each["file"]).name for each in composition["secrets"].values()}
    assert files == {path.name for path in secrets.iterdir()}
    assert all(Path(each["file"]).parent == Path("secrets") for each in composition["secrets"].values())
    used = [name for service in composition["services"].values() for name in service.get("secrets", ())]
    assert sorted(used) == sorted(composition["secrets"])


def test_the_composition_starts_the_gateway_when_both_stores_are_well(composition: dict[str, Any]) -> None:
    gateway = composition["services"]["gateway"]
    assert {name: each["condition"] for name, each in gateway["depends_on"].items()} == {
        "postgres": "service_healthy",
        "redis": "service_healthy",
    }
    assert all(composition["services"][name]["healthcheck"]["test"] for name in ("gateway", "postgres", "redis"))
    assert "--maxmemory-policy noeviction" in " ".join(composition["services"]["redis"]["command"])
    assert "8081" not in "".join(gateway["ports"])  # the control listener is no business of other machines


def test_the_composition_tells_the_gateway_of_things_that_it_has(composition: dict[str, Any]) -> None:
    """The store of the image is taken away, for two that say something different would be refused."""
    gateway = composition["services"]["gateway"]
    assert gateway["environment"]["GATEWAY__STORE__URL"] is None
    for name, value in gateway["environment"].items():
        if value is not None:
            assert name.endswith("_FILE")
            assert value.removeprefix("/run/secrets/") in gateway["secrets"]
    settings, records = gateway["volumes"]
    source, target, mode = settings.split(":")
    assert (COMPOSE.parent / source).resolve() == PRODUCTION
    assert target in gateway["command"]
    assert mode == "ro"
    volume, directory = records.split(":")  # outlives the container, as what is on record has to
    assert volume in composition["volumes"]
    assert f"GATEWAY__AUDIT__DIRECTORY={directory}" in (COMPOSE.parents[1] / "Dockerfile").read_text()


def test_the_composition_waits_longer_than_the_gateway_drains(secrets: Path, composition: dict[str, Any]) -> None:
    grace = int(composition["services"]["gateway"]["stop_grace_period"].removesuffix("s"))
    assert grace > _loaded(secrets).server.drain_timeout_seconds + 5


def test_the_users_of_redis_are_accepted_and_nobody_else_is(
    secrets: Path, redis_server: Callable[..., RedisServer]
) -> None:
    server = redis_server("--aclfile", str(secrets / "redis_users"))
    password = (secrets / "redis_url").read_text().split(":")[2].split("@")[0]
    with redis.Redis(port=server.port, username="keygate", password=password) as connection:
        assert connection.eval("return redis.call('HSET', KEYS[1], 'a', 'b')", 1, "{keygate}:keys") == 1
        assert connection.hgetall("{keygate}:keys") == {b"a": b"b"}
        for words in (("FLUSHALL",), ("GET", "other"), ("CONFIG", "GET", "*"), ("PUBLISH", "other", "x")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                connection.execute_command(*words)
    with redis.Redis(port=server.port) as stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.get("{keygate}:keys")


def test_the_script_is_executable() -> None:
    assert os.access(ROOT / "deploy/make-secrets", os.X_OK)
