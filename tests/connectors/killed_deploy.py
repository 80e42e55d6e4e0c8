"""A script: deploys in children, each killed one step later than the one before.

Arguments: a folder; `deploy`, or `recover` from an interrupted deployment; `fresh` or `existing`
for what was there before. Every child works in a folder of its own, named for
the number of steps it was granted; prints how many were needed to end alive.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from certctl.connectors.files import FilePlan, PlannedFile, deploy, recover
from certctl.domain.errors import Refused

CALLS = ("open", "fchmod", "fchown", "fsync", "replace", "rename", "unlink")


def a_plan(folder: Path, step: Callable = lambda function: function) -> FilePlan:
    """The plan of the children, and of the test that cleans up after them."""
    cert, key, loaded = folder / "site.pem", folder / "site.key", folder / "loaded"

    def reload() -> None:
        loaded.write_bytes(cert.read_bytes() + key.read_bytes())

    def verify() -> None:
        if not loaded.exists() or loaded.read_bytes() != b"new cert\nnew key\n":
            raise Refused("the old certificate is served")

    return FilePlan(
        files=(
            PlannedFile(cert, b"new cert\n", 0o644),
            PlannedFile(key, b"new key\n", 0o600),
        ),
        validate=step(lambda: None),
        reload=step(reload),
        verify=step(verify),
    )


def killed_after(steps: int) -> Callable:
    left = steps

    def step(function: Callable) -> Callable:
        def counted(*args, **kwargs):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*args, **kwargs)

        return counted

    for name in CALLS:
        setattr(os, name, step(getattr(os, name)))
    return step


def prepared(folder: Path, *, existing: bool) -> Path:
    folder.mkdir()
    if existing:
        (folder / "site.pem").write_bytes(b"old cert\n")
        (folder / "site.key").write_bytes(b"old key\n")
        (folder / "site.key").chmod(0o640)
        (folder / "loaded").write_bytes(b"old cert\nold key\n")
    return folder


def interrupted(folder: Path, *, existing: bool) -> Path:
    """A folder whose deployment was killed when everything but its verification was done."""
    prepared(folder, existing=existing)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        deploy(replace(a_plan(folder), verify=die))
    os.waitpid(child, 0)
    return folder


def main(root: Path, action: str, *, existing: bool) -> int:
    for steps in range(1000):
        start = prepared if action == "deploy" else interrupted
        folder = start(root / str(steps), existing=existing)
        child = os.fork()
        if child == 0:
            step = killed_after(steps)
            if action == "deploy":
                deploy(a_plan(folder, step))
            else:
                recover([folder / "site.pem"])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            return steps
    raise AssertionError(f"{action} does not end")


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2], existing=sys.argv[3] == "existing"))
