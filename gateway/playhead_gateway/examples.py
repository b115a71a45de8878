"""What answers look like: one example for each route that answers with JSON, shown by the OpenAPI document."""

from __future__ import annotations

from typing import Any

__all__ = ["PROBLEMS", "with_example"]

Json = dict[str, Any]

SESSION, RUN, MESSAGE = (
    "ses_4wjh5azphucuzffuex2lu7ekce",
    "run_c2eqf3hu3cb3oyf2rixhepu6re",
    "msg_7hcfql4cd7khgunet7arupdnee",
)
CALL = "call_f76oitetg6tqknioooox7jtrf4"
AT = 1_700_000_000_000_000
ASKED: Json = {"run_id": RUN, "message_id": MESSAGE}
SAID: Json = {"role": "user", "run_id": RUN, "message_id": MESSAGE, "content": "What time is it in Oslo?"}
LISTED: Json = {
    "id": SESSION,
    "agent": "support",
    "status": "running",
    "created_at": AT,
    "updated_at": AT + 2_000_000,
    "last_seq": 42,
    "metadata": {"team": "blue"},
}
TOOL: Json = {
    "pool": "default",
    "name": "weather",
    "description": "Current weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "schema_hash": "sha256:5f0a…",
    "effect": "read",
    "timeout_ms": 5_000,
    "retries": 3,
    "at": AT,
    "after": [],
    "exclusive": False,
    "reconciles": False,
    "approval": "never",
    "fallback": False,
}
LETTER: Json = {
    "id": "0-17",
    "state": "new",
    "at": AT,
    "topic": "agent.tools.default",
    "partition": 3,
    "offset": 1_204,
    "key": CALL,
    "error": "timed out 3 times",
    "bytes": 412,
    "type": "RunTool",
    "session": SESSION,
    "run_id": RUN,
    "call_id": CALL,
    "tool": "weather",
    "pool": "default",
    "effect": "read",
    "input": {"city": "Oslo"},
}

EXAMPLES: dict[tuple[str, str], Json] = {
    ("POST", "/v1/sessions"): {"id": SESSION, "agent": "support", "status": "running", "last_seq": 0, **ASKED},
    ("GET", "/v1/sessions"): {"sessions": [LISTED], "next_cursor": f"{AT}-{SESSION}"},
    ("GET", "/v1/sessions/{session}"): {
        **LISTED,
        "agent_version": "3",
        "model": "anthropic:claude-sonnet-5-5",
        "run": {"run_id": RUN, "message_id": MESSAGE, "started_at": AT, "step": 1, "attempt": 1},
        "messages": [SAID],
        "pending": [],
        "usage": {"input_tokens": 310, "output_tokens": 12, "cache_read_tokens": 0, "cache_write_tokens": 0},
        "cursor": "42-9f3a2c41",
    },
    ("POST", "/v1/sessions/{session}/messages"): ASKED,
    ("GET", "/v1/sessions/{session}/events"): {
        "events": [
            {"seq": 41, "type": "text_delta", "at": AT, "run_id": RUN, "step": 1, "attempt": 1, "text": "It is "},
            {"seq": 42, "type": "text_delta", "at": AT, "run_id": RUN, "step": 1, "attempt": 1, "text": "noon."},
        ],
        "next_after": "42-9f3a2c41",
        "last_seq": 42,
    },
    ("POST", "/v1/sessions/{session}/cancel"): {"id": SESSION, "run_id": RUN},
    ("POST", "/v1/sessions/{session}/close"): {"id": SESSION},
    ("POST", "/v1/tasks"): {"id": SESSION, "status": "queued", **ASKED},
    ("GET", "/v1/tasks/{session}"): {"id": SESSION, "status": "completed", "run_id": RUN, "result": "It is noon."},
    ("GET", "/v1/agents"): {
        "agents": [
            {
                "name": "support",
                "version": "3",
                "model": "anthropic:claude-sonnet-5-5",
                "description": "Helps customers.",
                "tools": ["weather"],
                "default": True,
            }
        ]
    },
    ("POST", "/v1/calls/{call_id}/result"): {"call_id": CALL},
    ("POST", "/v1/sessions/{session}/answers/{question_id}"): {"id": SESSION, "question_id": "q_1"},
    ("GET", "/v1/tools"): {"tools": [TOOL]},
    ("GET", "/v1/tools/{tool}"): TOOL,
    ("POST", "/v1/tools/{tool}/calls"): {"id": SESSION, "run_id": RUN},
    ("GET", "/v1/deadletters"): {"letters": [LETTER], "next_cursor": "0-17"},
    ("GET", "/v1/deadletters/{letter}"): LETTER,
    ("POST", "/v1/deadletters/{letter}/retry"): {"id": "0-17", "state": "retried"},
    ("POST", "/v1/deadletters/{letter}/drop"): {"id": "0-17", "state": "dropped"},
    ("POST", "/v1/sessions/{session}/ticket"): {
        "ticket": "pht_eyJ…",
        "expires_at": AT + 60_000_000,
        "url": f"/v1/sessions/{SESSION}/events?ticket=pht_eyJ…",
    },
    ("POST", "/v1/auth/cookie"): {
        "name": "ann",
        "tenant": "acme",
        "scopes": ["sessions:read", "sessions:write"],
        "expires_at": AT + 43_200_000_000,
    },
}


def _problem(status: int, title: str, code: str, detail: str, **more: Any) -> Json:
    document = {
        "type": f"urn:playhead:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    return {"summary": code, "value": document | more}


PROBLEMS: dict[str, dict[str, Json]] = {
    "4XX": {
        "invalid-body": _problem(
            422,
            "Unprocessable Content",
            "invalid-body",
            "/content: Field required",
            errors=[{"pointer": "/content", "detail": "Field required"}],
        ),
        "unknown-session": _problem(404, "Not Found", "unknown-session", f"there is no session {SESSION}"),
        "cursor-conflict": _problem(409, "Conflict", "cursor-conflict", "the log ends at 42", last_seq=42),
        "unauthenticated": _problem(
            401, "Unauthorized", "unauthenticated", "send Authorization: Bearer and an API key or a token"
        ),
        "missing-scope": _problem(
            403, "Forbidden", "missing-scope", "this needs the scope 'sessions:write'", scope="sessions:write"
        ),
        "rate-limited": _problem(
            429, "Too Many Requests", "rate-limited", "there may be 60 in 60 s", policy="key-messages"
        ),
    },
    "5XX": {
        "unavailable": _problem(503, "Service Unavailable", "unavailable", "the log cannot be reached now; try again"),
    },
}
"""Problems that a client should be ready for. `docs/protocol.md` has all of them."""


def with_example(method: str, path: str, described: dict[str, Any]) -> dict[str, Any]:
    """Add the examples of a route to what FastAPI is told of it."""
    responses: dict[int | str, Json] = described["responses"]
    example = EXAMPLES.get((method, path))
    if example is not None:
        responses[described["status_code"]]["content"]["application/json"]["example"] = example
    for status, problems in PROBLEMS.items():
        responses[status]["content"]["application/problem+json"]["examples"] = problems
    return described
