"""Loading: who goes before whom, where each value came from, and every mistake at once."""

import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.settings.loading import LoadedSettings, load

Written = Callable[[str], Path]

STORE_FORM = (
    'must be written sqlite:///FILE, such as "sqlite:///data/gateway.db", '
    "or postgresql://user:password@host:5432/database"
)
UPSTREAM = '[[upstreams]]\nname = "api"\ntargets = ["http://api"]\n'


@pytest.fixture
def file(tmp_path: Path) -> Written:
    """Write a settings file."""

    def written(text: str) -> Path:
        path = tmp_path / "gateway.toml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return written


def problems(
    config: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    require_upstream: bool = False,
) -> list[str]:
    """Return the problems of loading, one line each, with paths shortened to their last part."""
    with pytest.raises(ConfigurationError) as caught:
        load(config, overrides, environ, require_upstream=require_upstream)
    directory = f"{config.parent}/" if config else "\0"
    return caught.value.detail.replace(directory, "").split("\n")


def test_nothing_at_all_is_the_defaults() -> None:
    """Commands that only need the store need no settings."""
    loaded = load()
    assert loaded.settings.server.listen == "0.0.0.0:8080"
    assert set(loaded.origins.values()) == {"default"}


@given(st.sets(st.sampled_from(["file", "environment", "flag"])))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(file: Written, given_in: set[str]) -> None:
    """Whichever of them are given, the first in that order decides, and says so."""
    config = file("[server]\nworkers = 2\n" if "file" in given_in else "")
    environ = {"GATEWAY__SERVER__WORKERS": "3"} if "environment" in given_in else {}
    overrides = {"server.workers": "4"} if "flag" in given_in else {}
    loaded = load(config, overrides, environ)
    expected, origin = next(
        (value, origin)
        for name, value, origin in [
            ("flag", 4, "command line"),
            ("environment", 3, "GATEWAY__SERVER__WORKERS"),
            ("file", 2, f"{config}:2"),
            ("default", 1, "default"),
        ]
        if name in given_in or name == "default"
    )
    assert (loaded.settings.server.workers, loaded.origins["server.workers"]) == (expected, origin)
    assert loaded.origins["server.listen"] == "default"


def test_an_address_alone_is_an_upstream_and_its_route() -> None:
    """`gateway run --upstream URL` needs nothing else; nor does GATEWAY__UPSTREAM, which a flag goes before."""
    loaded = load(
        overrides={"upstream": "http://a:1"}, environ={"GATEWAY__UPSTREAM": "http://b"}, require_upstream=True
    )
    [upstream], [route] = loaded.settings.upstreams, loaded.settings.routes
    assert (upstream.name, upstream.targets) == ("default", ("http://a:1",))
    assert (route.name, route.path, route.upstream, route.auth) == ("default", "/", "default", "required")
    assert loaded.origins["upstreams[0].targets"] == "--upstream"
    loaded = load(environ={"GATEWAY__UPSTREAM": "http://b, http://c"})
    assert loaded.settings.upstreams[0].targets == ("http://b", "http://c")


def test_a_single_upstream_gets_the_route_it_must_mean(file: Written) -> None:
    """Its origin says that nobody wrote it."""
    loaded = load(file(UPSTREAM))
    assert loaded.settings.routes[0].upstream == "api"
    assert loaded.origins["routes[0].upstream"] == "implied by the only upstream"


def test_an_empty_list_of_routes_says_no_more_than_none(file: Written) -> None:
    """Wherever it is written. With several upstreams it is as wrong as none."""
    loaded = load(environ={"GATEWAY__UPSTREAM": "http://a", "GATEWAY__ROUTES": "[]"})
    assert loaded.settings.routes[0].upstream == "default"
    assert loaded.origins["routes[0].upstream"] == "implied by the only upstream"
    assert load(file(f"routes = []\n{UPSTREAM}")).settings.routes[0].upstream == "api"
    [problem] = problems(file(f"routes = []\n{UPSTREAM}{UPSTREAM.replace('api', 'other')}"))
    assert "routes: is missing: with 2 upstreams" in problem
    [problem] = problems(file(f"routes = {{}}\n{UPSTREAM}"))
    assert "routes: must be a list of tables" in problem


def test_an_address_does_not_replace_what_the_file_says(file: Written) -> None:
    """Two answers to one question are a mistake, not a matter of precedence."""
    [problem] = problems(file(UPSTREAM), {"upstream": "http://b"})
    assert problem == (
        "--upstream: upstream: cannot be combined with the upstreams of gateway.toml:1: leave one of them out"
    )


