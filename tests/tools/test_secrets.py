"""Where secrets come from, and where they do not go."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from playhead.errors import Misconfigured
from playhead.redaction import Redactor
from playhead.secrets import SECRET_BYTES_MAX, resolve

CANARY = "ca na/ry+\"'\\\n<é&\x1b=7"

VALUES = st.one_of(
    st.sampled_from(
        [CANARY, "1234", "0041", "nfoo", "true", '","b":"', '{"a":', "abc\\", "\\u00", "e+10", '{"key": "[1, 2]"}']
    ),
    st.text(min_size=4, max_size=12).filter(lambda text: len(text.strip()) >= 4),
    st.text(alphabet='ab12",:{}[]\\ ', min_size=4, max_size=6).filter(lambda text: len(text.strip()) >= 4),
)


def redactor(**secrets: str) -> Redactor:
    made = Redactor()
    made.register(secrets)
    return made


def refused(references: dict[str, str], environment: dict[str, str]) -> str:
    with pytest.raises(Misconfigured) as raised:
        resolve(references, environment)
    return str(raised.value)


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path):
    (tmp_path / "token").write_text("from a file\r\n\n", "utf-8")
    values = resolve({"KEY": "env:API_KEY", "token": f"file:{tmp_path}/token"}, {"API_KEY": "from env", "OTHER": "no"})
    assert dict(values) == {"KEY": "from env", "token": "from a file"}


def test_values_show_themselves_to_nobody_who_does_not_ask_for_them_by_name():
    values = resolve({"KEY": "env:K"}, {"K": CANARY})
    shown = [repr(values), str(values), f"{values}", f"{values!s:>9}", repr(values.values()), repr(values.items())]
    assert [one for one in shown if "ca na" in one] == []
    assert repr(values) == "SecretValues(KEY)"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(values)
    with pytest.raises(KeyError, match="OTHER"):
        values["OTHER"]


@pytest.mark.parametrize("reference", [CANARY, "env:", "env:sk-not-a-name", "file:relative", "vault:x", "ENV:K", ""])
def test_what_is_not_a_reference_is_refused_and_not_shown(reference: str):
    said = refused({"KEY": reference}, {})
    assert said == "secret KEY: its reference reads like env:NAME or file:/path, and this one does not"


def test_a_missing_secret_is_named_with_its_reference(tmp_path: Path):
    assert refused({"KEY": "env:K"}, {}) == "secret KEY: env:K is not set in this process's environment"
    gone = f"file:{tmp_path}/gone"
    assert refused({"KEY": gone}, {}) == f"secret KEY: {gone} cannot be read: No such file or directory"
    assert refused({"KEY": f"file:{tmp_path}"}, {}) == f"secret KEY: file:{tmp_path} is not a file"
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refused({"KEY": f"file:{tmp_path}/pipe"}, {})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\n", "is empty"),
        (b"   ", "is empty"),
        (b"abc\n", "fewer than 4 characters"),
        (b"\xff\xfe canary", "is not UTF-8"),
        (b"c" * (SECRET_BYTES_MAX + 1), f"more than {SECRET_BYTES_MAX} bytes"),
    ],
    ids=["newline", "spaces", "short", "not UTF-8", "long"],
)
def test_what_cannot_be_a_secret_is_refused_without_being_shown(tmp_path: Path, content: bytes, why: str):
    (tmp_path / "secret").write_bytes(content)
    for reference in (f"file:{tmp_path}/secret", "env:K"):
        said = refused({"KEY": reference}, {"K": os.fsdecode(content).rstrip("\n")})
        assert said.startswith(f"secret KEY: {reference} ")
        assert why in said
        assert "abc" not in said.replace(str(tmp_path), "")
        assert "canary" not in said


def test_a_secrets_name_fits_into_any_text():
    assert "name" in refused({'a"b': "env:K"}, {"K": CANARY})


def test_a_file_as_long_as_a_secret_may_be_is_one(tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"c" * SECRET_BYTES_MAX + b"\r\n")
    assert len(resolve({"KEY": f"file:{tmp_path}/secret"}, {})["KEY"]) == SECRET_BYTES_MAX


SPELLED: dict[str, Callable[[str], str]] = {
    "exact": str,
    "repr": lambda value: repr({"key": value}),
    "repr of bytes": lambda value: repr(value.encode()),
    "json": json.dumps,
    "json with unicode": lambda value: json.dumps(value, ensure_ascii=False),
    "json in json": lambda value: "log: " + json.dumps({"body": json.dumps({"key": value})}),
    "json in json in json": lambda value: "log: " + json.dumps(json.dumps(json.dumps([value]))),
    "go's json": lambda value: "log: " + json.dumps(value).replace("<", "\\u003c").replace("&", "\\u0026"),
    "php's json": lambda value: "log: " + json.dumps(value).replace("/", "\\/"),
    "json with capital escapes": lambda value: (
        "log: " + re.sub(r"(?<=\\u)[0-9a-f]{4}", lambda found: found[0].upper(), json.dumps(value))
    ),
    "url": lambda value: f"https://example.com/?key={quote(value, safe='')}&x=1",
    "url in small letters": lambda value: quote(value, safe="").lower(),
    "path": lambda value: f"https://example.com/{quote(value)}",
    "form": lambda value: urlencode({"key": value}),
    "plus": quote_plus,
    "javascript's component": lambda value: quote(value, safe="!'()*"),
    "javascript's address": lambda value: quote(value, safe="!'()*;/?:@&=+$,#"),
    "hex": lambda value: f"x{value.encode().hex()}x",
    "capital hex": lambda value: value.encode().hex().upper(),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 in json": lambda value: json.dumps({"body": base64.b64encode(value.encode()).decode()}),
    "basic authentication": lambda value: "Basic " + base64.b64encode(f"user:{value}".encode()).decode(),
    "base64 after one": lambda value: base64.b64encode(f"u{value}and more".encode()).decode(),
    "base64 after two": lambda value: base64.urlsafe_b64encode(f"us{value}more".encode()).decode(),
    "base64 after three": lambda value: base64.urlsafe_b64encode(f"use{value}m".encode()).decode(),
}


@pytest.mark.parametrize("value", [CANARY, "sk-0123456789abcdef", "hunter2!", "four", "ééé🐦???>>>"])
@pytest.mark.parametrize("spelled", SPELLED)
def test_a_secret_is_found_in_every_usual_spelling(spelled: str, value: str):
    if spelled == "url in small letters":
        value = value.lower()
    text = SPELLED[spelled](value)
    redacted = redactor(KEY=value).redact(f"before {text} after")
    assert "[secret KEY]" in redacted
    assert value not in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


def test_base64_goes_with_all_of_its_padding():
    for value in ("1234", "12345", "123456"):
        encoded = base64.b64encode(value.encode()).decode()
        assert redactor(KEY=value).redact(f"{encoded} {encoded.rstrip('=')}") == "[secret KEY] [secret KEY]"


@given(VALUES, st.text(), st.text())
def test_nothing_but_the_secret_is_taken_out_of_a_text(value: str, before: str, after: str):
    text = f"{before}{value}{after}"
    assume(text.count(value.strip()) == 1)
    kept = redactor(KEY=value).redact(f"<{text}>")
    assert "[secret KEY]" in kept
    assert kept.startswith("<")
    assert kept.endswith(">")


@given(
    VALUES,
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("@"), st.just("x@y")
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["@", "a@", "b", "c"]), inner, max_size=4)
        ),
        max_leaves=10,
    ),
    st.booleans(),
    st.booleans(),
)
def test_valid_json_stays_valid_json_and_no_text_in_it_has_the_secret(
    value: str, shape: object, nested: bool, escaped: bool
):
    filled = json.loads(json.dumps(shape).replace("@", json.dumps(value)[1:-1]))
    text = json.dumps({"body": json.dumps(filled)} if nested else filled, ensure_ascii=escaped)
    redacted = redactor(KEY=value).redact(text)
    assert [one for one in texts(redacted) if value.strip() in one.replace("[secret KEY]", "")] == []


def texts(text: str) -> list[str]:
    """All texts in a JSON text, names too; of those that are JSON themselves, the texts in them."""
    found: list[str] = []
    waiting: list[object] = [
        json.loads(text, object_pairs_hook=lambda pairs: [part for pair in pairs for part in pair])
    ]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += cast("list[object]", value)
        elif isinstance(value, str):
            try:
                found += texts(value) if value.startswith(("{", "[")) else [value]
            except ValueError:
                found.append(value)
    return found


def test_what_is_no_string_in_json_becomes_one():
    redact = redactor(PIN="1234", WORD="true").redact
    assert redact('{"pin": 1234, "other": 12, "nested": [912345, true], "t": "1234"}') == (
        '{"pin": "[secret PIN]", "other": 12, "nested": ["9[secret PIN]5", "[secret WORD]"], "t": "[secret PIN]"}'
    )
    assert redact("pin 1234") == "pin [secret PIN]"
    longest = "9" * 5_000
    assert redact(f"[{longest}, 1234]") == f'[{longest}, "[secret PIN]"]'


def test_an_escape_that_looks_like_a_secret_is_left_alone():
    text = '{"a": "\\nfoo", "b": "\\u0041"}'
    assert redactor(A="nfoo", B="0041").redact(text) == text


def test_a_secret_that_is_itself_json_takes_all_of_the_json_with_it():
    key = '{"type": "service", "key": "abc"}'
    redact = redactor(ACCOUNT=key).redact
    assert redact(key) == '"[secret ACCOUNT]"'
    assert redact(f"[1, {key}]") == '"[secret ACCOUNT]"'
    assert redact(json.dumps({"file": key})) == '{"file": "\\"[secret ACCOUNT]\\""}'
    assert redact(f"loaded {key} from") == "loaded [secret ACCOUNT] from"


def test_secrets_that_overlap_go_together_and_the_longer_gives_its_name():
    redact = redactor(SHORT="password", LONG="password-and-more", TAIL="more-yet").redact
    assert redact("a password-and-more.") == "a [secret LONG]."
    assert redact("a password.") == "a [secret SHORT]."
    assert redact("a password-and-more-yet.") == "a [secret LONG]."
    assert redact("password" * 2) == "[secret SHORT][secret SHORT]"
    assert redactor(A="aaaa").redact("aaaaaa") == "[secret A]"


def test_without_secrets_a_text_is_the_same_text():
    text = "nothing " * 1_000
    assert Redactor().redact(text) is text
    assert redactor(KEY=CANARY).redact(text) is text


def test_secrets_that_cannot_be_redacted_are_not_registered():
    made = Redactor()
    for secrets in ({"K": "abc"}, {"K": ""}, {"a b": "long enough"}):
        with pytest.raises(Misconfigured):
            made.register(secrets)
    with pytest.raises(Misconfigured, match="at most"):
        made.register({f"K{number}": f"value-{number}" for number in range(1_001)})
    assert made.redact("abc long enough value-1") == "abc long enough value-1"


def test_threads_may_register_and_redact_at_the_same_time():
    made, leaked = Redactor(), list[str]()

    def work(number: int) -> None:
        for turn in range(20):
            value = f"canary-{number}-{turn}-end"
            made.register({f"K{number}": value})
            if "canary" in made.redact(f"it is {value}"):
                leaked.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert leaked == []
