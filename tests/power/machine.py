"""A machine whose power fails: lives of a process on its disk, and what each cut would have left of them.

A life is run once, to its end, with everything that it does to the disk in a trace. Every cut is then made from the
trace: the disk as it was at that moment, less what had not been synced. So one life is cut everywhere.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from playhead.adapters.sqlite import SqliteStore, open_sqlite
from playhead.errors import PlayheadError

from tests.power.disk import Create, Fate, Image, Platter, Sync, SyncFolder, Trace, Write
from tests.power.ledger import Found, Ledger, judge
from tests.power.life import TABLE, Diary, Script, examine, live
from tests.power.vfs import Shim

__all__ = ["Cut", "Machine", "Uptime", "Verdict"]

NAME = "log.db"
CHECKPOINT_FRAMES = 12
"""So that a life of a few dozen transactions has its write-ahead log moved, and begun anew, several times."""


@dataclass(frozen=True, slots=True)
class Uptime:
    """Since the power came on: what was done to the disk, and what users were told. Cuts are made from `start` on."""

    trace: Trace
    ledger: Ledger
    start: int = 0

    @property
    def resets(self) -> int:
        """How often a write-ahead log was begun anew, over what had been moved into the database."""
        logs = {op.file for op in self.trace.operations if isinstance(op, Create) and op.name == f"{NAME}-wal"}
        heads = Counter(op.file for op in self.trace.operations if isinstance(op, Write) and op.offset == 0)
        return sum(heads[number] - 1 for number in logs if heads[number])

    def killed(self, moment: int) -> Uptime:
        """Give the uptime as it was at a moment, for the next process: this one was killed, and the disk goes on."""
        return Uptime(self.trace.prefix(moment), self.ledger.at(moment), moment)

    @property
    def syncs(self) -> Sequence[int]:
        """The moments right before something is synced: most is waiting then."""
        noted = enumerate(self.trace.operations)
        return [moment for moment, op in noted if isinstance(op, Sync | SyncFolder) and moment >= self.start]


@dataclass(frozen=True, slots=True)
class Cut:
    """When the power fails, and what becomes of what was not synced."""

    moment: int
    fate: Fate


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found after a cut, and what is wrong with it. `after` is what the next uptime begins from."""

    cut: Cut
    wrong: Sequence[str]
    image: Image
    after: Ledger


@dataclass
class Machine:
    """Runs lives and judges cuts, in a folder of its own."""

    shim: Shim
    folder: Path
    slow_commit_seconds: float = 60.0
    weaken: Callable[[SqliteStore], None] | None = None
    losses: Counter[str] = field(default_factory=Counter[str])

    async def live(self, before: Uptime, script: Script) -> Uptime:
        """Run a life on what is there, and close in order."""
        platter = Platter.of(before.trace.image)
        for operation in before.trace.operations:
            platter.do(operation)
        self._lay_out(platter.cut(Fate.KEPT, Random(0))[0])
        with self.shim.recording(self.folder, before.trace):
            async with open_sqlite(
                self.folder / NAME, slow_commit_seconds=self.slow_commit_seconds, checkpoint_frames=CHECKPOINT_FRAMES
            ) as store:
                if self.weaken is not None:
                    self.weaken(store)
                await live(store, Diary(before.ledger, before.trace), script)
        return before

    async def judge(
        self, uptime: Uptime, fates: Callable[[int], Sequence[Fate]], random: Random
    ) -> AsyncGenerator[Verdict, None]:
        """Cut the power at every moment that `fates` gives fates for, and look at what is left each time."""
        for cut, image in self._cuts(uptime, fates, random):
            ledger = uptime.ledger.at(cut.moment)
            found, wrong = await self._examine(image, ledger, random)
            yield Verdict(cut, wrong, image, ledger.since(found))

    def _cuts(
        self, uptime: Uptime, fates: Callable[[int], Sequence[Fate]], random: Random
    ) -> Generator[tuple[Cut, Image], None, None]:
        platter = Platter.of(uptime.trace.image)
        for moment, operation in enumerate([*uptime.trace.operations, None]):
            chosen = fates(moment) if moment >= uptime.start else ()
            for fate in chosen[:1] if platter.settled else chosen:
                image, losses = platter.cut(fate, random)
                self.losses += losses
                self.losses["cuts"] += 1
                yield Cut(moment, fate), image
            if operation is not None:
                platter.do(operation)

    async def _examine(self, image: Image, ledger: Ledger, random: Random) -> tuple[Found, list[str]]:
        self._lay_out(image)
        if random.random() < 0.3:
            # What was shared memory may be on the disk, as it was at any time.
            (self.folder / f"{NAME}-shm").write_bytes(random.randbytes(32768))
        with self.shim.recording(self.folder, None):
            try:
                async with open_sqlite(self.folder / NAME, slow_commit_seconds=60) as store:
                    found, wrong = await examine(store, ledger)
                wrong += judge(ledger, found, [TABLE.name])
                with closing(sqlite3.connect(self.folder / NAME)) as raw:
                    (said,) = raw.execute("PRAGMA integrity_check").fetchone()
            except (PlayheadError, sqlite3.Error) as error:
                return Found({}, ()), [f"L1: the store cannot be used: {error!r}"]
        return found, wrong if said == "ok" else [*wrong, f"the database is damaged: {said}"]

    def _lay_out(self, image: Image) -> None:
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink()
        for name, content in image.items():
            (self.folder / name).write_bytes(content)
