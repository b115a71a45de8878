"""The program that stands between a worker and a command: it confines the command, starts it and ends all it started.

Run by `START` in a Python of its own, which sees the standard library and this package, as `jail`. It imports next to
nothing (not even `pathlib`, `signal` or `contextlib`, which take longer than all that is done here), so that it starts
in milliseconds, and nothing of the rest of Playhead.
"""

__all__ = ["START"]

START = "import sys; sys.path.append(sys.argv.pop(1)); from jail.guard import main; main()"
"""For `python -I -S -c START FOLDER SPEC REPORT CONTROL`: the folder that has this package, and three open files."""
