"""Certificates and private keys as files: whether they can be used, until when, and what to do where they cannot.

Asked when the proxy's settings are read (by `gateway check`, a start and a reload), so that a bad file changes nothing
and is named with its setting; and by the processes, which load the same files a moment later. Commands that only need
the store never ask: who makes keys need not be able to read the private one. Invariant: no reason repeats a byte of a
private key. Turned down: `cryptography`, a large dependency for two dates; they stand at a fixed place (RFC 5280
section 4.1), and OpenSSL judges all else.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.settings.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.settings.key_path import KeyPath
    from gateway.settings.model import Settings

WARNING_DAYS: Final = 14
_DAY_SECONDS: Final = 86_400
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----\s+[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII)
_FORM: Final = "%Y-%m-%d %H:%M UTC"
_MEND: Final = "renew it, then reload"
_SEQUENCE: Final = 0x30
_INTEGER: Final = 0x02
_UTC_TIME: Final = 0x17
_LONG_FORM: Final = 0x80
_MISMATCHES: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""What OpenSSL calls a key that is another certificate's; the last one where it is of another kind, too."""


class UnusableFile(Exception):
    """`setting` is the last part of its name; `str()` the rest of a sentence that begins with it."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(reason)
        self.setting = setting


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate is good."""

    begins: datetime
    ends: datetime


def load_pair(context: ssl.SSLContext, certificate_file: str, private_key_file: str) -> None:
    """Give a context its certificate and key; raises UnusableFile."""
    _pem("certificate_file", certificate_file, "CERTIFICATE", "a certificate")
    _private_key(private_key_file)

    def asked() -> str:
        raise UnusableFile(
            "private_key_file",
            f"names {quoted(private_key_file)}, which has a password, and nobody is there to be asked for it: "
            "write the key without one (openssl pkey -in OLD -out NEW) and protect the file by its permissions",
        )

    try:
        context.load_cert_chain(certificate_file, private_key_file, password=asked)
    except ssl.SSLError as error:
        if not _can_be_read(certificate_file):
            reason = f"names {quoted(certificate_file)}, in which a certificate is damaged"
            raise UnusableFile("certificate_file", reason) from None
        if error.reason in _MISMATCHES:
            reason = (
                f"names {quoted(private_key_file)}, which is not the key of the certificate in "
                f"{quoted(certificate_file)}; that file has to begin with the server's own certificate"
            )
            raise UnusableFile("private_key_file", reason) from None
        reason = f"names {quoted(private_key_file)}, which cannot be used: {_words(error)}"
        raise UnusableFile("private_key_file", reason) from None
    except OSError as error:  # gone in the moment since it was read
        raise UnusableFile("certificate_file", _unreadable(certificate_file, error)) from None


