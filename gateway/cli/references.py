"""What names a key, an organization or an owner on the command line, checked before the store is asked.

Invariant: a key's secret that is given in the place of an id or a name is never repeated: messages end up in the logs
of whatever runs the command. Turned down: leaving it to the services, whose "there is no …" has to name what was asked
for, and which have other callers.
"""

from typing import Final

import typer

from gateway.errors import FieldError, Invalid
from gateway.keys.identifiers import is_id
from gateway.keys.quoting import has_form_of_secret

_HOW_TO_FIND: Final = "gateway keys list shows ids; its --search takes the last six characters of a secret"


def key_id_alone(text: str) -> str:
    """Accept the id of a key, as a Typer callback. What is none may be a secret of any form, and is not repeated."""
    return _key_id("ID", text)


def key_id(parameter: typer.CallbackParam, text: str | None) -> str | None:
    """Accept the same as an option that may be left out."""
    return None if text is None else _key_id(parameter.opts[0], text)


def _key_id(place: str, text: str) -> str:
    if is_id("key", text):
        return text
    if has_form_of_secret(text):
        rule = f"that is a key's secret, not its id; {_HOW_TO_FIND}"
    else:
        rule = f"must be key_ and 26 characters, as gateway keys create prints it; {_HOW_TO_FIND}"
    raise Invalid([FieldError(place, rule)])


def no_secret(parameter: typer.CallbackParam, text: str | None) -> str | None:
    """Accept any other name, as a Typer callback: there is no telling what people call things."""
    return None if text is None else refuse_secret(parameter.opts[0], text)


def refuse_secret(place: str, text: str) -> str:
    """Accept any other name that was given at `place`."""
    if has_form_of_secret(text.strip()):
        raise Invalid([FieldError(place, "that is a key's secret, not an id or a name")])
    return text
