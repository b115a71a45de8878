"""The routes that give a browser what it can send by itself: a cookie for its pages, a ticket for its `EventSource`.

Both are made from a credential in a header, and are worth less than it: see `tickets` and `cookies`.
"""

from __future__ import annotations

from playhead.ids import parse_session_id
from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway import openapi
from playhead_gateway.access.authenticator import Authenticator, credential_way
from playhead_gateway.access.cookies import clearing, is_secure, setting
from playhead_gateway.access.schemes import CREDENTIALS
from playhead_gateway.answers import Add, json_answer
from playhead_gateway.entry import Authenticate, principal_of
from playhead_gateway.openapi import Answer
from playhead_gateway.problems import Problem
from playhead_gateway.views import without_none

__all__ = ["add_access_routes"]

NO_STORE = {"Cache-Control": "no-store"}


def add_access_routes(add: Add, authenticator: Authenticate) -> None:
    """Add the routes of tickets and cookies, if it is with these that somebody is known again."""
    if not isinstance(authenticator, Authenticator):
        return
    routes = AccessRoutes(authenticator)
    add("POST", "/v1/sessions/{session}/ticket", routes.ticket, Answer(200, openapi.TICKET), scope="sessions:read")
    # Whoever has a credential may have its cookie, whatever its scopes: so these find out who asks by themselves.
    add("POST", "/v1/auth/cookie", routes.set_cookie, Answer(200, openapi.COOKIE), scope=None, dependencies=CREDENTIALS)
    add("DELETE", "/v1/auth/cookie", routes.clear_cookie, Answer(204), scope=None, dependencies=CREDENTIALS)


class AccessRoutes:
    """The endpoints, one method a route."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def ticket(self, request: Request) -> Response:
        """Give a ticket to watch one session, and the URL to watch it at."""
        if credential_way(request) == "ticket":
            raise Problem(403, "credential-not-allowed", "a ticket does not get another one")
        session = parse_session_id(str(request.path_params["session"]))
        text, expires_at = self._authenticator.ticket(principal_of(request), session)
        url = f"/v1/sessions/{session}/events?ticket={text}"
        return json_answer({"ticket": text, "expires_at": _microseconds(expires_at), "url": url})

    async def set_cookie(self, request: Request) -> Response:
        """Set the cookie of who asks with a header: one that made another could go on for ever."""
        principal = await self._authenticator(request)
        if credential_way(request) != "header":
            raise Problem(403, "credential-not-allowed", "a cookie is made from a key or a token, in a header")
        text, expires_at = self._authenticator.cookie(principal)
        seconds = self._authenticator.seconds_until(expires_at)
        cookie = setting(text, seconds, secure=_is_secure(request))
        view = {
            "name": principal.name,
            "tenant": principal.tenant,
            "scopes": sorted(principal.scopes),
            "expires_at": _microseconds(expires_at),
        }
        return json_answer(without_none(view), headers={"Set-Cookie": cookie})

    async def clear_cookie(self, request: Request) -> Response:
        """Take the cookie away from the browser that asks. What was signed stays good until its end."""
        await self._authenticator(request)
        return Response(status_code=204, headers={**NO_STORE, "Set-Cookie": clearing(secure=_is_secure(request))})


def _is_secure(request: Request) -> bool:
    return is_secure(request.scope["scheme"], request.headers.get("host", ""))


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
