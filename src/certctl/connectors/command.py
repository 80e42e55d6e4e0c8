"""Validate and reload commands: one check of their text, one way to run them, never a shell.

Server and agent use the same check, so a command that was accepted is a command that runs.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from certctl.domain.errors import Invalid, Refused, Unavailable

FORBIDDEN = frozenset(";|&$`(){}<>\\\"'\n\r\0")
MAX_LENGTH = 1024
# What a program needs to find others, its files, its language and the service manager.
PASSED_ON = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "TZ",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
        "DBUS_SESSION_BUS_ADDRESS",
        "DBUS_SYSTEM_BUS_ADDRESS",
    }
)
OUTPUT_KEPT = 4096
OUTPUT_TOLD = 2000
COMMAND_TIMEOUT = 60.0


@dataclass(frozen=True)
class CommandResult:
    """`output` is the end (4 KiB) of what the command wrote to both streams."""

    ok: bool
    output: str


def parse_command(text: str, *, field: str = "command") -> list[str]:
    """The argument list of `text`, split at white space.

    There is no quoting: an argument cannot hold a space.

    Raises:
        Invalid: naming `field`, for an empty or over-long text, a character of a shell's syntax,
            or one that cannot be seen.
    """
    if not text.strip() or len(text) > MAX_LENGTH:
        raise Invalid(f"{field} must have 1 to {MAX_LENGTH} characters", field=field)
    if found := sorted(FORBIDDEN & set(text)):
        shown = " ".join(repr(c)[1:-1] for c in found)
        raise Invalid(f"{field} runs without a shell and may not contain: {shown}", field=field)
    if not text.replace("\t", " ").isprintable():
        raise Invalid(f"{field} may not contain control characters", field=field)
    return text.split()


def _accepted(text: str) -> str:
    try:
        parse_command(text)
    except Invalid as error:
        raise ValueError(error.message.removeprefix("command ")) from error
    return text


CommandText = Annotated[str, AfterValidator(_accepted)]


def run_command(argv: list[str], *, timeout: float) -> CommandResult:
    """Run `argv` to its end, or kill it and its process group after `timeout` seconds.

    The command sees no input, and of the environment only `PASSED_ON` and `LC_*`: ours may hold
    credentials.

    Raises:
        Unavailable: when the program does not exist or may not be run.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith("LC_")
    }
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"cannot run {argv[0]}: {error.strerror}") from error
    deadline = time.monotonic() + timeout
    with process:
        output = _tail(process, deadline).decode(errors="replace").strip()
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return CommandResult(False, f"{output}\nkilled after {timeout:g} s".strip())
    return CommandResult(code == 0, output)


def run_checked(text: str, what: str) -> None:
    """Run the command `text`, called `what` in messages, for at most a minute.

    Raises:
        Refused: when it fails; the message ends with the last words of its output.
        Unavailable: when the program does not exist.
    """
    result = run_command(parse_command(text, field=what), timeout=COMMAND_TIMEOUT)
    if not result.ok:
        raise Refused(f"{what} `{text}` failed: {result.output[-OUTPUT_TOLD:] or 'no output'}")


def _tail(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """The last bytes written.

    A daemon that the command started may hold the pipe open for ever: reading ends when the
    command is over and the pipe is quiet, not at end of file only.
    """
    tail = b""
    if process.stdout is None:
        return tail
    descriptor = process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            over = process.poll() is not None
            if selector.select(0 if over else min(left, 0.02)):
                chunk = os.read(descriptor, 65536)
                if not chunk:
                    break
                tail = (tail + chunk)[-OUTPUT_KEPT:]
            elif over:
                break
    return tail