def test_a_bad_address_is_reported_as_it_was_given() -> None:
    """The flag is named, not the upstream that would have been made of it."""
    assert problems(None, {"upstream": "api:9000"}) == ["--upstream: upstream: must begin with http:// or https://"]


def test_without_any_upstream_running_is_refused_with_the_three_ways_out(file: Written) -> None:
    """Once, and not again for each route that names one."""
    [problem] = problems(require_upstream=True)
    assert problem.startswith("settings: upstreams: is missing: say which API to protect, with --upstream ")
    assert "GATEWAY__UPSTREAM, or [[upstreams]]" in problem
    [problem] = problems(file('[[routes]]\nname = "a"\nupstream = "b"'), require_upstream=True)
    assert problem.startswith("gateway.toml: upstreams: is missing")


def test_a_wrong_value_of_an_upstream_hides_no_route_to_one_that_is_unknown(file: Written) -> None:
    """The names are what such a route hangs on, and nothing else of the upstreams."""
    config = file(f'{UPSTREAM}connect_timeout_seconds = "5"\n[[routes]]\nname = "a"\nupstream = "other"')
    wrong, unknown = problems(config)
    assert "upstreams[0].connect_timeout_seconds: must be" in wrong
    assert 'routes[0].upstream: names "other", which is no upstream' in unknown


