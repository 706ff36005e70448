"""Four peers on Debian's nginx: a `map` look-up, a Lua look-up, and the gateway's work in Lua without and with audit.

The last two are the marks this gateway is held against. They hash the presented key, look its record up by digest,
check status, expiry and permission, replace the identity fields, number the request and count it; the audited one also
writes a buffered JSON line and notes the last use.
"""

from pathlib import Path

from benchmarks.known_keys import ROUTE_PERMISSION, KnownKey
from benchmarks.peers.peer import EVERYTHING, Peer, Promise, Site, needs, render, template
from benchmarks.processes import find_program
from benchmarks.upstream import nginx_user_line

MODULES = Path("/usr/lib/nginx/modules")
LUA_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
LOOKUP_ONLY = frozenset({Promise.CONSUMER_HEADER, Promise.HIDES_CREDENTIAL})

_needs_lua = needs("nginx", *(str(MODULES / name) for name in LUA_MODULES), "/usr/share/lua/5.1/resty/core.lua")


def _command(site: Site, site_template: str, *, lua: bool, **values: str) -> list[str]:
    """Write nginx's configuration around a site and return the command that runs it."""
    values |= {
        "DIRECTORY": str(site.directory),
        "PORT": str(site.port),
        "LOCATIONS": template("nginx_locations.conf").read_text(),
    }
    inner = render(template(site_template), **values)
    modules = "\n".join(f"load_module {MODULES / name};" for name in LUA_MODULES) if lua else ""
    configuration = render(
        template("nginx_common.conf"),
        DIRECTORY=str(site.directory),
        USER=nginx_user_line(),
        MODULES=modules,
        UPSTREAM_PORT=str(site.upstream_port),
        SITE=inner,
    )
    path = site.directory / "nginx.conf"
    path.write_text(configuration)
    return [find_program("nginx") or "nginx", "-p", str(site.directory), "-c", str(path), "-e", "stderr"]


def _map(site: Site) -> list[str]:
    lines = (f'"{each.secret}" "{each.record.owner_id}";\n' for each in site.keys.good)
    (site.directory / "keys.map").write_text("".join(lines))
    return _command(site, "nginx_map.conf", lua=False)


def _lua_lookup(site: Site) -> list[str]:
    lines = (f"{each.secret}\t{each.record.owner_id}\n" for each in site.keys.good)
    (site.directory / "keys.tsv").write_text("".join(lines))
    return _command(site, "nginx_lua_lookup.conf", lua=True)


def _same_work(site: Site) -> list[str]:
    return _same_work_command(site, audit=False)


def _same_work_audit(site: Site) -> list[str]:
    return _same_work_command(site, audit=True)


def _same_work_command(site: Site, *, audit: bool) -> list[str]:
    (site.directory / "records.tsv").write_text("".join(_line(each) for each in site.keys.stored))
    return _command(
        site,
        "nginx_lua_same_work.conf",
        lua=True,
        LUA_DIRECTORY=str(template("same_work.lua").parent),
        PERMISSION=ROUTE_PERMISSION,
        NOTE_LAST_USE="true" if audit else "false",
        LOG=render(template("nginx_lua_audit.conf"), DIRECTORY=str(site.directory)) if audit else "",
    )


def _line(key: KnownKey) -> str:
    """Write a record in the order in which `same_work.lua` reads it."""
    record = key.record
    fields: tuple[object, ...] = (
        record.secret_valid_until,
        record.revoked_at,
        record.expires_at,
        record.disabled_at,
        ",".join(record.permissions or ()),
        ",".join(record.owner_permissions),
        record.key_id,
        record.owner_id,
        record.owner_name,
        record.owner_external_id,
        record.organization_id,
    )
    return "\t".join((record.digest.hex(), *("" if field is None else str(field) for field in fields))) + "\n"


NGINX_MAP = Peer("nginx-map", "nginx, map look-up", LOOKUP_ONLY, needs("nginx"), _map)
NGINX_LUA_LOOKUP = Peer("nginx-lua-lookup", "nginx + Lua, look-up only", LOOKUP_ONLY, _needs_lua, _lua_lookup)
NGINX_LUA_SAME_WORK = Peer("nginx-lua-same", "nginx + Lua, same work", EVERYTHING, _needs_lua, _same_work)
NGINX_LUA_AUDIT = Peer("nginx-lua-audit", "nginx + Lua, same work + audit", EVERYTHING, _needs_lua, _same_work_audit)
