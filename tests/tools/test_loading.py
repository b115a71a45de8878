"""Finding an app by its file or module, as a command line names it. Each case is a process of its own: it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from playhead import Agent, tool
import neighbour

@tool
def here(x: int) -> int:
    "Here."
    return x

agent = Agent("support", tools=[here, neighbour.there, "elsewhere"], default=True)
"""

NEIGHBOUR = """
from playhead import tool

@tool(pool="p2")
def there(x: int) -> int:
    "There."
    return x

listed = [there]
"""

PROBE = """
import json, sys
from playhead.errors import Misconfigured
from playhead.loading import load_app
for reference in sys.argv[1:]:
    try:
        app = load_app(reference)
        found = [[agent.name for agent in app.agents], [tool.name for tool in app.tools]]
        print(json.dumps([*found, *([[one.pool for one in app.lifespans]] if app.lifespans else [])]))
    except Misconfigured as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    return tmp_path


def load(folder: Path, *references: str) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROBE, *references],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_app_is_found_by_file_by_module_and_by_attribute(folder: Path) -> None:
    both = [["support"], ["here", "there"]]
    references = ["app.py", "app", "./app.py:agent", str(folder / "app.py"), "app:here", "neighbour.py:listed"]
    assert load(folder, *references) == [both, both, both, both, [[], ["here"]], [[], ["there"]]]


def test_a_file_named_like_a_module_that_is_there_is_still_the_file(folder: Path) -> None:
    (folder / "json.py").write_text(APP)
    assert load(folder, "json.py") == [[["support"], ["here", "there"]]]


def test_the_users_folder_stands_in_for_nobody_elses_modules(folder: Path) -> None:
    (folder / "uuid.py").write_text("raise RuntimeError('imported by mistake')")
    (folder / "app.py").write_text(f"import uuid\nuuid.uuid4()\n{APP}")
    assert load(folder, "app.py") == [[["support"], ["here", "there"]]]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "x = 1\ny = 1 / 0\n",
            "broken.py cannot be imported: broken.py:2: y = 1 / 0: ZeroDivisionError: division by zero",
        ),
        ("def (\n", "broken.py is not Python: broken.py:1: invalid syntax"),
        (
            "import nowhere\n",
            "broken.py cannot be imported: broken.py:1: import nowhere: "
            "ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("import sys\nsys.exit(3)\n", "broken.py cannot be imported: broken.py:2: sys.exit(3): SystemExit: 3"),
        ("x = 1\n", "broken.py defines no agent and no tool: make an `Agent(…)`, or decorate with `@tool`"),
        (
            "from playhead import Agent\nfirst = Agent('a')\nsecond = Agent('a', 'x:y')\n",
            "broken.py: two agents are named 'a'; rename one",
        ),
        (
            "from playhead import Agent\nfirst = Agent('a', default=True)\nsecond = Agent('b', default=True)\n",
            "broken.py: agents a, b all say `default=True`; leave it to one",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_app_is_told_in_its_own_lines(folder: Path, source: str, message: str) -> None:
    (folder / "broken.py").write_text(source)
    assert load(folder, "broken.py") == [message]


def test_an_error_in_a_bad_declaration_names_the_users_line(folder: Path) -> None:
    (folder / "broken.py").write_text(
        'from playhead import tool\n\n@tool(approval=3)\ndef f(x: int) -> int:\n    """F."""\n    return x\n'
    )
    (message,) = load(folder, "broken.py")
    assert isinstance(message, str)
    assert message.startswith(
        "broken.py cannot be imported: broken.py:3: @tool(approval=3): tool f: approval is True, False or"
    )


def test_two_tools_of_one_name_are_refused(folder: Path) -> None:
    (folder / "double.py").write_text(
        "from playhead import tool\nfrom neighbour import there\n"
        "@tool(name='there')\ndef other(x: int) -> int:\n    'Other.'\n    return x\n"
    )
    (message,) = load(folder, "double.py")
    assert isinstance(message, str)
    assert message.startswith("double.py: two tools are named 'there' (neighbour.there and double.other)")


def test_what_is_not_there_is_said_plainly(folder: Path) -> None:
    assert load(folder, "none.py", "nowhere", "app.nowhere", "app:nothing", "a b") == [
        "there is no file none.py",
        "there is no module nowhere: it is neither installed nor in the working folder",
        "there is no module app.nowhere: it is neither installed nor in the working folder",
        "app:nothing: app defines no 'nothing'",
        "'a b' is neither a Python file nor the dotted name of a module",
    ]


POOLED = """
from playhead import Agent, tool, lifespan

@lifespan()
async def shared():
    yield 1

@lifespan(pool="billing")
async def billing():
    yield 2

@tool(pool="billing")
def pay(x: int) -> int:
    "Pay."
    return x

agent = Agent("support", tools=[pay])
listed = [pay]
"""


def test_what_a_pools_tools_share_is_found_whatever_of_the_file_is_named(folder: Path) -> None:
    (folder / "pooled.py").write_text(POOLED)
    (folder / "beside.py").write_text("from pooled import billing, pay\n")
    lifespans = ["default", "billing"]
    assert load(folder, "pooled.py", "pooled:agent", "pooled.py:pay", "pooled:listed", "beside.py") == [
        [["support"], ["pay"], lifespans],
        [["support"], ["pay"], lifespans],
        [[], ["pay"], lifespans],
        [[], ["pay"], lifespans],
        [[], ["pay"], ["billing"]],
    ]


def test_a_pool_has_one_lifespan(folder: Path) -> None:
    again = "@lifespan(pool='billing')\nasync def again():\n    yield 3\n"
    (folder / "twice.py").write_text(POOLED + again)
    assert load(folder, "twice.py", "twice:pay") == [
        "twice.py: pool 'billing' has two lifespans; make one of them",
        "twice:pay: pool 'billing' has two lifespans; make one of them",
    ]
