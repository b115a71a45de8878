"""The routes of dead letters: which there are, and what operators do about them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from playhead_gateway import openapi
from playhead_gateway.answers import Add, json_answer, replay
from playhead_gateway.bodies import CloseBody, read_body
from playhead_gateway.gateway import Gateway
from playhead_gateway.letters import STATES, letter_view
from playhead_gateway.openapi import Answer
from playhead_gateway.query import choice, letter_cursor, number
from playhead_gateway.redrive import found
from playhead_gateway.views import View, without_none

__all__ = ["add_letter_routes"]


def add_letter_routes(add: Add, gateway: Gateway) -> None:
    """Add the routes of dead letters."""
    routes = LetterRoutes(gateway)
    of_letters, raw = openapi.letter_parameters(gateway.limits), openapi.RAW
    add("GET", "/v1/deadletters", routes.letters, Answer(200, openapi.LETTERS), parameters=of_letters, scope="admin")
    add("GET", "/v1/deadletters/{letter}", routes.letter, Answer(200, openapi.LETTER), scope="admin")
    handled = Answer(202, openapi.HANDLED)
    retry, drop = "/v1/deadletters/{letter}/retry", "/v1/deadletters/{letter}/drop"
    add("POST", retry, routes.retry, handled, body=CloseBody, parameters=[raw], has_key=False, scope="admin")
    add("POST", drop, routes.drop, handled, body=CloseBody, has_key=False, scope="admin")


class LetterRoutes:
    """The endpoints, one method a route."""

    def __init__(self, gateway: Gateway) -> None:
        self._redrive = gateway.redrive
        self._topics = gateway.parts.topics
        self._limits = gateway.limits

    async def letters(self, request: Request) -> Response:
        """List dead letters, newest first."""
        limits = self._limits
        limit = number(request, "limit", limits.letters_page, limits.letters_page_max)
        state, after = choice(request, "state", STATES), letter_cursor(request)
        letters, more = (await self._redrive.letters()).page(state=state, limit=limit, after=after)
        shown: list[View] = [
            letter_view(letter, self._redrive.content(letter), self._topics, limits.letter_input_bytes_max)
            for letter in letters
        ]
        return json_answer(without_none({"letters": shown, "next_cursor": letters[-1].name if more else None}))

    async def letter(self, request: Request) -> Response:
        """Show one dead letter."""
        letter = found(await self._redrive.letters(), _name(request))
        return json_answer(letter_view(letter, self._redrive.content(letter), self._topics))

    async def retry(self, request: Request) -> Response:
        """Send what a letter holds to where it came from."""
        raw = choice(request, "raw", ("true", "false")) == "true"
        await read_body(request, CloseBody, self._limits)
        replayed = await self._redrive.retry(_name(request), raw=raw)
        return json_answer({"id": _name(request), "state": "retried"}, 202, replay(replayed))

    async def drop(self, request: Request) -> Response:
        """Leave a letter be."""
        await read_body(request, CloseBody, self._limits)
        replayed = await self._redrive.drop(_name(request))
        return json_answer({"id": _name(request), "state": "dropped"}, 202, replay(replayed))


def _name(request: Request) -> str:
    return str(request.path_params["letter"])
