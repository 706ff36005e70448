"""Files of certificates and keys: each fault is named with its setting and its cure, before anything is started."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from gateway.settings.certificates import validity, warnings
from gateway.settings.loading import load
from gateway.settings.model import Settings
from tests.certificates import authority, issued, openssl
from tests.settings.complaining import complaint

if TYPE_CHECKING:
    from pathlib import Path

PAIR = issued()


def complaints(tmp_path: Path, table: str, *, proxy: bool = True) -> str:
    """What loading says of a file with this table of a server's or an upstream's TLS."""
    text = f'[[upstreams]]\nname = "a"\ntargets = ["https://a"]\n{table}\n'
    return complaint(tmp_path, text, proxy=proxy)


def server(certificate: object, key: object) -> str:
    return f'[server.tls]\ncertificate_file = "{certificate}"\nprivate_key_file = "{key}"'


def test_a_good_pair_is_no_problem(tmp_path: Path) -> None:
    assert complaints(tmp_path, server(PAIR.certificate, PAIR.key)) == ""
    both = tmp_path / "both.pem"
    both.write_bytes(PAIR.key.read_bytes() + PAIR.certificate.read_bytes())
    assert complaints(tmp_path, server(both, both)) == ""


def test_a_file_that_cannot_be_used_is_named_with_its_line(tmp_path: Path) -> None:
    empty, secret = tmp_path / "empty.pem", tmp_path / "secret.pem"
    empty.touch()
    openssl("pkey", "-in", PAIR.key, "-aes128", "-passout", "pass:very-secret", "-out", secret)
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    damaged, other_kind, pipe = tmp_path / "damaged.pem", tmp_path / "rsa.pem", tmp_path / "pipe"
    damaged.write_text(broken.read_text().replace("CERTIFICATE", "PRIVATE KEY"))
    openssl("genpkey", "-algorithm", "RSA", "-out", other_kind)
    os.mkfifo(pipe)
    cases = [
        ((tmp_path / "none.pem", PAIR.key), "5: server.tls.certificate_file: names", "cannot be read: no such file"),
        ((PAIR.certificate, tmp_path), "6: server.tls.private_key_file: names", "cannot be read: is a directory"),
        ((empty, PAIR.key), "5: server.tls.certificate_file: names", "no PEM file with a certificate in it"),
        ((PAIR.certificate, empty), "6: server.tls.private_key_file: names", "no PEM file with a private key in it"),
        ((PAIR.certificate, secret), "6: server.tls.private_key_file: names", "openssl pkey -in OLD -out NEW"),
        ((broken, PAIR.key), "5: server.tls.certificate_file: names", "in which a certificate is damaged"),
        ((PAIR.certificate, damaged), "6: server.tls.private_key_file: names", "cannot be used: "),
        ((PAIR.certificate, other_kind), "6: server.tls.private_key_file: names", "not the key of the certificate"),
        ((PAIR.certificate, pipe), "6: server.tls.private_key_file: names", "is no file"),
        ((pipe, PAIR.key), "5: server.tls.certificate_file: names", "is no file"),
        (
            (authority().pair.certificate, PAIR.key),
            "6: server.tls.private_key_file: names",
            "not the key of the certificate",
        ),
    ]
    for files, where, why in cases:
        said = complaints(tmp_path, server(*files))
        assert f"gateway.toml:{where}" in said
        assert why in said
        assert len(said.splitlines()) == 1, said


def test_a_certificate_and_a_key_that_are_bad_are_both_told(tmp_path: Path) -> None:
    for certificate, key in ((PAIR.key, PAIR.certificate), (tmp_path / "none.pem", tmp_path / "no-key.pem")):
        lines = complaints(tmp_path, server(certificate, key)).splitlines()
        assert ["certificate_file: names" in lines[0], "private_key_file: names" in lines[1]] == [True, True]
        assert len(lines) == 2


def test_a_wrong_value_beside_them_hides_no_file(tmp_path: Path) -> None:
    for wrong in ("minimum_version = 1.2", "surplus = 3"):
        said = complaints(tmp_path, f"{server('/none.pem', PAIR.key)}\n{wrong}")
        assert "7: server.tls." in said
        assert "5: server.tls.certificate_file: names" in said


def test_a_file_s_name_is_repeated_escaped_and_in_short(tmp_path: Path) -> None:
    said = complaints(tmp_path, f"tls = {{ ca_file = '/\"{'n' * 9000}' }}")
    assert 'names "/\\"nnn' in said
    assert said.isprintable()
    assert len(said) < 1000


def test_an_upstream_s_files_are_looked_at_too(tmp_path: Path) -> None:
    said = complaints(
        tmp_path, 'tls = { ca_file = "/none.pem", certificate_file = "/a.pem", private_key_file = "/b.pem" }'
    )
    assert "upstreams[0].tls.ca_file: names" in said
    assert "upstreams[0].tls.certificate_file: names" in said


def test_commands_that_only_need_the_store_need_not_read_the_key(tmp_path: Path) -> None:
    assert complaints(tmp_path, server("/none.pem", "/none.pem"), proxy=False) == ""


def test_half_a_table_is_a_mistake(tmp_path: Path) -> None:
    said = complaints(tmp_path, '[server.tls]\ncertificate_file = "/a"')
    assert "server.tls.private_key_file: is missing: PEM file of its private key" in said


def test_variables_reach_the_inner_table() -> None:
    environ = {
        "GATEWAY__UPSTREAM": "http://a",
        "GATEWAY__SERVER__TLS__CERTIFICATE_FILE": str(PAIR.certificate),
        "GATEWAY__SERVER__TLS__PRIVATE_KEY_FILE": str(PAIR.key),
        "GATEWAY__SERVER__TLS__MINIMUM_VERSION": "1.3",
    }
    loaded = load(environ=environ, require_upstream=True)
    assert loaded.settings.server.tls is not None
    assert loaded.settings.server.tls.minimum_version == "1.3"
    assert loaded.origins["server.tls.minimum_version"] == "GATEWAY__SERVER__TLS__MINIMUM_VERSION"


def test_what_expires_is_told_in_time() -> None:
    settings = Settings.model_validate({"server": {"tls": PAIR.table()}})
    ends = validity(str(PAIR.certificate)).ends
    assert f"expires on {ends:%Y-%m-%d %H:%M} UTC" in next(warnings(settings, ends - timedelta(days=1)))
    assert "expired on" in next(warnings(settings, ends + timedelta(seconds=1)))
    assert "not valid before" in next(warnings(settings, ends - timedelta(days=30)))
    far = Settings.model_validate({"server": {"tls": issued(days=20).table()}})
    assert not list(warnings(far, datetime.now(UTC)))


@pytest.mark.parametrize("days", [2, 365 * 40])
def test_dates_are_those_that_openssl_reads(days: int) -> None:
    """Before 2050 and after: the two have forms of their own."""
    file = issued(days=days).certificate
    found = validity(str(file))
    said = openssl("x509", "-in", file, "-noout", "-dates").splitlines()
    for moment, line in zip((found.begins, found.ends), said, strict=True):
        assert datetime.strptime(line.partition("=")[2], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC) == moment


def test_what_is_no_certificate_has_no_dates(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    for text in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", PAIR.key.read_text()):
        file.write_text(text)
        with pytest.raises(ValueError, match="certificate"):
            validity(str(file))
