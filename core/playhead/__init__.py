"""Playhead: an agent runtime whose only memory is an event log."""

from playhead.agents import Agent
from playhead.content import File, Image, Pending, Question
from playhead.events import Budget
from playhead.lifespan import lifespan
from playhead.options import Breaker, Limit, RateLimit, Sandbox
from playhead.tools import ToolContext, ToolFailed, tool

__all__ = [
    "Agent",
    "Breaker",
    "Budget",
    "File",
    "Image",
    "Limit",
    "Pending",
    "Question",
    "RateLimit",
    "Sandbox",
    "ToolContext",
    "ToolFailed",
    "lifespan",
    "tool",
]
