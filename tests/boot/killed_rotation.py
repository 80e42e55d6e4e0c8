"""Carries out `certctl secrets rotate` again and again, killed before a given step.

Reads lines of JSON, `[database, data directory, step]`, and answers each with the exit status;
the number of steps taken is left in a file. A step is a statement, or one of what happens to the
passphrase's file. Each is a fork of this process, for speed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from certctl.boot import keys, rotation
from certctl.services import rotation as service
from certctl.settings import load
from certctl.store.db import Session
from tests.flows.killed import die


class Steps:
    """Counts, and ends the process before the last one."""

    def __init__(self, last: int) -> None:
        self.taken, self._last = 0, last

    def take(self) -> None:
        self.taken += 1
        if self.taken == self._last:
            die()

    def around(self, owner: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.take()
            return function(*args, **kwargs)

        setattr(owner, name, counted)


def one(url: str, data: str, last: int) -> int:
    steps = Steps(last)
    service.BATCH = 2
    steps.around(Session, "_execute")
    steps.around(Session, "many")
    steps.around(keys, "write_whole")
    steps.around(rotation, "_keep")
    steps.around(rotation.Path, "replace")
    settings = load({"CERTCTL_DATABASE_URL": url, "CERTCTL_DATA_DIR": data})
    asyncio.run(rotation.rotate(settings, None, patience=timedelta(seconds=5)))
    return steps.taken


def main() -> None:
    for line in sys.stdin:
        url, data, last = json.loads(line)
        taken = Path(data) / "taken"
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)
            taken.write_text(str(one(url, data, last)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
