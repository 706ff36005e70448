"""The entry point `gateway`: the list of commands, and the one place where errors become exit statuses.

A command lives in the module of its name and imports what it needs when it runs, so that `gateway run` starts without
SQLAlchemy, and `gateway --help` without almost anything. `init` opens the store, since there is no key yet to call the
admin API with; every other command about keys and people calls it.
"""

import io
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from gateway import __version__
from gateway.cli import (
    audit,
    audit_export,
    audit_tail,
    check,
    config,
    demo,
    identity,
    initialise,
    key_life,
    keys,
    members,
    organizations,
    reload,
    rotation,
    run,
    service_accounts,
    status,
)
from gateway.cli.compilation import is_compiled
from gateway.cli.exits import ExitStatus, complain, status_of
from gateway.errors import GatewayError
from gateway.keys.quoting import has_form_of_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_OF_PYDANTIC: Final = "Value error, "  # what it puts before the sentence of a wrong choice; Typer hands it on
_WRONG_USAGE: Final = typer.BadParameter.__mro__[1]  # click's UsageError, which Typer does not export


class _Commands(TyperGroup):
    """The commands, with messages about wrong usage that never repeat a secret typed in a wrong place."""

    def make_context(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - as Typer has it
        with _secrets_masked():
            return super().make_context(*given, **named)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - as Typer has it
        with _secrets_masked():
            return super().invoke(ctx)


@contextmanager
def _secrets_masked() -> "Iterator[None]":
    try:
        yield
    except Exception as error:
        if isinstance(error, _WRONG_USAGE):
            wrong: Any = error  # to mypy it is any exception
            wrong.message = _WORD.sub(_without_secret, wrong.message.replace(_OF_PYDANTIC, ""))
        raise


def _without_secret(word: re.Match[str]) -> str:
    return "(a key's secret)" if has_form_of_secret(word[0]) else word[0]


app = typer.Typer(
    name="gateway",
    cls=_Commands,
    help="A reverse proxy that lets a request through only with a valid API key.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback is a bug's; it must be whole, and plain where logs collect it
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("demo")(demo.demo)
app.command("init")(initialise.initialise)
app.command("check")(check.check)
app.add_typer(config.app, name="config")
keys.app.add_typer(key_life.app)
app.add_typer(keys.app, name="keys")
app.add_typer(members.app, name="members")
app.add_typer(service_accounts.app, name="service-accounts")
app.add_typer(organizations.app, name="orgs")
audit.app.add_typer(audit_tail.app)
audit.app.add_typer(audit_export.app)
app.add_typer(audit.app, name="audit")
app.command("status")(status.status)
app.command("reload")(reload.reload)
app.command("rotate")(rotation.rotate)
app.command("whoami")(identity.whoami)
app.command("permissions")(identity.permissions)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"keygate {__version__} (data plane {'compiled' if is_compiled() else 'not compiled'})")
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line and exit with its status."""
    _print_whatever_comes()
    _refuse_what_is_no_text(sys.argv[1:])
    try:
        app()
    except GatewayError as error:
        complain(error.detail)
        sys.exit(status_of(error))
    except KeyboardInterrupt:
        sys.exit(ExitStatus.FAILED)


def _print_whatever_comes() -> None:
    """Escape what the encoding of an output lacks, as names of keys may: a list must not end in the middle."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _refuse_what_is_no_text(arguments: "Sequence[str]") -> None:
    """Exit with USAGE where bytes that are no text stand in for it: nothing that takes an argument could store it."""
    for position, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:  # Python hands such bytes on as lone surrogates (PEP 383)
            encoding = sys.getfilesystemencoding().upper()
            complain(f"argument {position} is not valid {encoding} text")
            sys.exit(ExitStatus.USAGE)
