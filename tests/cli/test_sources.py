"""Which files an app is made of, and which are nobody's to load again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from playhead.errors import Misconfigured
from playhead.loading import load_app
from playhead_cli import sources
from playhead_cli.sources import Sources

APP = """
from playhead import Agent
agent = Agent("helper", instructions="{}")
"""


def app(folder: Path, name: str = "an_app.py") -> Path:
    (folder / name).write_text(APP.format("one"))
    load_app(str(folder / name))
    return folder / name


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def instructions(found: Sources) -> str:
    return found.load().agents[0].instructions


def test_an_app_whose_folder_holds_everything_is_loaded_again_alone(tmp_path: Path):
    """As in a container where it is in the root: Python, what is installed and Playhead are below it too."""
    written = app(tmp_path)
    done = subprocess.run([sys.executable, "-c", IN_THE_ROOT, str(written)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["one", "an_app"]


IN_THE_ROOT = """
import sys
from pathlib import Path
from types import ModuleType
from playhead.loading import load_app
from playhead_cli.sources import Sources

class Everywhere(Sources):
    def _folder(self):
        return Path("/")

load_app(sys.argv[1])
before = dict(sys.modules)
print(Everywhere(sys.argv[1]).load().agents[0].instructions)
print(*[name for name, module in before.items() if sys.modules.get(name) is not module])
"""


def test_a_package_without_an_init_has_a_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a_package" / "serving.py", "from a_package.within import agent\n")
    (tmp_path / "a_package" / "within.py").write_text(APP.format("one"))
    monkeypatch.chdir(tmp_path)
    load_app("a_package.serving")
    found = Sources("a_package.serving")
    assert not found.changed()
    (tmp_path / "a_package" / "within.py").write_text(APP.format("another"))
    assert found.changed() and not found.changed()
    assert instructions(found) == "another"


def test_a_file_that_is_gone_is_a_change_and_so_is_its_return(tmp_path: Path):
    written = app(tmp_path, "gone_app.py")
    found = Sources(str(written))
    written.unlink()
    assert found.changed()
    with pytest.raises(Misconfigured, match="there is no file"):
        found.load()
    assert not found.changed()
    written.write_text(APP.format("back"))
    assert found.changed()
    assert instructions(found) == "back"


def test_while_an_app_is_broken_what_it_may_be_missing_is_looked_for_within_limits(tmp_path: Path):
    written = app(tmp_path, "wide_app.py")
    found = Sources(str(written))
    written.write_text("from deep.down import nothing\n")
    assert found.changed()
    with pytest.raises(Misconfigured, match="No module named 'deep'"):
        found.load()
    for hidden in (".venv", "site-packages"):
        write(tmp_path / hidden / "no.py", "")
    assert not found.changed()
    write(tmp_path / "deep" / "down.py", "nothing = 1\n")
    assert found.changed()
    for number in range(sources.FILES_MAX):
        write(tmp_path / "many" / f"{number}.py", "")
    assert found.changed()
    write(tmp_path / "too" / "many.py", "")
    assert not found.changed()


def test_looking_costs_nothing_for_what_is_no_file_of_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done twice a second, between the deltas of streams."""
    found = Sources(str(app(tmp_path)))
    for number in range(2_000):
        monkeypatch.setitem(sys.modules, f"stranger_{number}", ModuleType(f"stranger_{number}"))
        sys.modules[f"stranger_{number}"].__file__ = f"/elsewhere/stranger_{number}.py"
    found.changed()
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        changed = found.changed()
    finally:
        sys.setprofile(None)
    assert not changed
    assert calls < 300
