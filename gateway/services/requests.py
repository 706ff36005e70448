"""What requests are made of: a closed model each, fields that say their rules, and all faults at once.

Invariant: whatever `validate` returns is clean and may be stored; what it raises names every bad field with its rule as
a public sentence, and does not hold on to the request. The rules are in the models alone, so the JSON Schema that
clients read and the checks that they meet cannot drift apart.

Turned down: checks by hand in each service (each forgets another rule), and pydantic's own texts (they speak of types
of Python, and repeat what was sent: a secret, at worst).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.functional_validators import PlainValidator
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from gateway.errors import FieldError, Invalid
from gateway.keys import naming, permissions
from gateway.keys.expiry import PRESETS, ExpiryRules
from gateway.keys.origin import MAX_ORIGIN_CHARACTERS, ORIGIN_PATTERN, clean_origin
from gateway.keys.quoting import field_name, holds_secret

MAX_PERMISSIONS: Final = 100
MAX_ORIGINS: Final = 20
MAX_FAULTS: Final = 100  # of a body made of nothing but faults no more are told
MAX_EXPIRY_CHARACTERS: Final = 64

_Model = TypeVar("_Model", bound=BaseModel)


class Request(BaseModel):
    """A request's body: strict, closed, and mute about what was sent."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a field's rule may depend on: the organization's bounds for expiry, and the time."""

    rules: ExpiryRules
    now: datetime


def validate(model: type[_Model], body: Mapping[str, object], context: RequestContext | None = None) -> _Model:
    """Return the request, or raise Invalid with every fault. Models with `Expires` need the context."""
    try:
        return model.model_validate(dict(body), context=context)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)[:MAX_FAULTS]
    # Outside of the handler: pydantic's error, which knows what was sent, must not hang on to ours.
    rules = {_field(fault): _rule(fault) for fault in reversed(faults)}  # of several for a field the first
    raise Invalid([FieldError(field, rule) for field, rule in reversed(rules.items())])


_RULES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "string_type": "must be a string",
    "string_unicode": "must be well-formed Unicode text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
}


def _rule(fault: ErrorDetails) -> str:
    context = fault.get("ctx", {})
    match fault["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return "must be one of " + ", ".join(re.findall(r"'([^']*)'", str(context["expected"])))
        case known if known in _RULES:
            return _RULES[known].format_map(context)
        case _:
            return fault["msg"]


def _field(fault: ErrorDetails) -> str:
    # Unknown fields may have names that pydantic cannot even read: it names none then.
    return field_name(".".join(str(part) for part in fault["loc"])) or "(a field's name)"


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Marks a string: `check` returns it clean or raises ValueError with a sentence; `schema` says the same to clients.

    The lengths of the schema are held here, so that what it promises is so to the letter, surrounding spaces included.
    """

    check: Callable[[str], str]
    schema: Mapping[str, Any]  # Any: JSON Schema

    def __call__(self, text: str) -> str:
        """Return the clean text."""
        clean = self.check(text)  # first, because its sentence is the better one
        shortest, longest = self.schema.get("minLength", 0), self.schema["maxLength"]
        if not shortest <= len(text) <= longest:
            raise ValueError(f"must be {shortest} to {longest} characters")
        return clean

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after pydantic has seen that it is a string."""
        return core_schema.no_info_after_validator_function(self, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Tell what is checked."""
        return {**handler(schema), **self.schema}


def matching(pattern: str, sentence: str) -> Callable[[str], str]:
    """Make a check that lets through what matches the pattern as a whole."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(sentence)
        return text

    return check


def _permission(text: str) -> str:
    permissions.validate(text)
    return text


def _without_repetitions(items: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


@dataclass(frozen=True, slots=True)
class Expiry:
    """A moment that was asked for and is allowed; None: never."""

    at: datetime | None


def _expiry(value: object, info: ValidationInfo) -> Expiry:
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004 - pydantic takes ValueError for the caller's fault
    if not isinstance(info.context, RequestContext):
        raise TypeError("a request with an expiry is validated within a RequestContext")
    return Expiry(info.context.rules.wished_at(value[: MAX_EXPIRY_CHARACTERS + 1], info.context.now))


_PART: Final = r"(\*|[A-Za-z0-9][A-Za-z0-9_.\-]{0,63})"
_NO_CONTROLS: Final = r"^[^\u0000-\u001f\u007f-\u009f]+$"
_VISIBLE: Final = r"[!-~]+"

Name = Annotated[
    str, Rule(naming.clean_name, {"minLength": 1, "maxLength": naming.MAX_NAME_CHARACTERS, "pattern": _NO_CONTROLS})
]
Description = Annotated[str, Rule(naming.clean_description, {"maxLength": naming.MAX_DESCRIPTION_CHARACTERS})]
Email = Annotated[
    str, Rule(naming.clean_email, {"minLength": 3, "maxLength": naming.MAX_EMAIL_CHARACTERS, "format": "email"})
]
_visible = matching(_VISIBLE, "must be 1 to 128 visible ASCII characters, without spaces")


def _external_id(text: str) -> str:
    if holds_secret(text):  # it is sent upstream
        raise ValueError("must not hold a key's secret")
    return _visible(text)


ExternalId = Annotated[
    str,
    Rule(
        _external_id,
        {"minLength": 1, "maxLength": 128, "pattern": f"^{_VISIBLE}$"},
    ),
]
Permission = Annotated[
    str,
    Rule(
        _permission,
        {"minLength": 3, "maxLength": permissions.MAX_PERMISSION_CHARACTERS, "pattern": f"^{_PART}:{_PART}$"},
    ),
]
PermissionSet = Annotated[
    tuple[Permission, ...], Field(strict=False, max_length=MAX_PERMISSIONS), AfterValidator(_without_repetitions)
]
Origin = Annotated[
    str, Rule(clean_origin, {"minLength": 8, "maxLength": MAX_ORIGIN_CHARACTERS, "pattern": ORIGIN_PATTERN})
]
Origins = Annotated[
    tuple[Origin, ...], Field(strict=False, max_length=MAX_ORIGINS), AfterValidator(_without_repetitions)
]
# An id, an e-mail address or the name of a service account; what names nobody is found out in the store.
OwnerReference = Annotated[
    str,
    Rule(naming.clean_reference, {"minLength": 1, "maxLength": naming.MAX_EMAIL_CHARACTERS, "pattern": _NO_CONTROLS}),
]
Preset = Literal["1h", "1d", "7d", "30d", "6mo", "1y", "2y", "4y", "never"]
Expires = Annotated[
    Expiry,
    PlainValidator(_expiry),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": MAX_EXPIRY_CHARACTERS,
            "anyOf": [{"enum": list(PRESETS)}, {"format": "date"}, {"format": "date-time"}],
            "examples": ["30d", "2030-01-31", "2030-01-31T12:00:00Z"],
        }
    ),
]
