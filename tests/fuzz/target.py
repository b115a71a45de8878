"""What a fuzz target is, and what every input may cost.

A target takes bytes and comes back. Whatever the surface documents as its refusal is caught within the target; all that
it raises is a mistake of ours, and so is time or memory beyond the bounds here.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.mutate import INPUT_BYTES_MAX, mutated

__all__ = ["CORPUS", "MEMORY_BYTES_MAX", "SECONDS_MAX", "Run", "Target", "bounded", "regressions"]

CORPUS = Path(__file__).parent / "corpus"

SECONDS_MAX = 5.0
"""How long one input may take. Far above what any takes, for machines that do other things as well."""

MEMORY_BYTES_MAX = 512 * 1024 * 1024
"""How much more memory a process may ever have held after a run than before it."""

Run = Callable[[bytes], None]
Open = Callable[[], AbstractContextManager[Run]]


@dataclass(frozen=True)
class Target:
    """One surface. `open` gives the function that takes inputs; `seeds` are real inputs.

    `executions` is how many inputs the suite tries: about a second's worth.
    """

    name: str
    open: Open
    seeds: Callable[[], Sequence[bytes]]
    executions: int
    input_bytes_max: int = INPUT_BYTES_MAX

    def inputs(self, chance: Random) -> Generator[bytes, None, None]:
        """Give inputs without an end: first the seeds themselves."""
        seeds = [*self.seeds(), *regressions(self.name)]
        yield from seeds
        while True:
            yield mutated(chance, chance.choice(seeds), seeds, most=self.input_bytes_max)


def regressions(name: str) -> list[bytes]:
    """Give the inputs that once broke something."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


@contextmanager
def bounded(target: Target) -> Generator[Run, None, None]:
    """Open a target, and hold each input to the bounds."""
    began_at = _peak_bytes()

    with target.open() as run:

        def one(data: bytes) -> None:
            start = time.process_time()  # what others do on this machine is not the input's fault
            run(data)
            took = time.process_time() - start
            assert took < SECONDS_MAX, f"one input took {took:.1f} s"
            held = _peak_bytes() - began_at
            assert held < MEMORY_BYTES_MAX, f"the process holds {held} bytes more"

        yield one


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
