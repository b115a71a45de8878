"""Both ports on one SQLite file, for the embedded mode."""

from playhead.adapters.sqlite.store import SqliteStore, open_sqlite

__all__ = ["SqliteStore", "open_sqlite"]
