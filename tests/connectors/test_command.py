"""Commands of operators: what is accepted, and how it is run."""

from __future__ import annotations

import ast
import os
import re
import sys
import time
from pathlib import Path

import pytest

from certctl.connectors import catalog
from certctl.connectors.command import (
    FORBIDDEN,
    PASSED_ON,
    parse_command,
    run_checked,
    run_command,
)
from certctl.domain.errors import Invalid, Refused, Unavailable
from tests import kit

SOURCE = Path(__file__).parents[2] / "src" / "certctl"
SOURCES = sorted(SOURCE.rglob("*.py"))
SHELLS = {
    "popen",
    "getoutput",
    "getstatusoutput",
    "create_subprocess_shell",
    "subprocess_shell",
}
GOOD = {
    "NGINX": {
        "cert_path": "/etc/nginx/cert.pem",
        "key_path": "/etc/nginx/key.pem",
        "validate_command": "nginx -t",
        "reload_command": "nginx -s reload",
    },
    "HAProxy": {
        "pem_path": "/etc/haproxy/site.pem",
        "reload_command": "systemctl reload haproxy",
    },
}


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


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\u2028", "\u202e", "\ud800"])
def test_nothing_that_cannot_be_seen_is_accepted(character):
    with pytest.raises(Invalid, match="control characters"):
        parse_command(f"nginx{character} -t")


def test_a_tab_parts_arguments_too():
    assert parse_command("nginx\t-t") == ["nginx", "-t"]


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


def test_of_our_environment_only_what_a_program_needs_is_passed_on(monkeypatch):
    for name in ("CERTCTL_API_KEY", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD_OF_OURS", "LC_ALL"):
        monkeypatch.setenv(name, "C.UTF-8")
    result = run_command(python("import os; print(*sorted(os.environ))"), timeout=20)
    seen = set(result.output.split())
    assert seen - PASSED_ON == {"LC_ALL"}
    assert "PATH" in seen


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


def with_commands() -> list[tuple[str, str]]:
    """Each field of a target that holds a command."""
    return [
        (kind, field)
        for kind in sorted(catalog.TARGETS)
        for field in catalog.target_class(kind).Config.model_fields
        if "command" in field
    ]


def test_there_are_fields_that_hold_commands():
    assert ("NGINX", "reload_command") in with_commands()


@pytest.mark.parametrize(("kind", "field"), with_commands())
@pytest.mark.parametrize("text", ["nginx -t; reboot", "nginx $(id)", "x" * 1025, "a\x1b"])
def test_server_and_agent_refuse_the_same_commands(kind, field, text):
    """The server parses a target's configuration by this model when it is made or changed, the
    agent before it runs anything."""
    with pytest.raises(Invalid) as refusal:
        catalog.open_target(kind, {**GOOD[kind], field: text})
    assert refusal.value.field.endswith(field)
    catalog.open_target(kind, GOOD[kind])


async def test_the_server_refuses_a_target_with_such_a_command(world):
    agent = await kit.an_agent(world)
    named = {"name": "web", "type": "NGINX", "agent_id": agent.agent_id}
    bad = {**GOOD["NGINX"], "reload_command": "nginx -s reload && reboot"}
    with pytest.raises(Invalid) as refusal:
        await create(world, {**named, "config": bad})
    assert refusal.value.field == "config.reload_command"
    row = await create(world, {**named, "config": GOOD["NGINX"]})
    bad = {**GOOD["NGINX"], "validate_command": "nginx -t | tee"}
    with pytest.raises(Invalid) as refusal:
        await change(world, row["id"], {"config": bad})
    assert refusal.value.field == "config.validate_command"


async def create(world, values):
    return await kit.plain.create(world.platform, kit.ADMIN, kit.plain.TARGETS, values=values)


async def change(world, target_id, changes):
    targets = kit.plain.TARGETS
    return await kit.plain.update(world.platform, kit.ADMIN, targets, target_id, changes=changes)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_module_uses_a_shell(file):
    assert [shown for node in ast.walk(ast.parse(file.read_text())) if (shown := shell(node))] == []


@pytest.mark.parametrize(
    "code",
    [
        "os.system('ls')",
        "os.popen('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.getoutput('ls')",
        "await asyncio.create_subprocess_shell('ls')",
        "loop.subprocess_shell(None, 'ls')",
        "run(['sh', '-c', 'ls'])",
        "Popen(('/bin/bash', '-ec', text))",
        "from os import system",
        "from subprocess import getoutput",
    ],
)
def test_a_shell_would_be_found(code):
    assert [shown for node in ast.walk(ast.parse(code)) if (shown := shell(node))] != []


def shell(node):
    """What in this node of a program starts a shell, or the empty string."""
    found = False
    if isinstance(node, ast.Attribute):
        found = node.attr in SHELLS or ast.unparse(node) == "os.system"
    elif isinstance(node, ast.ImportFrom) and node.module in {"os", "subprocess", "asyncio"}:
        found = any(each.name in SHELLS | {"system"} for each in node.names)
    elif isinstance(node, ast.keyword) and node.arg == "shell":
        found = ast.unparse(node.value) != "False"
    elif isinstance(node, ast.List | ast.Tuple):
        words = [each.value if isinstance(each, ast.Constant) else None for each in node.elts]
        found = any(
            isinstance(word, str) and Path(word).name in {"sh", "bash", "dash", "zsh", "ksh"}
            for word in words
        ) and any(isinstance(word, str) and re.fullmatch(r"-\w*c", word) for word in words)
    return ast.unparse(node) if found else ""


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
