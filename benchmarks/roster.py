"""Who takes part: every peer, in the order of the table, and those that others are held against.

Adding a peer is adding a file under `peers/` and a line here.
"""

from benchmarks.peers.envoy import ENVOY
from benchmarks.peers.haproxy import HAPROXY_MAP
from benchmarks.peers.keygate import KEYGATE, KEYGATE_TWO_WORKERS, KEYGATE_WITHOUT_RECORDS
from benchmarks.peers.nginx import NGINX_LUA_AUDIT, NGINX_LUA_LOOKUP, NGINX_LUA_SAME_WORK, NGINX_MAP
from benchmarks.peers.peer import Peer
from benchmarks.peers.plain_aiohttp import PLAIN_AIOHTTP

DIRECT = "direct"  # not a peer: the upstream itself, measured at the fixed rate to know what a peer adds

PEERS = (
    NGINX_MAP,
    HAPROXY_MAP,
    NGINX_LUA_LOOKUP,
    NGINX_LUA_SAME_WORK,
    NGINX_LUA_AUDIT,
    ENVOY,
    PLAIN_AIOHTTP,
    KEYGATE,
    KEYGATE_TWO_WORKERS,
    KEYGATE_WITHOUT_RECORDS,
)
NAMES = tuple(each.name for each in PEERS)
BY_DEFAULT = tuple(each.name for each in PEERS if each not in {KEYGATE_TWO_WORKERS, KEYGATE_WITHOUT_RECORDS})
QUICK = tuple(each.name for each in (NGINX_MAP, HAPROXY_MAP, NGINX_LUA_SAME_WORK, ENVOY, PLAIN_AIOHTTP, KEYGATE))

# The columns of ratios: the row's processor time per request divided by that of these.
MARKS = (NGINX_LUA_SAME_WORK.name, ENVOY.name, PLAIN_AIOHTTP.name)
MARK_TITLES = {NGINX_LUA_SAME_WORK.name: "/ nginx+Lua", ENVOY.name: "/ Envoy", PLAIN_AIOHTTP.name: "/ aiohttp"}


def peer(name: str) -> Peer:
    """Return the peer of that name, or raise `KeyError`."""
    return {each.name: each for each in PEERS}[name]
