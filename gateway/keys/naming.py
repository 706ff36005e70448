"""Names that people give to keys, owners and organizations, and how they are found again.

Invariant: a clean name is one line of printable text without surrounding spaces, so it can be shown, logged and sent as
it is. Nothing in it is invisible or turns the direction of what follows, except the joiners (U+200C, U+200D) between
two characters beyond ASCII: Persian and Indic words and many emoji are written with them.

Searching is case-blind by comparing folded forms; they are stored, because SQLite's own `lower` knows ASCII alone and
PostgreSQL's depends on the database's locale.
"""

import re
import unicodedata
from typing import Final

from gateway.keys.quoting import holds_secret

MAX_NAME_CHARACTERS: Final = 128
MAX_DESCRIPTION_CHARACTERS: Final = 1000
MAX_EMAIL_CHARACTERS: Final = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
_JOINERS: Final = re.compile("[\u200c\u200d]")
_JOINER_WITHIN: Final = re.compile("(?<=[^\x00-\x7f\u200c\u200d])[\u200c\u200d](?=[^\x00-\x7f\u200c\u200d])")


def clean_name(text: str) -> str:
    """Return the name without surrounding spaces. ValueError carries a public sentence."""
    name = _without_secret(text.strip())
    if not name or len(name) > MAX_NAME_CHARACTERS or not is_printable(name):
        raise ValueError(f"must be 1 to {MAX_NAME_CHARACTERS} printable characters")
    return name


def clean_description(text: str) -> str:
    """Return the description without surrounding spaces; it may be empty and may have several lines."""
    description = _without_secret(text.strip())
    printable = description.replace("\r\n", "").replace("\n", "").replace("\t", "")
    if len(description) > MAX_DESCRIPTION_CHARACTERS or not is_printable(printable):
        raise ValueError(f"must be at most {MAX_DESCRIPTION_CHARACTERS} printable characters")
    return description


def clean_email(text: str) -> str:
    """Return the e-mail address in lower case: nobody means two people by two spellings of one address."""
    email = _without_secret(text.strip()).lower()
    local, _, domain = email.rpartition("@")
    # The folded form is what lists go by, and one character can fold to eighteen.
    whole = email.isprintable() and " " not in email and len(folded(email)) <= MAX_EMAIL_CHARACTERS >= len(email)
    if not (local and domain and whole):
        raise ValueError("must be an e-mail address, such as ada@example.com")
    return email


def clean_reference(text: str) -> str:
    """Return what somebody calls an owner: an id, an e-mail address or a name. There need not be such an owner."""
    reference = text.strip()
    if not reference or len(reference) > MAX_EMAIL_CHARACTERS or not is_printable(reference):
        raise ValueError("must be an id, an e-mail address or the name of a service account")
    return reference


def _without_secret(text: str) -> str:
    """Return the text, which others will read: in lists, in the trail, and at the API behind the gateway."""
    if holds_secret(text):
        raise ValueError("must not hold a key's secret")
    return text


def folded(text: str) -> str:
    """Return the form in which names are compared and searched: without case, compatibility forms and joiners."""
    return unicodedata.normalize("NFKC", _JOINERS.sub("", text.strip())).casefold()


def is_printable(text: str) -> bool:
    """Tell whether all of it can be seen, the joiners of scripts and emoji aside."""
    return _JOINER_WITHIN.sub("", text).isprintable()
