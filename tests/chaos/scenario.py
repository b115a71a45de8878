"""What the model says in the tests of chaos. A text of the user picks the turn by a word."""

from __future__ import annotations

from typing import Any

__all__ = [
    "CALLS",
    "FAULTS",
    "PACE_SECONDS",
    "SCENARIO",
    "SLOW_SECONDS",
    "STORY",
    "STORY_DELTAS",
    "WAITS",
    "WAIT_SECONDS",
]

PACE_SECONDS = 0.02
SLOW_SECONDS = 0.1
"""The pace for who wants to strike in the middle: a busy machine sees an event late."""
STORY_DELTAS = 60
STORY = "".join(f"{number:03d} “ü” " for number in range(STORY_DELTAS))
WAITS = 3
WAIT_SECONDS = 0.4
CALLS = 64
CALL_SECONDS = 0.2
FAULTS = ("fails", "hangs", "hangs_in_a_thread", "unserialisable", "prints")


def use(tool: str, **given: object) -> dict[str, Any]:
    return {"use": {"tool": tool, "input": given}}


SCENARIO: list[dict[str, Any]] = [
    {"when": "story", "steps": [{"think": "A story, then."}, {"delta_characters": 8}, {"say": STORY}]},
    {
        "when": "work",
        "steps": [
            {"think": "This takes a few calls."},
            {"say": "I will call them all at once."},
            *(use("wait", number=number, seconds=WAIT_SECONDS) for number in range(WAITS)),
            {"say": "And one more."},
            use("wait", number=WAITS, seconds=WAIT_SECONDS),
            {"say": "All of them have waited, and so have you."},
        ],
    },
    {
        "when": "many",
        "steps": [
            *(use("wait", number=number, seconds=CALL_SECONDS) for number in range(CALLS)),
            {"say": "That was a lot."},
        ],
    },
    {"when": "faults", "steps": [*(use(fault) for fault in FAULTS), {"say": "I have been told of everything."}]},
    {"when": "brief", "steps": [{"say": "Yes."}]},
]
