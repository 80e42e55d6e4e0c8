"""Commands of operators: what is accepted, and how it is run."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from certctl.connectors.command import FORBIDDEN, parse_command, run_checked, run_command
from certctl.domain.errors import Invalid, Refused, Unavailable


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_is_split_at_white_space():
    assert parse_command("  nginx -t  -c /etc/nginx.conf ") == [
        "nginx",
        "-t",
        "-c",
        "/etc/nginx.conf",
    ]


@pytest.mark.parametrize("character", sorted(FORBIDDEN))
def test_no_character_of_a_shell_is_accepted(character):
    with pytest.raises(Invalid) as refusal:
        parse_command(f"nginx -t{character}reboot", field="reload_command")
    assert refusal.value.field == "reload_command"


@pytest.mark.parametrize("text", ["", "   ", "x" * 1025])
def test_an_empty_or_endless_command_is_refused(text):
    with pytest.raises(Invalid, match="1 to 1024"):
        parse_command(text)


def test_the_longest_command_is_accepted():
    assert parse_command("x" * 1024) == ["x" * 1024]


def test_the_end_of_both_streams_is_kept():
    code = "import sys; print('a' * 9000); sys.stdout.flush(); print('last', file=sys.stderr)"
    result = run_command(python(code), timeout=20)
    assert result.ok
    assert result.output.endswith("aaa\nlast")
    assert len(result.output) <= 4096


def test_an_exit_code_other_than_zero_is_not_ok():
    assert not run_command(python("raise SystemExit(3)"), timeout=20).ok


def test_nothing_is_read_from_our_standard_input():
    result = run_command(python("import sys; print(repr(sys.stdin.read()))"), timeout=20)
    assert result.output == "''"


def test_our_settings_are_not_passed_on(monkeypatch):
    monkeypatch.setenv("CERTCTL_API_KEY", "s3cret")
    monkeypatch.setenv("KEPT", "yes")
    code = "import os; print(os.environ.get('CERTCTL_API_KEY'), os.environ.get('KEPT'))"
    assert run_command(python(code), timeout=20).output == "None yes"


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path):
    note = tmp_path / "child"
    code = (
        "import subprocess, time, pathlib\n"
        "p = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid))\n"
        "time.sleep(600)"
    )
    result = run_command(python(code), timeout=1)
    assert not result.ok
    assert "killed after 1 s" in result.output
    assert not is_running(int(note.read_text()))


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for():
    code = "import subprocess; p = subprocess.Popen(['sleep', '20']); print('up', p.pid)"
    begun = time.monotonic()
    result = run_command(python(code), timeout=15)
    assert result.ok
    assert time.monotonic() - begun < 10
    os.kill(int(result.output.split()[1]), 9)


def test_a_missing_program_is_named():
    with pytest.raises(Unavailable, match="no-such-program"):
        run_command(["no-such-program", "-t"], timeout=1)


def test_a_checked_command_tells_its_output_when_it_fails():
    with pytest.raises(Refused, match=r"validate_command `ls /absent-folder` failed: .*No such"):
        run_checked("ls /absent-folder", "validate_command")


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":
                return False
        except (FileNotFoundError, ProcessLookupError):
            return False
    return True
