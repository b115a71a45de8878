"""TLS in a real server, and that a stream over it ends when its credential does."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from playhead.errors import Misconfigured
from playhead_gateway.access.authenticator import Authenticator
from playhead_gateway.access.file import AccessFile
from playhead_gateway.gateway import GatewayParts
from playhead_gateway.server import Address, Tls, serve

from tests.gateway.access.support import ENVIRONMENT, a_key, access_file, key_table
from tests.gateway.support import OWNED, SSE, STARTED, Watching, a_world

CI = a_key()
KEY = {"Authorization": f"Bearer {CI.text}"}


def clock() -> int:
    return time.time_ns() // 1000


def certificate(folder: Path, name: str = "server") -> Tls:
    """Make a certificate for this machine, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "playhead test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Tls(folder / f"{name}.pem", folder / f"{name}.key")
    files.certificate.write_bytes(made.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@dataclass
class Served:
    address: Address
    client: httpx2.AsyncClient


@asynccontextmanager
async def serving(parts: GatewayParts, tls: Tls) -> AsyncGenerator[Served, None]:
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    trusting = ssl.create_default_context(cafile=str(tls.certificate))
    async with asyncio.TaskGroup() as group:
        where = Address(port=0, tls=tls)
        group.create_task(serve(parts, where, stop=stop, grace_seconds=1.0, on_ready=ready.set_result))
        address = await ready
        async with httpx2.AsyncClient(base_url=address.url, verify=trusting, timeout=5.0, trust_env=False) as client:
            try:
                yield Served(address, client)
            finally:
                stop.set()


async def test_a_gateway_with_a_certificate_speaks_tls_alone(tmp_path: Path) -> None:
    world = await a_world()
    path = access_file(tmp_path, key_table(CI))
    authenticate = Authenticator(AccessFile(path, ENVIRONMENT), clock)
    session = await world.session_with(STARTED, OWNED)
    async with serving(replace(world.parts(), authenticate=authenticate, clock=clock), certificate(tmp_path)) as served:
        assert served.address.url.startswith("https://127.0.0.1:")
        answer = await served.client.get(f"/v1/sessions/{session}", headers=KEY)
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        cookie = (await served.client.post("/v1/auth/cookie", headers=KEY)).headers["set-cookie"]
        assert cookie.startswith("__Host-playhead=")
        assert cookie.endswith("; Secure")
        async with served.client.stream("GET", f"/v1/sessions/{session}/events", headers={**SSE, **KEY}) as response:
            assert [frame.event for frame in await Watching(response).take(3)] == [
                "ready",
                "session_started",
                "owner_changed",
            ]
        async with httpx2.AsyncClient(trust_env=False) as plain:
            with pytest.raises(httpx2.HTTPError):
                await plain.get(f"http://{served.address}/livez")


async def test_a_stream_is_sent_away_when_its_credential_ends(tmp_path: Path) -> None:
    """protocol:P89"""
    world = await a_world()
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)
    path = access_file(tmp_path, key_table(CI, more=f"expires_at = {ends.isoformat()}"))
    authenticate = Authenticator(AccessFile(path, ENVIRONMENT), clock)
    session = await world.session_with(STARTED, OWNED)
    parts = replace(world.parts(heartbeat_seconds=0.1), authenticate=authenticate, clock=clock)
    async with asyncio.timeout(30), serving(parts, certificate(tmp_path)) as served:
        ticket = (await served.client.post(f"/v1/sessions/{session}/ticket", headers=KEY)).json()["url"]
        async with (
            served.client.stream("GET", f"/v1/sessions/{session}/events", headers={**SSE, **KEY}) as by_key,
            served.client.stream("GET", ticket, headers=SSE) as by_ticket,
        ):
            for response in (by_key, by_ticket):
                last = (await Watching(response).rest())[-1]
                assert (last.event, last.data["reason"]) == ("draining", "expired")
                assert last.retry is not None
        assert time.time() >= ends.timestamp()
        assert (await served.client.get(f"/v1/sessions/{session}", headers=KEY)).status_code == 401


async def test_a_certificate_that_cannot_be_used_is_said_before_anything_is_served(tmp_path: Path) -> None:
    world, good = await a_world(), certificate(tmp_path)
    other = certificate(tmp_path, "other")
    for tls in (Tls(tmp_path / "nowhere.pem", good.key), Tls(good.certificate, other.key), Tls(good.key, good.key)):
        with pytest.raises(Misconfigured, match=r"cannot use the certificate .+ PEM"):
            await serve(world.parts(), Address(port=0, tls=tls), stop=asyncio.Event(), grace_seconds=1.0)


async def test_old_versions_of_tls_are_not_spoken(tmp_path: Path) -> None:
    assert certificate(tmp_path).context().minimum_version >= ssl.TLSVersion.TLSv1_2
