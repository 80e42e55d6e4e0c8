"""The scripted server, and the `certctl` command run against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from certctl.cli.main import app
from tests.cli.scripted import Scripted

Run = Callable[..., Result]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as scripted:
        yield scripted


@pytest.fixture
def certctl(server: Scripted) -> Run:
    """`certctl("certs", "list")`: the command's result, with stdout and stderr apart."""

    def run(*arguments: str, stdin: str | None = None, **environment: str) -> Result:
        told = {**server.environment, **environment}
        return CliRunner().invoke(app, list(arguments), input=stdin, env=told)

    return run
