"""Access files, keys and tokens for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from playhead_gateway.access.authenticator import Authenticator
from playhead_gateway.access.file import AccessFile
from playhead_gateway.access.keys import ENTROPY_BYTES, NewKey, new_key

from tests.gateway.support import NOW

SECONDS = NOW / 1_000_000
"""What the gateways of these tests take for the time."""

SECRET = "s" * 32
ENVIRONMENT = {"SECRET": SECRET, "OLD_SECRET": "o" * 32}
SECRETS = (SECRET.encode(),)
ISSUER, AUDIENCE = "https://login.example", "playhead"


def a_key(number: int = 1) -> NewKey:
    return new_key(bytes([number]) * ENTROPY_BYTES)


def key_table(key: NewKey, *, name: str = "ci", scopes: str = '["sessions:read", "sessions:write"]', more: str = ""):
    return f'[[keys]]\nid = "{key.id}"\nname = "{name}"\nhash = "{key.hash}"\nscopes = {scopes}\n{more}\n'


def access_file(folder: Path, *tables: str, secrets: str = '["env:SECRET"]', top: str = "") -> Path:
    path = folder / "access.toml"
    path.write_text(f"secrets = {secrets}\n{top}\n" + "\n".join(tables))
    return path


def authenticator(path: Path, *, check_seconds: float = 0.0) -> Authenticator:
    """Look at the file at each request, as the clock of the tests stands still."""
    return Authenticator(AccessFile(path, ENVIRONMENT, check_seconds=check_seconds), lambda: NOW)


class Signer:
    """An issuer's private key, and its public half as a JSON Web Key."""

    def __init__(self, algorithm: str, kid: str) -> None:
        self.algorithm, self.kid = algorithm, kid
        public: dict[str, Any]
        match algorithm:
            case "EdDSA":
                self.key: Any = ed25519.Ed25519PrivateKey.generate()
                public = OKPAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            case "ES256":
                self.key = ec.generate_private_key(ec.SECP256R1())
                public = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            case _:
                self.key = rsa.generate_private_key(65537, 2048)
                public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        self.public = {**public, "kid": kid, "use": "sig"}

    def token(self, headers: dict[str, Any] | None = None, /, **claims: Any) -> str:
        """Sign a token; a claim that is None is left out."""
        all_claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": SECONDS + 300, "scope": "sessions:read"}
        all_claims = {name: value for name, value in {**all_claims, **claims}.items() if value is not None}
        return jwt.encode(all_claims, self.key, self.algorithm, headers={"kid": self.kid, **(headers or {})})


def issuer_table(keys: str, more: str = "", claims: str = "") -> str:
    table = f'[jwt]\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\nkeys = "{keys}"\n{more}\n'
    return table + (f"[jwt.claims]\n{claims}\n" if claims else "")
