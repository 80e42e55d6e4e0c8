"""The whole management API under random requests: no failure of ours, no undocumented answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.web.app import openapi_document
from tests.flows.system import System, until

SECONDS = 75
# A long poll waits by design; sending a digest answers 503 while no channel is configured.
LEFT_OUT = r"/work$|/digest/send$"


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(tmp_path / "system")
    yield system
    system.stop()
    system.remove()


def management_only() -> dict[str, object]:
    """The document without the public protocols, whose bodies are not JSON."""
    document = openapi_document()
    paths = {path: row for path, row in document["paths"].items() if path.startswith("/api/v1/")}
    return {**document, "paths": paths}


def test_random_requests_find_no_failure_and_no_undocumented_status(
    system: System, tmp_path: Path
) -> None:
    system.start_server("certctl", "serve", ready=False)
    until("the server to listen", system.answers)
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(management_only()))
    key = (system.data / "admin.key").read_text().strip()
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis", "run", document,
            "--url", f"https://127.0.0.1:{system.https}",
            "--tls-verify", system.data / "ca.pem",
            "--header", f"Authorization: Bearer {key}",
            "--checks", "not_a_server_error,status_code_conformance",
            "--phases", "coverage,fuzzing", "--max-time", str(SECONDS),
            "--no-shrink", "--seed", "1", "--warnings", "off", "--request-timeout", "20",
            "--exclude-path-regex", LEFT_OUT,
        ],
        capture_output=True, text=True, timeout=SECONDS + 60, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
    tried = re.search(r"(\d+) generated", done.stdout)
    assert tried, done.stdout[-2000:]
    assert int(tried[1]) > 1000
