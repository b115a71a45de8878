"""A process that appends to a SQLite store, prints each acknowledged seq, and never ends by itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from playhead.accept import genesis
from playhead.adapters.sqlite import open_sqlite
from playhead.codec import Codec
from playhead.ids import parse_session_id
from playhead.testing import chain, said


async def main(path: Path, name: str) -> None:
    codec, session = Codec(), parse_session_id(name)
    async with open_sqlite(path) as store:
        await store.log.create(session)
        head = genesis(session)
        while True:
            head = await store.log.append(session, head, chain(codec, session, head, *said("a", "b", "c")))
            print(head.seq, flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
