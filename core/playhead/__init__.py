"""Playhead: an agent runtime whose only memory is an event log."""

from playhead.agents import Agent
from playhead.events import Budget
from playhead.tools import ToolContext, ToolFailed, tool

__all__ = ["Agent", "Budget", "ToolContext", "ToolFailed", "tool"]
