"""API keys: shown once, kept as a hash, known again to the last character."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead_gateway.access.keys import ENTROPY_BYTES, find_key, hash_of, new_key

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. é"


@dataclass(frozen=True)
class Kept:
    hash: str


entropies = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)


@given(entropies)
def test_a_key_is_known_by_what_is_kept_of_it(entropy: bytes) -> None:
    key = new_key(entropy)
    kept = Kept(key.hash)
    assert find_key(key.text, {key.id: kept}) is kept
    assert re.fullmatch(r"phk_[a-z2-7]{16}_[a-z2-7]{52}", key.text)


@given(entropies)
def test_nothing_that_is_kept_or_shown_has_the_key_in_it(entropy: bytes) -> None:
    key = new_key(entropy)
    secret = key.text.rpartition("_")[2]
    assert secret not in key.hash
    assert secret not in repr(key)


@given(entropies, st.data())
def test_a_key_with_any_character_changed_is_unknown(entropy: bytes, data: st.DataObject) -> None:
    key = new_key(entropy)
    place = data.draw(st.integers(0, len(key.text) - 1))
    other = data.draw(st.sampled_from(ALPHABET).filter(lambda one: one != key.text[place]))
    text = key.text[:place] + other + key.text[place + 1 :]
    assert find_key(text, {key.id: Kept(key.hash)}) is None


@given(entropies, entropies)
def test_a_secret_does_not_open_the_key_of_another_id(one: bytes, other: bytes) -> None:
    mine, theirs = new_key(one), new_key(other)
    mixed = f"phk_{theirs.id}_{mine.text.rpartition('_')[2]}"
    known = {mine.id: Kept(mine.hash), theirs.id: Kept(theirs.hash)}
    assert find_key(mixed, known) is (None if mixed != theirs.text else known[theirs.id])


@given(st.text())
def test_whatever_is_sent_is_merely_unknown(text: str) -> None:
    assert find_key(text, {}) is None


def test_the_empty_key_does_not_pass_for_the_hash_that_unknown_ones_are_held_against() -> None:
    assert find_key("", {"": Kept(hash_of(""))}) is None


def test_too_little_chance_makes_no_key() -> None:
    with pytest.raises(ValueError, match="42 bytes"):
        new_key(b"short")
