"""Work in processes of their own, which end without clearing up.

What a killed process of a simulation leaves behind must not run on when it is collected: so nothing is collected, and a
few simulations at a time run in a fork that ends at once.
"""

from __future__ import annotations

import gc
import os
import selectors
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import orjson

__all__ = ["Crashed", "forked"]

Work = Callable[[int], dict[str, Any]]


class Crashed(Exception):
    """A fork did not do its work: the harness has a bug."""


def forked(batches: Sequence[Sequence[int]], jobs: int, work: Work) -> Iterator[dict[str, Any]]:
    """Do work for each number, a batch in one fork, so many forks at a time; yield what comes of it.

    Raises `Crashed`.
    """
    with selectors.DefaultSelector() as selector:
        for job in range(jobs):
            ours, theirs = os.pipe()
            if os.fork() == 0:
                os.close(ours)
                _spread(batches[job::jobs], theirs, work)
            os.close(theirs)
            file: IO[bytes] = os.fdopen(ours, "rb")
            selector.register(file, selectors.EVENT_READ, file)
        while selector.get_map():
            for key, _ in selector.select():
                pipe: IO[bytes] = key.data
                line = pipe.readline()
                if not line:
                    selector.unregister(pipe)
                    pipe.close()
                    continue
                found: dict[str, Any] = orjson.loads(line)
                if "crashed" in found:
                    raise Crashed(f"{found['crashed']}: {found['why']}")
                yield found
    for _ in range(jobs):
        os.wait()


def _spread(batches: Sequence[Sequence[int]], pipe: int, work: Work) -> None:
    """Do batches one after the other, each in a fork of its own, and end."""
    gc.disable()
    if len(batches) > 1:
        _done(work, batches[0][0])  # for nothing but the caches, which all forks inherit
    for batch in batches:
        pid = os.fork()
        if pid == 0:
            for number in batch:
                _say(pipe, _done(work, number))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            _say(pipe, {"crashed": list(batch), "why": f"the fork ended with {status}"})
    os._exit(0)


def _done(work: Work, number: int) -> dict[str, Any]:
    try:
        return work(number)
    except Exception:  # noqa: BLE001 - told by the process that asked for it
        return {"crashed": [number], "why": traceback.format_exc()}


def _say(pipe: int, found: dict[str, Any]) -> None:
    data = orjson.dumps(found) + b"\n"
    while data:
        data = data[os.write(pipe, data) :]
