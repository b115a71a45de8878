"""What the OpenAPI document says of credentials. Only described by these: `Authenticator` checks them."""

from __future__ import annotations

from typing import Any

from fastapi import Security
from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery, HTTPBearer

from playhead_gateway.access.cookies import SECURE_NAME

__all__ = ["CREDENTIALS", "described_for"]

CREDENTIALS: list[Any] = [  # Any: as FastAPI types a route's dependencies
    Security(HTTPBearer(scheme_name="bearer", description="An API key, or a token of the issuer.", auto_error=False)),
    Security(APIKeyHeader(name="X-API-Key", scheme_name="key", description="An API key.", auto_error=False)),
    Security(
        APIKeyCookie(name=SECURE_NAME, scheme_name="cookie", description="From POST /v1/auth/cookie.", auto_error=False)
    ),
]
TICKET: Any = Security(
    APIKeyQuery(name="ticket", scheme_name="session ticket", description="From POST …/ticket.", auto_error=False)
)


def described_for(method: str, path: str) -> list[Any]:
    """List what a route takes as a credential: each alone is enough."""
    return [*CREDENTIALS, TICKET] if method == "GET" and "{session}" in path else CREDENTIALS