def test_every_mistake_is_named_at_once_in_the_order_of_the_file(file: Written) -> None:
    """Misspelt, ill-typed, out of bounds, missing and contradictory ones, each with its line, none twice."""
    config = file("""\
        [server]
        worker = 4
        backlog = "12"
        listen = "0.0.0.0:8081"

        [cache]
        positive_ttl_seconds = -1

        [metrics]
        url = "redis://:hunter2@host"

        [[upstreams]]
        name = "billing"
        targets = ["http://billing/v1", 3]
        tls = { verfy = false }

        [[upstreams]]
        nmae = "orders"
        targets = []

        [[routes]]
        name = "a"
        upstream = "billing"
        hosts = ["a.com"]
        methods = "GET"
        [[routes]]
        upstream = "billing"
        hosts = ["a.com"]
        max_body_bytes = true
    """)
    expected = """\
        gateway.toml:2: server.worker: is not a setting; did you mean workers?
        gateway.toml:3: server.backlog: must be a whole number from 1 to 65_535, not "12"
        gateway.toml:4: control.listen: is "127.0.0.1:8081", which server.listen, "0.0.0.0:8081", takes already: \
use another port
        gateway.toml:7: cache.positive_ttl_seconds: must be a number from 0 to 86_400, not -1
        gateway.toml:9: metrics: is not a setting; there are: [server], [control], [store], [redis], [cache], [auth], \
[audit], [log], [[upstreams]], [[routes]]
        gateway.toml:14: upstreams[0].targets[0]: must be scheme://host:port alone: the path and query come with \
each request
        gateway.toml:14: upstreams[0].targets[1]: must be text, not 3
        gateway.toml:15: upstreams[0].tls.verfy: is not a setting; did you mean verify?
        gateway.toml:18: upstreams[1].nmae: is not a setting; did you mean name?
        gateway.toml:19: upstreams[1].targets: must not be empty
        gateway.toml:25: routes[0].methods: must be a list of texts, in brackets, not "GET"
        gateway.toml:26: routes[1].name: is missing: what logs call it
        gateway.toml:29: routes[1].max_body_bytes: must be a whole number from 0 to 1_099_511_627_776, not true
        GATEWAY__LOG__LEVLE: log.levle: is not a setting; did you mean GATEWAY__LOG__LEVEL?
        GATEWAY__SERVER__WORKERS: server.workers: must be a whole number from 1 to 256, not "many"
    """
    found = problems(config, None, {"GATEWAY__SERVER__WORKERS": "many", "GATEWAY__LOG__LEVLE": "info"})
    assert "\n".join(found) == textwrap.dedent(expected).rstrip()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server = 3", "1: server: must be a table, written [server], not 3"),
        ("[[server]]", "1: server: must be a table, written [server], not a list"),
        ("[upstreams]\nname = 'a'", "1: upstreams: must be a list of tables, each written [[upstreams]], not a table"),
        ("upstreams = ['a']", '1: upstreams[0]: must be a table, written [[upstreams]], not "a"'),
        ("upstream = 'http://a'", "1: upstream: is not a setting; did you mean upstreams?"),
        ("workers = 3", "1: workers: is not a setting here; it belongs to [server]"),
        ("[log]\nlevel = 'INFO'", '2: log.level: must be "debug", "info", "warning" or "error", not "INFO"'),
        ("[log]\nlevel = 1979-05-27", '2: log.level: must be "debug", "info", "warning" or "error", not 1979-05-27'),
        ("[log]\nlevle.x = 1", "2: log.levle: is not a setting; did you mean level?"),
        ("[log]\n'' = 1", '2: log."": is not a setting; there are: level, format'),
        ("[server]\nvia = 1", "2: server.via: must be true or false, not 1"),
        ("[server]\nworkers = 2.0", "2: server.workers: must be a whole number from 1 to 256, not 2.0"),
        ("[cache]\nmax_stale_seconds = nan", "2: cache.max_stale_seconds: must be a number from 0 to 86_400, not nan"),
        ("[store]\nurl = 'redis://:hunter2@a'", f"2: store.url: {STORE_FORM}"),
    ],
)
def test_a_mistake_is_explained_in_the_words_of_toml(file: Written, text: str, problem: str) -> None:
    """With its line, and never in the words of Python or pydantic."""
    assert problems(file(text)) == [f"gateway.toml:{problem}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("[server\nworkers = 2\n", 1), ("[server]\nvia = true\nvia = false\n\n", 3), ("[server]\n\nworkers =", 3)],
)
def test_what_is_no_toml_is_named_with_its_line(file: Written, text: str, line: int) -> None:
    """The words are those of the standard library, which differ between versions of Python."""
    [problem] = problems(file(text))
    assert re.match(rf"gateway\.toml:{line}: syntax: [a-z].* \((column \d+|at the end)\)$", problem), problem


def test_a_mistake_hides_only_what_depends_on_it(file: Written) -> None:
    """A route to an upstream whose name is unreadable is not called lost; two rivals are still found."""
    text = '[[upstreams]]\nname = 3\ntargets = ["http://a"]\n'
    for name in ("one", "two"):
        text += f'[[routes]]\nname = "{name}"\nupstream = "api"\nstrip_prefix = 1\n'
    found = problems(file(text))
    assert not any("which is no upstream" in each for each in found)
    assert sum("fits the same requests" in each for each in found) == 1
    assert len(found) == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cors = true", "7: routes[0].cors: must be a table, written [routes.cors], not true"),
        ("[routes.cors]", "7: routes[0].cors.allow_origins: is missing: origins whose pages may use the route"),
        ("[routes.cors]\nallow_origins = []", "8: routes[0].cors.allow_origins: must not be empty"),
        ("[routes.cors]\nallow_origins = '*'", "8: routes[0].cors.allow_origins: must be a list of texts, in brackets"),
        ("[routes.cors]\norigins = ['*']", "8: routes[0].cors.origins: is not a setting; did you mean allow_origins?"),
        ("allow_origins = ['*']", "7: routes[0].allow_origins: is not a setting here; it belongs to [routes.cors]"),
        ("cors = { allow_origins = ['https://A.test'] }", "7: routes[0].cors.allow_origins[0]: must be * or an origin"),
        (
            "[routes.cors]\nallow_origins = ['*']\nallow_credentials = true",
            "9: routes[0].cors.allow_credentials: cannot be true",
        ),
    ],
)
def test_a_table_that_need_not_be_there_is_judged_where_it_is(file: Written, text: str, problem: str) -> None:
    """At its own line, and the route around it is not called wrong for it."""
    [found] = problems(file(f'{UPSTREAM}[[routes]]\nname = "r"\nupstream = "api"\n{text}'))
    assert found.startswith(f"gateway.toml:{problem}")


def test_the_settings_of_a_table_that_need_not_be_there_say_where_they_came_from(file: Written) -> None:
    route = f'{UPSTREAM}[[routes]]\nname = "r"\nupstream = "api"\n'
    assert load(file(route)).origins["routes[0].cors"] == "default"
    config = file(f"{route}[routes.cors]\nallow_origins = ['*']")
    origins = load(config).origins
    assert origins["routes[0].cors.allow_origins"] == f"{config}:8"
    assert origins["routes[0].cors.max_age_seconds"] == "default"


