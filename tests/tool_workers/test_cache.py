"""Which results are given again, and how many are kept."""

from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playhead.approvals import approval_digest
from playhead.canonical import canonical_json
from playhead.errors import Invalid
from playhead.events import Json
from playhead_tool_workers.cache import ResultCache, key_of

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


def backwards(value: object) -> object:
    """The same, with the names of every object the other way round."""
    if isinstance(value, dict):
        named = cast("dict[str, object]", value)
        return {name: backwards(named[name]) for name in reversed(named)}
    return [backwards(item) for item in cast("list[object]", value)] if isinstance(value, list) else value


@given(JSON)
def test_order_of_names_spaces_and_escapes_make_no_other_question(value: object):
    spelled = json.dumps(value, ensure_ascii=False)
    assert canonical_json(json.dumps(backwards(value), indent=2)) == canonical_json(spelled)
    assert json.loads(canonical_json(spelled)) == value


@given(JSON, JSON)
def test_what_differs_has_another_canonical_form(one: object, other: object):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical_json(json.dumps(one)) == canonical_json(json.dumps(other))) == same


def test_numbers_that_a_double_cannot_tell_apart_are_not_the_same():
    spelled = ("100000000000000000000000", "100000000000000000000001", "0.1", "0.10000000000000000000001", "1", "1.0")
    assert len({canonical_json(number) for number in spelled}) == len(spelled)


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"a": Infinity}', "[" * 100_000, '"\\ud800"', "{'a': 1}"])
def test_what_is_not_json_has_no_canonical_form(text: str):
    with pytest.raises(Invalid):
        canonical_json(text)


def test_a_question_is_its_tool_that_tools_schema_the_tenant_and_the_arguments():
    asked = ("weather", "v1", "acme", Json('{"city": "Ulm", "days": 2}'))
    assert key_of(*asked) == key_of("weather", "v1", "acme", Json('{"days":2,"city":"Ulm"}'))
    for place, other in enumerate(("climate", "v2", "zeta", Json('{"city": "Ulm", "days": 3}'))):
        changed = [*asked[:place], other, *asked[place + 1 :]]
        assert key_of(changed[0], changed[1], changed[2], Json(changed[3])) != key_of(*asked)


def test_an_approval_is_bound_to_the_tool_and_the_exact_arguments():
    shown = approval_digest("refund", '{"order": "A1", "amount": 10}')
    assert shown == approval_digest("refund", '{"amount":10,"order":"A1"}')
    others = [
        approval_digest("refund", '{"order": "A1", "amount": 10.0}'),
        approval_digest("refund", '{"order": "A1", "amount": 100}'),
        approval_digest("refund", '{"order": "A1"}'),
        approval_digest("credit", '{"order": "A1", "amount": 10}'),
    ]
    assert len({shown, *others}) == 5


def test_a_result_is_given_again_until_it_is_too_old():
    cache = ResultCache()
    cache.put("key", Json("1"), 100.0)
    assert cache.get("key", 159.9, 60) == "1"
    assert cache.get("key", 160.0, 60) is None
    assert cache.get("other", 100.0, 60) is None
    assert (len(cache), cache.bytes_kept) == (0, 0)


def test_what_was_asked_for_least_recently_makes_room():
    cache = ResultCache(entries_max=2)
    for key in "ab":
        cache.put(key, Json("1"), 0)
    assert cache.get("a", 0, 60) == "1"
    cache.put("c", Json("1"), 0)
    assert [cache.get(key, 0, 60) for key in "abc"] == ["1", None, "1"]


def test_a_result_that_does_not_fit_replaces_its_older_one_and_nothing_else():
    cache = ResultCache(bytes_max=10)
    cache.put("a", Json("1"), 0)
    cache.put("b", Json("1"), 0)
    cache.put("a", Json('"ääääää"'), 1)
    assert [cache.get(key, 1, 60) for key in "ab"] == [None, "1"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 12), st.booleans())))
def test_neither_bound_is_ever_exceeded_and_what_is_found_is_what_was_put_last(calls: list[tuple[str, int, bool]]):
    cache, put = ResultCache(entries_max=4, bytes_max=30), dict[str, Json]()
    for now, (key, length, putting) in enumerate(calls):
        if putting:
            put[key] = Json("1" * length)
            cache.put(key, put[key], now)
            assert cache.get(key, now, 1) == put[key]
        else:
            assert cache.get(key, now, 20) in {None, put.get(key)}
        assert len(cache) <= 4
        assert cache.bytes_kept <= 30
