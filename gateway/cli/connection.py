"""Commands that call the admin API: how they reach it, and what its refusals end in.

Invariant: such a command knows neither addresses nor keys nor exit statuses; `connected` gives it a client, takes the
options that say where and by which key, and turns every failure into lines on stderr and a status. Repeating four
options and a `try` in forty commands was turned down, and so was putting the options before the command, where people
do not look for them.
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from gateway.cli.exits import ExitStatus, complain
from gateway.cli.options import AdminUrl, ApiKey, ApiKeyFile, Json

if TYPE_CHECKING:
    from gateway.client import APIError, Client, ClientError

_STATUSES: Final = {
    400: ExitStatus.USAGE,
    401: ExitStatus.NOT_ALLOWED,
    403: ExitStatus.NOT_ALLOWED,
    404: ExitStatus.NOT_FOUND,
    502: ExitStatus.UNREACHABLE,
    503: ExitStatus.UNREACHABLE,
    504: ExitStatus.UNREACHABLE,
}
_LONGEST_KEY_FILE_BYTES: Final = 4096


@dataclass(frozen=True)
class Connection:
    """What a command gets: the client, and whether JSON is wanted."""

    client: "Client"
    json: bool

    @functools.cached_property
    def uses_recorded(self) -> bool:
        """Whether the gateway records what keys are used for; asked once, and no where it cannot be told.

        It may be the calling key that was just ended. For JSON, which has no words for it, nobody is asked.
        """
        from gateway.client import ClientError

        try:
            return not self.json and self.client.me().uses_recorded
        except ClientError:
            return False


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function whose first parameter is the connection; Typer sees the others, and four more."""
    _, *own = inspect.signature(command).parameters.values()
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in (
            ("json", Json, False),
            ("admin_url", AdminUrl, None),
            ("api_key_file", ApiKeyFile, None),
            ("api_key", ApiKey, None),
        )
    ]

    def run(**given: Any) -> None:  # noqa: ANN401 - whatever the parameters say; Typer has checked it
        wanted = given.pop("json")
        with _calling(given.pop("admin_url"), given.pop("api_key_file"), given.pop("api_key")) as client:
            command(Connection(client, wanted), **given)

    functools.update_wrapper(run, command)
    parameters = [*own, *shared]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@contextmanager
def _calling(admin_url: str | None, api_key_file: Path | None, api_key: str | None) -> Iterator["Client"]:
    """A client for the block; what fails in it ends the command."""
    from gateway.client import Client, ClientError, InvalidArgument

    try:
        with Client(_chosen_key(api_key_file, api_key), base_url=admin_url) as client:
            yield client
    except InvalidArgument as error:
        complain(str(error))
        raise typer.Exit(ExitStatus.USAGE) from None
    except ClientError as error:
        raise typer.Exit(_explain(error)) from None


def _chosen_key(api_key_file: Path | None, api_key: str | None) -> str | None:
    """Return the key that the options name; None leaves it to the environment."""
    from gateway.client import InvalidArgument

    if api_key_file is None:
        _require_some(api_key)
        return api_key
    if api_key is not None:
        raise InvalidArgument("--api-key and --api-key-file are two keys; give one")
    try:
        with api_key_file.open("rb") as file:
            key = file.read(_LONGEST_KEY_FILE_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text"
        raise InvalidArgument(f"{api_key_file}: {reason}") from None
    if not key:
        raise InvalidArgument(f"{api_key_file}: is empty; it has to hold a key's secret")
    if len(key.splitlines()) > 1:
        raise InvalidArgument(f"{api_key_file}: has more than one line; it has to hold a key's secret and nothing else")
    return key


def _require_some(api_key: str | None) -> None:
    """Refuse where neither an option nor the environment has a key; the client's own words know no options."""
    from gateway.client import InvalidArgument
    from gateway.client.credentials import API_KEY_VARIABLE

    if not (os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key).strip():
        raise InvalidArgument(f"no API key: set {API_KEY_VARIABLE}, or name a file that holds one with --api-key-file")


def _explain(error: "ClientError") -> ExitStatus:
    """Say on stderr what went wrong; returns the status to end with."""
    from gateway.client import APIError, ConnectionFailed
    from gateway.client.call import UNEXPECTED

    if isinstance(error, APIError):
        complain("\n".join(_lines(error)))
        unreachable = error.code == UNEXPECTED
        return ExitStatus.UNREACHABLE if unreachable else _STATUSES.get(error.status, ExitStatus.FAILED)
    complain(error.detail)
    if isinstance(error, ConnectionFailed) and error.may_have_happened:
        complain("it may have been carried out all the same; look before you repeat it")
    return ExitStatus.UNREACHABLE


def _lines(error: "APIError") -> list[str]:
    """One line per bad field, else the sentence; the request id where the gateway's log has to be asked."""
    lines = [f"{each.field}: {each.rule}" for each in error.errors] or [error.detail]
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error.request_id:  # the gateway's fault, so its log helps
        lines.append(f"its log knows this as request {error.request_id}")
    return lines
