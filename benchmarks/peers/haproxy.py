"""HAProxy with its own `map_str` look-up: the least a dedicated C proxy does to check a key."""

from benchmarks.peers.peer import Peer, Promise, Site, needs, render, template
from benchmarks.processes import find_program


def _command(site: Site) -> list[str]:
    lines = (f"{each.secret} {each.record.owner_id}\n" for each in site.keys.good)
    (site.directory / "keys.map").write_text("".join(lines))
    path = site.directory / "haproxy.cfg"
    path.write_text(
        render(
            template("haproxy.cfg"),
            DIRECTORY=str(site.directory),
            PORT=str(site.port),
            UPSTREAM_PORT=str(site.upstream_port),
        )
    )
    return [find_program("haproxy") or "haproxy", "-db", "-f", str(path)]


HAPROXY_MAP = Peer(
    "haproxy-map",
    "HAProxy, map_str look-up",
    frozenset({Promise.CONSUMER_HEADER, Promise.HIDES_CREDENTIAL}),
    needs("haproxy"),
    _command,
)