def _can_be_read(certificate_file: str) -> bool:
    """Whether OpenSSL finds nothing wrong with the certificates alone: what it says of a pair blames neither file."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=certificate_file)
    except OSError:  # ssl.SSLError is one
        return False
    return True


def load_authorities(context: ssl.SSLContext, ca_file: str) -> None:
    """Give a context the authorities that it believes; raises UnusableFile."""
    _pem("ca_file", ca_file, "CERTIFICATE", "a certificate")
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        reason = _words(error) if isinstance(error, ssl.SSLError) else (error.strerror or str(error)).lower()
        raise UnusableFile("ca_file", f"names {quoted(ca_file)}, which cannot be used: {reason}") from None


def problems(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """Every file of the settings that cannot be used, by the path of its setting, with the rest of a sentence."""
    if settings.server.tls is not None:
        tls = settings.server.tls
        yield from _problem(("server", "tls"), tls.certificate_file, tls.private_key_file, None)
    for index, upstream in enumerate(settings.upstreams):
        pair = upstream.tls
        yield from _problem(
            ("upstreams", index, "tls"),
            pair.certificate_file,
            pair.private_key_file,
            pair.ca_file if pair.verify else None,
        )


def warnings(settings: Settings, now: datetime) -> Iterator[str]:
    """A sentence for each certificate of ours that is not good now, or will not be soon."""
    for name, file in _own(settings):
        try:
            valid = validity(file)
        except (OSError, ValueError):
            continue
        days = (valid.ends - now).total_seconds() / _DAY_SECONDS
        if days < 0:
            yield f"{name} names {quoted(file)}, which expired on {valid.ends:{_FORM}}: {_MEND}"
        elif now < valid.begins:
            yield f"{name} names {quoted(file)}, which is not valid before {valid.begins:{_FORM}}"
        elif days < WARNING_DAYS:
            yield f"{name} names {quoted(file)}, which expires on {valid.ends:{_FORM}}: {_MEND}"


def validity(file: str) -> Validity:
    """Read the dates of the first certificate in a PEM file; OSError or ValueError where there is none."""
    if not Path(file).is_file():
        raise ValueError("no file")
    found = _CERTIFICATE.search(Path(file).read_text(encoding="ascii", errors="replace"))
    if found is None:
        raise ValueError("no certificate")
    der = ssl.PEM_cert_to_DER_cert(found.group())
    try:
        return _validity(der)
    except IndexError:
        raise ValueError("not a certificate") from None


def _own(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.server.tls is not None:
        yield "server.tls.certificate_file", settings.server.tls.certificate_file
    for index, upstream in enumerate(settings.upstreams):
        if upstream.tls.certificate_file is not None:
            yield f"upstreams[{index}].tls.certificate_file", upstream.tls.certificate_file


def _problem(
    path: KeyPath, certificate: str | None, key: str | None, authorities: str | None
) -> Iterator[tuple[KeyPath, str]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    checks: list[Callable[[], None]] = []
    if authorities is not None:
        checks.append(partial(load_authorities, context, authorities))
    if certificate is not None and key is not None:
        checks.append(partial(load_pair, context, certificate, key))
        checks.append(partial(_private_key, key))  # a certificate that is bad must not hide it
    told = set[str]()
    for check in checks:
        try:
            check()
        except UnusableFile as error:
            if error.setting not in told:
                yield (*path, error.setting), str(error)
            told.add(error.setting)


def _private_key(file: str) -> None:
    _pem("private_key_file", file, "PRIVATE KEY", "a private key")


def _pem(setting: str, file: str, ending: str, meant: str) -> None:
    """Refuse a file that cannot be read, or has nothing of what is looked for in it; OpenSSL's words say neither."""
    path = Path(file)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would hold up the supervisor
            raise UnusableFile(setting, f"names {quoted(file)}, which is no file")
        text = path.read_text(encoding="ascii", errors="replace")
    except (OSError, ValueError) as error:
        raise UnusableFile(setting, _unreadable(file, error)) from None
    if not re.search(rf"-----BEGIN [A-Z ]*{ending}-----", text):
        reason = f"names {quoted(file)}, which is no PEM file with {meant} in it (-----BEGIN … {ending}-----)"
        raise UnusableFile(setting, reason)


def _unreadable(file: str, error: OSError | ValueError) -> str:
    why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return f"names {quoted(file)}, which cannot be read: {why}"


def _words(error: ssl.SSLError) -> str:
    return error.reason.replace("_", " ").lower() if error.reason else "it is damaged"


# --- DER, as far as the dates -----------------------------------------------------------------------------------------


def _validity(der: bytes) -> Validity:
    """Certificate, tbsCertificate: [0] version, serial number, algorithm, issuer, validity (RFC 5280 section 4.1)."""
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    tag, _, end = _element(der, at)
    if tag != _INTEGER:  # the version
        at = end
    for _ in range(3):
        _, _, at = _element(der, at)
    tag, at, _ = _element(der, at)
    if tag != _SEQUENCE:
        raise ValueError("not a certificate")
    begins, at = _time(der, at)
    ends, _ = _time(der, at)
    return Validity(begins, ends)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag of the element at a position, and where its content begins and ends."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length >= _LONG_FORM:
        size = length - _LONG_FORM
        length, at = int.from_bytes(der[at : at + size], "big"), at + size
    return tag, at, at + length


def _time(der: bytes, at: int) -> tuple[datetime, int]:
    """UTCTime up to 2049, GeneralizedTime from then on (RFC 5280 section 4.1.2.5)."""
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii", "replace")
    if tag == _UTC_TIME:
        text = ("20" if text < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC), end
