"""What wrk sees of a server: requests a second, and the median time of one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.tools import need

UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def rate(script: str, url: str) -> float:
    """Requests a second of eight connections, asked as the Lua script says."""
    told = _run(script, "-t1", "-c8", "-d5s", url)
    return float(told.split("Requests/sec:")[1].split()[0])


def median(base: str, paths: Sequence[str], *, key: str) -> float:
    """Milliseconds of a GET on one connection that stays open, through the paths in turn."""
    told = _run(_gets(paths, key), "-t1", "-c1", "-d2s", "--latency", base)
    found = re.search(r"50%\s+([\d.]+)(us|ms|s)", told)
    assert found, told
    return float(found[1]) * UNITS[found[2]]


def _run(script: str, *arguments: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(
            [need("wrk"), *arguments[:-1], "-s", Path(file.name), arguments[-1]],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    assert "Non-2xx" not in done.stdout, done.stdout
    return done.stdout


def _gets(paths: Sequence[str], key: str) -> str:
    listed = ",".join(f'"{path}"' for path in paths)
    return f"""
local paths = {{{listed}}}
local n = 0
wrk.headers["Authorization"] = "Bearer {key}"
request = function()
  n = n % #paths + 1
  return wrk.format("GET", paths[n])
end
"""
