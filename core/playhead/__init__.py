"""Playhead: an agent runtime whose only memory is an event log."""
