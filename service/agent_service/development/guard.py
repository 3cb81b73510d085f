"""Stops the PostgreSQL of `slipway dev` once nobody runs it any more, also after `kill -9`: a process of its own, by its path.

Arguments: the lock, PostgreSQL's folder, `pg_ctl`, the server's user or nothing. Knows the standard library only: it stays for
as long as `slipway dev` does.
"""

import fcntl
import subprocess
import sys
from pathlib import Path


def main(lock: str, data: str, pg_ctl: str, user: str = "") -> None:
    with Path(lock).open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)  # when the last of those that hold it is gone; whoever starts now waits for us
        if (Path(data) / "postmaster.pid").exists():
            command = [pg_ctl, "stop", "-D", data, "-m", "fast", "-w", "-t", "30"]
            subprocess.run(command, user=user or None, check=False)  # noqa: S603  # a program of a package of ours


if __name__ == "__main__":
    main(*sys.argv[1:])
