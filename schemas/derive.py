"""Write `playhead_schemas/*.avsc` from the classes: `python schemas/derive.py`, or with `--check` only compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from playhead.commands import command_types
from playhead.events import event_types
from playhead.schema import derive

FOLDER = Path(__file__).parent / "playhead_schemas"


def main() -> int:
    """Write the schemas; with `--check`, return 1 if the files differ from the classes."""
    wanted = {
        f"{kind.__name__}.avsc": json.dumps(derive(kind), indent=2) + "\n"
        for kind in (*event_types(), *command_types())
    }
    found = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.avsc")}
    if "--check" in sys.argv:
        return int(wanted != found)
    for stale in found.keys() - wanted.keys():
        (FOLDER / stale).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
