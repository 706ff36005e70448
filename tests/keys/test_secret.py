"""Secrets: their format, their checksum, and what is stored of them."""

from __future__ import annotations

import hashlib
import re
import zlib

from hypothesis import given
from hypothesis import strategies as st

from gateway.keys import secret
from gateway.keys.secret import Form

PREFIXES = st.sampled_from(["sk_", "sk_live_", "k", "acme.prod-"])


@given(PREFIXES)
def test_a_generated_secret_is_prefix_and_49_base62_characters_and_genuine(prefix: str) -> None:
    made = secret.generate(prefix)
    assert re.fullmatch(re.escape(prefix) + "[0-9A-Za-z]{49}", made)
    assert secret.form(made.encode(), prefix.encode()) is Form.GENUINE


def test_secrets_do_not_repeat() -> None:
    assert len({secret.generate("sk_") for _ in range(2000)}) == 2000


@given(st.integers(0, 51), st.sampled_from(secret.ALPHABET))
def test_one_changed_character_is_found_by_the_checksum(position: int, other: str) -> None:
    """CRC32 finds every burst of up to 32 bits, so no single mistyped character goes unnoticed."""
    made = secret.generate("sk_")
    position = max(position, len("sk_"))
    mistyped = made[:position] + other + made[position + 1 :]
    expected = Form.GENUINE if mistyped == made else Form.BROKEN
    assert secret.form(mistyped.encode(), b"sk_") is expected


def test_the_checksum_is_the_documented_one() -> None:
    """Scanners of others compute it: CRC32 of everything before, in base 62 with 0-9A-Za-z, six characters."""
    made = secret.generate("sk_")
    value = 0
    for character in made[-6:]:
        value = value * 62 + secret.ALPHABET.index(character)
    assert value == zlib.crc32(made[:-6].encode())


@given(st.binary(max_size=secret.MAX_SECRET_BYTES))
def test_anything_not_exactly_of_our_format_is_foreign(presented: bytes) -> None:
    ours = re.fullmatch(rb"sk_[0-9A-Za-z]{49}", presented)
    assert (secret.form(presented, b"sk_") is Form.FOREIGN) is (ours is None)


def test_near_misses_of_the_format_are_foreign() -> None:
    made = secret.generate("sk_").encode()
    for near in (
        made[:-1],
        made + b"0",
        b"SK_" + made[3:],
        made[:-1] + b"_",
        made[:-1] + b"\n",
        made[:10] + "é".encode(),
    ):
        assert secret.form(near, b"sk_") is Form.FOREIGN
    assert secret.form("é".encode("latin-1").rjust(52, b"a"), b"") is Form.FOREIGN


def test_the_digest_is_plain_sha256_so_keys_can_be_imported_by_it() -> None:
    assert secret.digest(b"sk_x") == hashlib.sha256(b"sk_x").digest()


def test_the_tail_is_the_last_six_characters() -> None:
    assert secret.tail("sk_abcdefghi") == "defghi"


def test_the_published_pattern_finds_secrets_in_text_and_nothing_longer() -> None:
    made = secret.generate("sk_")
    assert re.findall(secret.PATTERN, f'curl -H "X-API-KEY: {made}" x') == [made]
    assert not re.findall(secret.PATTERN, made + "0")
    live = secret.generate("sk_live_")
    assert re.fullmatch(secret.pattern("sk_live_"), live)
