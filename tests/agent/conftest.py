"""One control plane, one host with a TLS server, and agents to run between them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from certctl.agent.pace import Pace
from certctl.agent.run import serve
from certctl.agent.settings import AgentSettings, load
from tests.agent.plane import Plane
from tests.connectors.kit import TlsServer, a_bundle, install

QUICK = Pace(
    heartbeat=0.05,
    trust=0.1,
    poll_floor=0.02,
    first_retry=0.02,
    longest_retry=0.1,
    grace=20.0,
    staple_floor=0.2,
    staple_spread=0.05,
)
PROGRAM = "import os, sys; from certctl.agent.run import main; sys.exit(main(os.environ))"


@pytest.fixture
def plane(tmp_path):
    folder = tmp_path / "plane"
    folder.mkdir()
    with Plane(folder) as running:
        yield running


@dataclass
class Host:
    """A machine with a TLS server on it; `reload_command` decides how long its reloads take."""

    folder: Path
    plane: Plane
    server: TlsServer
    reload_command: str = "true"
    validate_command: str = "true"
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def target(self) -> dict[str, Any]:
        return {
            "cert_path": str(self.server.cert),
            "key_path": str(self.server.key),
            "validate_command": self.validate_command,
            "reload_command": self.reload_command,
            "port": self.server.port,
            "post_deploy_verify_backoff": 0.01,
            "post_deploy_verify_attempts": 2,
        }

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            "CERTCTL_SERVER_URL": self.plane.url,
            "CERTCTL_KEY_DIR": str(self.folder / "agent" / "keys"),
            "CERTCTL_AGENT_NAME": "web-1",
            "CERTCTL_AGENT_ENROLMENT_TOKEN": self.plane.token,
            "CERTCTL_AGENT_POLL_WAIT": "1",
            **changes,
        }

    def settings(self, **changes: str) -> AgentSettings:
        return load(self.environment(**changes))

    def key_files(self, certificate_id: str = "mc-1") -> list[Path]:
        folder = self.folder / "agent" / "keys" / certificate_id
        return sorted(path for path in folder.glob("*.key") if not path.is_symlink())

    def process(self, **changes: str) -> subprocess.Popen[str]:
        """The agent as a program of its own, as it runs in production."""
        environment = {"PATH": os.environ["PATH"], **self.environment(**changes)}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process


class Gate:
    """A reload command that lasts until it is opened, once a reload."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self.command = f"cat {path}"

    def is_waited_at(self) -> bool:
        """Whether a reload has come to the gate; it stays closed."""
        try:
            self._writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        return True

    def open(self) -> None:
        os.close(self._writer)


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def host(tmp_path, plane):
    folder = tmp_path / "host"
    folder.mkdir()
    cert, key = folder / "site.pem", folder / "site.key"
    install(a_bundle(plane.ca, "site.example.test"), cert, key)
    with TlsServer(cert, key, fresh=True) as server:
        made = Host(folder, plane, server)
        yield made
        for process in made.processes:
            process.kill()
            process.communicate()


@pytest.fixture
async def start(host):
    """Starts agents in this process; they are stopped when the test ends."""
    stop, running = asyncio.Event(), []

    def begin(*, pace: Pace = QUICK, **changes: str) -> asyncio.Task[None]:
        task = asyncio.create_task(serve(host.settings(**changes), stop, pace=pace))
        running.append(task)
        return task

    begin.stop = stop
    yield begin
    stop.set()
    for task in running:
        await asyncio.wait({task}, timeout=30)
        assert task.done()


async def eventually(claim: Callable[[], object], seconds: float = 15.0) -> None:
    """Return as soon as `claim` holds, with the event loop running meanwhile."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)
