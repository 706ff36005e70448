"""The environment: each setting has one variable, values are read by the kind of the setting, nothing is ignored."""

import json
import os
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.settings.loading import load
from gateway.settings.sources import from_environment, settable, variable
from gateway.settings.toml_text import show


def reasons(environ: dict[str, str]) -> dict[str, str]:
    """Return the reasons of the problems, by variable."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ=environ)
    return {problem.source: problem.reason for problem in caught.value.problems}


def test_each_setting_has_its_own_variable() -> None:
    """No two settings share one, nor is one the `_FILE` form of another."""
    names = [variable(path) for path in settable()]
    assert len(set(names) | {f"{name}_FILE" for name in names}) == 2 * len(names)
    assert "GATEWAY__CACHE__POSITIVE_TTL_SECONDS" in names


def test_values_are_read_by_the_kind_of_the_setting() -> None:
    """Numbers, truth values, texts as they are, and lists with commas or as JSON."""
    settings = load(
        environ={
            "GATEWAY__SERVER__MAX_CONNECTIONS": " 20_000 ",
            "GATEWAY__CACHE__MAX_STALE_SECONDS": "0.5",
            "GATEWAY__SERVER__VIA": "true",
            "GATEWAY__AUTH__REALM": " my API ",
            "GATEWAY__SERVER__TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "GATEWAY__UPSTREAMS": '[{"name": "a", "targets": ["http://a"]}, {"name": "b", "targets": ["http://b"]}]',
            "GATEWAY__ROUTES": '[{"name": "a", "upstream": "a"}]',
            "PATH": "/bin",
            "GATEWAY_CONFIG": "x.toml",
            "GATEWAY_API_KEY": "sk_",
        }
    ).settings
    assert settings.server.max_connections == 20_000
    assert settings.cache.max_stale_seconds == 0.5
    assert settings.server.via is True
    assert settings.auth.realm == " my API "
    assert settings.server.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert [upstream.name for upstream in settings.upstreams] == ["a", "b"]
    assert load(environ={"GATEWAY__SERVER__TRUSTED_PROXIES": ""}).settings.server.trusted_proxies == ()
    as_json = load(environ={"GATEWAY__SERVER__TRUSTED_PROXIES": '["10.0.0.0/8"]'}).settings
    assert as_json.server.trusted_proxies == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("GATEWAY__SERVER__VIA", "yes", 'must be true or false, not "yes"'),
        ("GATEWAY__SERVER__WORKERS", "", 'must be a whole number from 1 to 256, not ""'),
        ("GATEWAY__SERVER__WORKERS", "0", "must be a whole number from 1 to 256, not 0"),
        ("GATEWAY__SERVER__WORKERS", "9" * 5000, 'must be a whole number from 1 to 256, not "999'),
        ("GATEWAY__SERVER__TRUSTED_PROXIES", "[10.0.0.0/8]", "must be JSON where it begins with a bracket"),
        ("GATEWAY__UPSTREAMS", "http://a", "must be a list of tables, written as JSON"),
        ("GATEWAY__UPSTREAMS", "{}", "must be a list of tables, each written [[upstreams]], not a table"),
        pytest.param("GATEWAY__UPSTREAMS", "[" * 100_000, "is nested too deeply", id="lists"),
        pytest.param("GATEWAY__UPSTREAMS", '{"a":' * 100_000, "is nested too deeply", id="objects"),
        ("GATEWAY__UPSTREAM", "http://\udcff", 'has the host "\\udcff", which must be written in its ASCII form'),
        ("GATEWAY__STORE__URL", "sqlite:///\udcff.db", "must be a file name in UTF-8"),
        ("GATEWAY__UPSTREAMS__0__NAME", "a", "write upstreams and routes in the file"),
        ("GATEWAY__REDIS__URL", "a", "must be written like"),
        ("GATEWAY__REDIS__PASSWORD", "a", "is not a setting"),
        ("GATEWAY__", "a", "is not a setting"),
        ("GATEWAY__SERVER__WORKRES", "1", "did you mean GATEWAY__SERVER__WORKERS?"),
        ("GATEWAY__server__workers", "1", "did you mean GATEWAY__SERVER__WORKERS?"),
        ("GATEWAY_SERVER_WORKERS", "1", "has no effect under this name; did you mean GATEWAY__SERVER__WORKERS?"),
        ("gateway__server__workers", "1", "has no effect under this name; did you mean GATEWAY__SERVER__WORKERS?"),
        ("GATEWAY_STORE_URL_FILE", "1", "has no effect under this name; did you mean GATEWAY__STORE__URL?"),
    ],
)
def test_a_bad_variable_is_named_with_the_reason(name: str, text: str, reason: str) -> None:
    """A misspelt name is a mistake as a bad value is: somebody believes that it is in force."""
    assert reason in reasons({name: text})[name]


def test_a_variable_may_name_a_file_that_holds_the_value(tmp_path: Path) -> None:
    """As container secrets do; one line end belongs to the file, the rest to the value."""
    secret = tmp_path / "url"
    for content in ("sqlite:///a.db", "sqlite:///a.db\n", "sqlite:///a.db\r\n"):
        secret.write_bytes(content.encode())
        loaded = load(environ={"GATEWAY__STORE__URL_FILE": str(secret)})
        assert loaded.settings.store.url == "sqlite:///a.db"
        assert loaded.origins["store.url"] == "GATEWAY__STORE__URL_FILE"


def test_addresses_with_passwords_can_stand_in_files(tmp_path: Path) -> None:
    """Of the store and of Redis; what is shown of them names the file, and no password."""
    addresses = {"STORE": "postgresql://me:hunter2@db/gateway?sslmode=require", "REDIS": "rediss://:hunter2@cache/1"}
    environ = {}
    for section, address in addresses.items():
        path = tmp_path / section
        path.write_text(address + "\n", encoding="utf-8")
        environ[f"GATEWAY__{section}__URL_FILE"] = str(path)
    loaded = load(environ=environ)
    assert loaded.settings.store.url == addresses["STORE"]
    assert loaded.settings.redis.url == addresses["REDIS"]
    for origin in (False, True):
        shown = show(loaded, origin=origin)
        assert 'url = "postgresql://me:***@db/gateway?sslmode=require"' in shown
        assert 'url = "rediss://:***@cache/1"' in shown
        assert "hunter2" not in shown
        assert ("# GATEWAY__REDIS__URL_FILE" in shown) == origin


def test_a_named_file_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    """So is naming a file and giving the value beside it."""
    missing = {"GATEWAY__STORE__URL_FILE": str(tmp_path / "url")}
    assert "cannot be read: no such file" in reasons(missing)["GATEWAY__STORE__URL_FILE"]
    (tmp_path / "url").write_bytes(b"\xff")
    assert "not UTF-8" in reasons(missing)["GATEWAY__STORE__URL_FILE"]
    both = {**missing, "GATEWAY__STORE__URL": "sqlite:///a.db"}
    assert "is also set by GATEWAY__STORE__URL" in reasons(both)["GATEWAY__STORE__URL_FILE"]


def test_a_secret_in_a_bad_value_is_not_repeated(tmp_path: Path) -> None:
    """Problems are printed and logged."""
    secret = tmp_path / "url"
    secret.write_text("postgresql://gateway:hunter2@db", encoding="utf-8")
    wrong = {"GATEWAY__SERVER__WORKERS": "redis://:hunter2@a", "GATEWAY__REDIS__URL": "redis://:hunter2@a:b"}
    with pytest.raises(ConfigurationError) as caught:
        load(environ={"GATEWAY__STORE__URL_FILE": str(secret), **wrong})
    assert len(caught.value.problems) == 3
    assert "hunter2" not in caught.value.detail


def test_the_environment_of_this_process_has_nothing_of_ours() -> None:
    """Other programs' variables are left alone."""
    others = {name: text for name, text in os.environ.items() if not name.upper().startswith("GATEWAY_")}
    assert not from_environment(others).problems


HOSTILE = "\x1b[31m\x9b2J\u202e\nforged\udcff" + "x" * 10_000


@pytest.mark.parametrize("name", sorted(variable(path) for path in settable()))
@pytest.mark.parametrize(
    "form", ["{}", "http://{}", "/{}", "sqlite:///{}", "*.{}", "1:{}", "[::1]{}", '[{{"name": {}}}]']
)
def test_no_value_reaches_the_terminal_as_it_is(name: str, form: str) -> None:
    """Whichever setting it is given for: one printable line per problem, of a length that can be read."""
    text = form.format(json.dumps(HOSTILE) if "name" in form else HOSTILE)
    with pytest.raises(ConfigurationError) as caught:
        load(environ={name: text})
    for line in caught.value.detail.split("\n"):
        assert line.isprintable()
        assert len(line) < 500


def test_no_name_reaches_the_terminal_as_it_is_either() -> None:
    """Nor does it make a message that nobody can read."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ={f"GATEWAY__{HOSTILE}": "1", "GATEWAY__STORE__URL_FILE": "/" + HOSTILE.replace("\udcff", "")})
    lines = caught.value.detail.split("\n")
    assert len(lines) == 2
    for line in lines:
        assert line.isprintable()
        assert len(line) < 1000
