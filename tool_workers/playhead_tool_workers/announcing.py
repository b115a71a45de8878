"""What a worker says of a tool in the catalogue. Pure."""

from __future__ import annotations

import json

from playhead.commands import AnnounceTool
from playhead.events import Json
from playhead.options import RateLimit
from playhead.tools import Tool

__all__ = ["announcement"]


def announcement(tool: Tool[..., object], at: int) -> AnnounceTool:
    """Describe a tool as it is offered `at` (microseconds since the epoch)."""
    soft, output = tool.soft_timeout_seconds, tool.output_schema
    return AnnounceTool(
        pool=tool.pool,
        name=tool.name,
        description=tool.description,
        input_schema=_json(tool.input_schema),
        schema_hash=tool.schema_hash,
        effect=tool.effect,
        timeout_ms=round(tool.timeout_seconds * 1000),
        retries=tool.retries,
        at=at,
        output_schema=None if output is None else _json(output),
        soft_timeout_ms=None if soft is None else round(soft * 1000),
        concurrency=tool.concurrency,
        after=tool.after,
        exclusive=tool.exclusive,
        key=tool.key,
        reconciles=tool.reconcile is not None,
        approval=tool.approval_policy,
        rate_limit=None if tool.rate_limit is None else _rate(tool.rate_limit),
        cache_seconds=tool.cache_seconds,
        fallback=tool.fallback is not None,
        breaker=tool.breaker is not None,
    )


def _json(schema: object) -> Json:
    return Json(json.dumps(schema, ensure_ascii=False))


def _rate(limit: RateLimit) -> str:
    return f"{limit.count}/{limit.seconds:g}s{' per tenant' if limit.per == 'tenant' else ''}"
