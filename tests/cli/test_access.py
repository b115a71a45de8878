"""Who may ask the gateway, from the command line: making keys, and that a door open to all stays on this machine."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from pathlib import Path

import httpx2
import pytest
from playhead.errors import Misconfigured
from playhead.settings import Settings
from playhead_cli.access import LOOPBACK, door_of
from playhead_cli.child import start
from playhead_gateway.access.authenticator import Authenticator
from playhead_gateway.access.keys import find_key
from playhead_gateway.access.rules import read_rules

from tests.cli.test_dev import QUICK, SECONDS_MAX, playhead
from tests.gateway.access.test_tls import certificate

NOWHERE = "127.0.0.1:1"


async def new_key(*arguments: str) -> tuple[str, str]:
    """Make a key, and give what goes into the file and the key itself."""
    code, table, notes = await playhead("keys", "new", *arguments)
    assert code == 0, notes
    found = re.search(r"phk_\S+", notes)
    assert found is not None
    return table, found[0]


async def test_a_new_key_is_shown_once_and_what_is_stored_knows_it_again() -> None:
    table, text = await new_key("--name", "a ci", "--tenant", "acme", "--scopes", "approve,audit")
    rules = read_rules(table, {})
    key = find_key(text, rules.keys)
    assert key is not None
    assert (key.name, key.tenant, key.scopes) == ("a ci", "acme", {"approve", "audit"})
    assert text.rpartition("_")[2] not in table
    assert (await new_key("--name", "ci"))[1] != text


@pytest.mark.parametrize(
    "arguments",
    [("--name", "x", "--scopes", "everything"), ("--name", 'x"\n[jwt]'), ("--name", "x", "--tenant", ""), ()],
)
async def test_a_key_that_no_file_could_hold_is_not_made(arguments: tuple[str, ...]) -> None:
    code, out, notes = await playhead("keys", "new", *arguments)
    assert (code != 0, out) == (True, "")
    assert "phk_" not in notes


@pytest.mark.parametrize(
    "arguments", [("dev", "--host", "0.0.0.0", "--port", "0"), ("gateway", "--host", "0.0.0.0", "--kafka", NOWHERE)]
)
async def test_a_gateway_that_others_reach_does_not_start_open_and_says_what_to_do(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        code, out, notes = await playhead(*arguments, PLAYHEAD_DATA=str(tmp_path))
    assert (code, out) == (1, "")
    assert all(advice in notes for advice in ("--auth FILE", "playhead keys new", "--host 127.0.0.1", "--auth off"))


def door(*, local: bool = False, **settings: object):
    return door_of(Settings.model_validate(settings), lambda: 0, os.environ, local=local)


def test_a_door_that_is_open_on_purpose_is_open() -> None:
    assert door(host="0.0.0.0", auth_file="off").authenticate is None
    with pytest.raises(Misconfigured):
        door(host="0.0.0.0", auth_file="")


def test_on_this_machine_names_that_strangers_gave_it_are_refused() -> None:
    assert door().hosts == door(local=True).hosts == LOOPBACK
    assert door(local=True, auth_file="off").hosts == LOOPBACK
    assert door(auth_file="off").hosts is None  # a proxy beside it asks for it by its public name


def test_an_access_file_is_read_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text("")
    assert isinstance(door(host="0.0.0.0", auth_file=str(tmp_path / "good.toml")).authenticate, Authenticator)
    (tmp_path / "bad.toml").write_text("[[keys]]")
    for name in ("bad.toml", "nowhere.toml"):
        with pytest.raises(Misconfigured, match="access file"):
            door(auth_file=str(tmp_path / name))


@pytest.mark.parametrize("given", ["tls_cert", "tls_key"])
def test_half_of_what_tls_takes_is_refused(given: str) -> None:
    with pytest.raises(Misconfigured, match="--tls-cert and --tls-key"):
        door_of(Settings.model_validate({given: "file.pem"}), lambda: 0, os.environ, local=False)


async def test_dev_with_keys_and_a_certificate_asks_everybody_over_tls(tmp_path: Path) -> None:
    table, text = await new_key("--name", "me")
    (tmp_path / "access.toml").write_text(table)
    tls = certificate(tmp_path)
    variables = {
        **QUICK,
        "PLAYHEAD_AUTH_FILE": str(tmp_path / "access.toml"),
        "PLAYHEAD_TLS_CERT": str(tls.certificate),
        "PLAYHEAD_TLS_KEY": str(tls.key),
    }
    async with asyncio.timeout(SECONDS_MAX):
        child = await start(("dev", "--port", "0", "--data", str(tmp_path / "data")), variables)
        try:
            trusting = ssl.create_default_context(cafile=str(tls.certificate))
            async with httpx2.AsyncClient(
                base_url=f"https://127.0.0.1:{child.port}", verify=trusting, trust_env=False
            ) as client:
                assert (await client.get("/v1/agents")).status_code == 401
                answer = await client.get("/v1/agents", headers={"Authorization": f"Bearer {text}"})
                assert answer.status_code == 200
                assert answer.headers["strict-transport-security"]
        finally:
            await child.stop()