def test_a_single_upstream_with_a_bad_name_is_complained_about_once(file: Written) -> None:
    """The route that is implied does not repeat the complaint."""
    assert len(problems(file('[[upstreams]]\nname = "a b"\ntargets = ["http://a"]'))) == 1
    assert len(problems(file('[[upstreams]]\ntargets = ["http://a"]'))) == 1


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    """A file that is named and missing is a mistake, never the defaults."""
    missing = tmp_path / "missing.toml"
    assert problems(missing, require_upstream=True) == ["missing.toml: file: does not exist"]
    assert "is a directory" in problems(tmp_path)[0]
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"[server]\n\xff")
    assert problems(binary) == ["binary.toml: file: is not UTF-8 text (byte 9)"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = " + "[" * 20_000, "gateway.toml: file: is nested too deeply"),
        ("a = " + "{a=" * 20_000, "gateway.toml: file: is nested too deeply"),
        (".".join(["a"] * 5000) + " = 1", "gateway.toml:1: a: is not a setting; there are: "),
        (f"[{'.'.join(['log'] * 5000)}]", "gateway.toml: log.log: is not a setting; there are: level, format"),
        (f"server.listen{'.a' * 5000} = 1", "gateway.toml:1: server.listen: must be text, not a table"),
        (f"upstreams = [{{ {'a.' * 5000}a = 1 }}]", "gateway.toml:1: upstreams[0].a: is not a setting"),
    ],
    ids=["lists", "tables", "key", "header", "in a setting", "in an upstream"],
)
def test_what_is_nested_beyond_all_measure_is_a_mistake_like_others(file: Written, text: str, problem: str) -> None:
    """However it is written; Python's limit of recursion is no reason for a traceback."""
    assert any(found.startswith(problem) for found in problems(file(text)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"[server]\nworkers = 0x{'f' * 9000}", "from 1 to 256, not a far longer number"),
        (f"[server]\nlisten = -0x{'f' * 9000}", "syntax: "),
        ("[server]\nworkers = " + "9" * 5000, "file: cannot be read: "),
        (f'"{"k" * 9000}" = 1', "…"),
        ('"\\u001b[31m\\u202e" = 1', r'"\u001b[31m\u202e": is not a setting'),
        (f'{UPSTREAM}tls = {{ ca_file = "\\u0000" }}', "ca_file: must be a file name in UTF-8, without control"),
        (f'{UPSTREAM}[[routes]]\nname = "r"\nupstream = "api"\nhosts = ["\\u001b[31m"]', r'the host "\u001b[31m"'),
        (f'{UPSTREAM}[[routes]]\nname = "r"\nupstream = "api"\npath = "\\u001b[31m"', r'with /, not "\u001b[31m"'),
    ],
    ids=["number", "number as text", "digits", "long name", "name", "file", "host", "path"],
)
def test_odd_values_are_repeated_escaped_and_in_short(file: Written, text: str, problem: str) -> None:
    """A message is for reading, in a terminal that obeys what it is sent."""
    found = problems(file(text))
    assert any(problem in each for each in found), found
    assert all(each.isprintable() and len(each) < 1000 for each in found)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """Some editors write one."""
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nworkers = 2\r\n")
    assert load(path).settings.server.workers == 2


def test_an_unknown_flag_is_refused() -> None:
    """With the setting that was probably meant."""
    assert problems(None, {"server.listn": "a"}) == [
        "command line: server.listn: is not a setting; did you mean server.listen?"
    ]


scalars = st.one_of(st.integers(), st.booleans(), st.floats(), st.text(max_size=5))
names = st.sampled_from(
    [
        *("server", "cache", "upstreams", "routes", "name", "targets", "upstream", "tls", "workers", "path", "hosts"),
        *("cors", "allow_origins", "allow_credentials", "me_path", "auth", "tenant_header", "x"),
    ]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


@given(tables=st.dictionaries(names, values, max_size=5), required=st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_shape_of_values_is_loaded_or_refused(tables: dict[str, object], *, required: bool) -> None:
    """Whatever tables and lists stand where: settings, or problems that name a reason. Never another exception."""
    import gateway.settings.loading as subject  # noqa: PLC0415 - its reader is replaced for this test alone
    from gateway.settings.sources import Layer  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        layer = Layer(values={(name,): value for name, value in tables.items()})
        patch.setattr(subject, "from_file", lambda _: layer)
        try:
            outcome: LoadedSettings | list[str] = load(Path("any.toml"), require_upstream=required)
        except ConfigurationError as error:
            outcome = [problem.reason for problem in error.problems]
    assert outcome
    assert "pydantic" not in str(outcome)


@given(st.binary(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_loaded_or_refused(tmp_path: Path, content: bytes) -> None:
    """A settings file never leads to a traceback."""
    path = tmp_path / "any.toml"
    path.write_bytes(content)
    try:
        load(path)
    except ConfigurationError as error:
        assert error.problems  # noqa: PT017 - a few inputs are good settings
