"""What holds for the model itself: it cannot change, it travels as JSON, and it is cheap to import."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from gateway.settings import kinds
from gateway.settings.model import AuditSettings, RouteSettings, Settings, StoreSettings, UpstreamSettings

TABLES = [Settings, *(model for _, model in kinds.walk(Settings))]


def test_settings_travel_between_processes_as_json() -> None:
    """The supervisor sends the settings to its children as JSON; they come out the same."""
    settings = Settings(
        upstreams=(UpstreamSettings(name="api", targets=("http://api:9000",)),),
        routes=(RouteSettings(name="all", upstream="api", hosts=("Example.com",), max_body_bytes=5),),
    )
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


def test_settings_cannot_be_changed_after_loading() -> None:
    """What was checked stays true."""
    with pytest.raises(ValidationError):
        setattr(Settings().server, "workers", 2)  # noqa: B010 - mypy knows that it cannot be set


@pytest.mark.parametrize("model", TABLES)
def test_every_setting_says_what_it_means_within_bounds(model: type[BaseModel]) -> None:
    """Each setting has a one-line description, and each number a lowest and a highest value."""
    assert model.__doc__
    for name, kind in kinds.fields(model).items():
        description = model.model_fields[name].description
        assert description, name
        assert "\n" not in description, name
        assert description.endswith("."), name
        if kind.shape in {kinds.Shape.WHOLE, kinds.Shape.NUMBER}:
            assert kind.lowest is not None, name
            assert kind.highest is not None, name
            units = ("_seconds", "_milliseconds", "_days", "_bytes", "_mebibytes", "_per_second")
            counted = ("_limit", "_failures", "worker", "workers", "backlog")
            assert name.endswith((*units, *counted)) or name.startswith("max_"), name


def test_the_store_file_is_relative_to_the_working_directory() -> None:
    """`sqlite_path` is what the store opens."""
    assert Settings().store.sqlite_path == Path("data/gateway.db")


def test_whether_the_store_is_a_file_of_this_machine_follows_from_its_address() -> None:
    """And a database that nodes share has no file."""
    assert StoreSettings().is_sqlite
    shared = StoreSettings(url="postgresql://db/gateway")
    assert not shared.is_sqlite
    with pytest.raises(ValueError, match="names no file"):
        _ = shared.sqlite_path


def test_records_lie_beside_the_store_unless_they_are_given_a_place() -> None:
    """`audit_directory` is what workers and the control process share."""
    assert Settings().audit_directory == Path("data")
    beside = Settings(store=StoreSettings(url="sqlite:////var/lib/keygate/keys.db"))
    assert beside.audit_directory == Path("/var/lib/keygate")
    assert Settings(store=StoreSettings(url="postgresql://db/gateway")).audit_directory == Path("data")
    assert Settings(audit=AuditSettings(directory="/records")).audit_directory == Path("/records")


def test_a_worker_that_imports_the_model_imports_no_loader() -> None:
    """Proxy workers receive their settings; reading TOML and explaining mistakes is not in their memory."""
    code = "import sys, gateway.settings.model; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"tomllib", "asyncio", "difflib", "gateway.settings.loading", "pydantic_settings"} & set(loaded)
