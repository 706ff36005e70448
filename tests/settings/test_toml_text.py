"""What `config show` prints is a settings file: loading it gives the same settings again, and it holds no password."""

import tomllib
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway.settings import kinds
from gateway.settings.kinds import Kind, Shape
from gateway.settings.loading import LoadedSettings, load
from gateway.settings.model import RouteSettings, Settings, UpstreamSettings
from gateway.settings.quoting import redact
from gateway.settings.toml_text import show, value_text

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
file_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,10}", fullmatch=True)
hosts = st.from_regex(r"(\*\.)?[a-z][a-z0-9]{0,5}\.[a-z]{2,5}", fullmatch=True)
FORMS: dict[str, st.SearchStrategy[Any]] = {
    "listen": st.sampled_from(["127.0.0.1:0", "[::1]:80", "localhost:9000"]),
    "url": st.sampled_from(["postgresql://db/a", "postgres://me@[::1]:5432,b/a?sslmode=require"])
    | st.from_regex(r"sqlite:///[a-zé\"\\ ]{1,9}\.db", fullmatch=True),
    "RedisSettings.url": st.sampled_from(["redis://a:6379/0", "unix:///run/redis.sock", "redis+cluster://a,b:7000"]),
    "namespace": st.sampled_from(["keygate", "eu:keygate-2"]),
    "trusted_proxies": st.lists(st.ip_addresses().map(str), max_size=3),
    "key_prefix": st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,9}_", fullmatch=True),
    "realm": printable.filter(lambda text: not set(text) & set('"\\')),
    "name": names,
    "upstream": names,
    "targets": st.lists(hosts.map(lambda host: f"http://{host.lstrip('*.')}"), min_size=1, max_size=3, unique=True),
    "health_path": st.sampled_from(["/", "/health?a=b%20c"]),
    "ca_file": file_names,
    "certificate_file": file_names,
    "private_key_file": file_names,
    "directory": file_names,
    "ndjson": file_names,
    "server_name": hosts.map(lambda host: host.lstrip("*.")),
    "hosts": st.lists(hosts, max_size=3, unique=True),
    "path": st.from_regex(r"(/[a-z0-9~]{1,5}|/%C3%A9){1,3}", fullmatch=True),
    "methods": st.lists(st.sampled_from(["GET", "PUT", "M-SEARCH"]), max_size=3, unique=True),
    "me_path": st.sampled_from(["/me", "/users/me"]),
    "tenant_header": st.sampled_from(["customer-id", "X_Tenant"]),
    "allow_origins": st.lists(st.sampled_from(["*", "https://app.test", "http://[::1]:81"]), min_size=1, unique=True),
    "allow_methods": st.lists(st.sampled_from(["GET", "*"]), unique=True),
    "allow_headers": st.lists(st.sampled_from(["X-Trace", "*"]), unique=True),
    "expose_headers": st.lists(st.sampled_from(["Link", "ETag"]), unique=True),
    "permissions": st.lists(names.map(lambda name: f"{name}:read"), max_size=3, unique=True),
}


def of_field(model: type[BaseModel], name: str, kind: Kind) -> st.SearchStrategy[Any]:
    """Make values of one setting, anywhere within its bounds."""
    if kind.choices:
        made: st.SearchStrategy[Any] = st.sampled_from(kind.choices)
    elif kind.shape is Shape.BOOLEAN:
        made = st.booleans()
    elif kind.shape is Shape.WHOLE:
        made = st.integers(int(kind.lowest or 0), int(kind.highest or 0))
    elif kind.shape is Shape.NUMBER:
        made = st.floats(kind.lowest, kind.highest, exclude_min=kind.above_lowest)
    else:
        form = f"{model.__name__}.{name}"
        made = FORMS[form if form in FORMS else name] if kind.model is None else tables(kind.model)
    return st.none() | made if kind.optional else made


def tables(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Make tables with any of their settings given."""
    fields = kinds.fields(model)
    needed = {
        name: of_field(model, name, kind) for name, kind in fields.items() if model.model_fields[name].is_required()
    }
    others = {
        name: of_field(model, name, kind)
        for name, kind in fields.items()
        if name not in needed and kind.shape is not Shape.TABLES
    }
    return st.fixed_dictionaries(needed, optional=others)


any_settings = st.builds(
    lambda tables, upstreams, routes: Settings.model_validate({**tables, "upstreams": upstreams, "routes": routes}),
    tables(Settings),
    st.lists(tables(UpstreamSettings), max_size=2),
    st.lists(tables(RouteSettings), max_size=2),
)


@given(any_settings)
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_shown_loads_to_the_same_settings(settings: Settings) -> None:
    """Every value of every setting, with and without origins."""
    shown = show(LoadedSettings(settings, {}))
    assert Settings.model_validate(tomllib.loads(shown)) == settings
    origins = {"server.listen": "here", "routes[0].path": "there", "upstreams[0].tls.ca_file": "nowhere"}
    assert tomllib.loads(show(LoadedSettings(settings, origins), origin=True)) == tomllib.loads(shown)


def test_what_is_shown_can_be_used_as_the_file(tmp_path: Path) -> None:
    """Also by way of the file, with the origins as comments; the implied upstream and route are written out."""
    loaded = load(overrides={"upstream": "http://a"}, environ={"GATEWAY__SERVER__TRUSTED_PROXIES": "10.0.0.0/8"})
    path = tmp_path / "shown.toml"
    path.write_text(show(loaded, origin=True), encoding="utf-8")
    assert load(path).settings == loaded.settings
    shown = [" ".join(line.split()) for line in path.read_text(encoding="utf-8").splitlines()]
    assert 'targets = ["http://a"] # --upstream' in shown
    assert 'trusted_proxies = ["10.0.0.0/8"] # GATEWAY__SERVER__TRUSTED_PROXIES' in shown
    assert 'upstream = "default" # implied by the only upstream' in shown
    assert "# health_path is not set" in shown
    assert "# [routes.cors] is not set" in shown


@given(st.text())
def test_any_text_survives_being_written_as_toml(text: str) -> None:
    """Quotes, controls, DEL and what lies beyond the basic plane."""
    assert tomllib.loads(f"a = {value_text(text)}")["a"] == redact(text)
