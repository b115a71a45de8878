"""The schema files say what the classes say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_schema_files_are_derived_from_the_classes():
    done = subprocess.run([sys.executable, "schemas/derive.py", "--check"], cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 0, "run `make schemas`"
