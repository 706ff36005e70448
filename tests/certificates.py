"""Certificates for tests, made by the `openssl` program, which is what most people make theirs with.

Invariant: what is made is made once per process, in a directory that goes when the process ends, and is not valid for
longer than a few days; keys are of the curve P-256, which costs milliseconds where RSA costs seconds.
"""

from __future__ import annotations

import atexit
import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: Path
    key: Path

    def table(self) -> dict[str, str]:
        """As settings name them."""
        return {"certificate_file": str(self.certificate), "private_key_file": str(self.key)}


@dataclass(frozen=True)
class Authority:
    """Whoever signs certificates."""

    pair: Pair

    @property
    def file(self) -> str:
        return str(self.pair.certificate)

    def context(self, **changes: object) -> ssl.SSLContext:
        """A client's, that believes this authority alone; `changes` are attributes."""
        context = ssl.create_default_context(cafile=self.file)
        for name, value in changes.items():
            setattr(context, name, value)
        return context

    def server(self, pair: Pair, **changes: object) -> ssl.SSLContext:
        """A server's, with this pair; clients that show a certificate need one of this authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.file)
        context.load_cert_chain(pair.certificate, pair.key)
        for name, value in changes.items():
            setattr(context, name, value)
        return context


@cache
def _directory() -> Path:
    made = Path(tempfile.mkdtemp(prefix="certificates-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def openssl(*arguments: str | Path) -> str:
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def authority(name: str = "Test Authority") -> Authority:
    """The authority of this name, made when it is first asked for."""
    return _authority(name)


@cache  # by the name as it is, given or not
def _authority(name: str) -> Authority:
    stem = _directory() / name.replace(" ", "-")
    pair = Pair(stem.with_suffix(".pem"), stem.with_suffix(".key"))
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 asks for it (VERIFY_X509_STRICT)
    made = ("-days", "3", "-subj", f"/CN={name}", "-out", pair.certificate, "-keyout", pair.key)
    openssl("req", "-x509", *KEY, *usage, *made)
    return Authority(pair)


def issued(name: str = "localhost", *, days: int = 2, by: str = "Test Authority", serial: int = 1) -> Pair:
    """A certificate for a DNS name and for 127.0.0.1, unless its name is another; `days` below 0: it has expired."""
    return _issued(name, days, by, serial)


@cache
def _issued(name: str, days: int, by: str, serial: int) -> Pair:
    signer = authority(by).pair
    stem = f"{name}-{days}-{by.replace(' ', '-')}-{serial}"
    pair = Pair(_directory() / f"{stem}.pem", _directory() / f"{stem}.key")
    request, extensions = _directory() / f"{stem}.csr", _directory() / f"{stem}.ext"
    addresses = ",IP:127.0.0.1" if name == "localhost" else ""
    extensions.write_text(f"subjectAltName=DNS:{name}{addresses}\nauthorityKeyIdentifier=keyid\n")
    openssl("req", *KEY, "-subj", f"/CN={name}", "-out", request, "-keyout", pair.key)
    signed = ("-CA", signer.certificate, "-CAkey", signer.key, "-set_serial", str(serial), "-days", str(days))
    openssl("x509", "-req", "-in", request, *signed, "-extfile", extensions, "-out", pair.certificate)
    return pair
