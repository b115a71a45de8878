"""Makes a new Postgres in a folder and becomes it: its defaults, one host, no passwords.

Postgres refuses to run as root: where this does, it becomes `nobody` first.
"""

from __future__ import annotations

import argparse
import os
import pwd
import subprocess
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description="A new Postgres, in the foreground.")
    parser.add_argument("--binaries", type=Path, required=True, help="where initdb and postgres are")
    parser.add_argument("--data", type=Path, required=True, help="a folder; kept if there is a Postgres in it")
    parser.add_argument("--port", required=True)
    arguments = parser.parse_args()
    arguments.data.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(arguments.data, nobody.pw_uid, nobody.pw_gid)
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    os.chdir(arguments.data)
    if not Path("PG_VERSION").exists():
        subprocess.run([arguments.binaries / "initdb", "-D", ".", "-U", "postgres", "--auth=trust"], check=True)
    server = arguments.binaries / "postgres"
    os.execv(server, [str(server), "-D", ".", "-p", arguments.port, "-h", "127.0.0.1", "-k", ""])


if __name__ == "__main__":
    main()
