"""What wrk sees of a server: requests a second, and the median time of one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.tools import need

CONNECTIONS = 32
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Seen:
    """How many requests there were, how many a second, and the 99th percentile in ms."""

    requests: int
    rate: float
    p99: float


def seen(script: str, base: str, connections: int = CONNECTIONS) -> Seen:
    """Of so many connections for five seconds."""
    told = _run(script, "-t1", f"-c{connections}", "-d5s", "--latency", base)
    number = re.search(r"(\d+) requests in", told)
    rate, slow = re.search(r"Requests/sec:\s+([\d.]+)", told), _percentile(told, 99)
    assert number, told
    assert rate, told
    return Seen(int(number[1]), float(rate[1]), slow)


def _percentile(told: str, which: int) -> float:
    found = re.search(rf"{which}%\s+([\d.]+)(us|ms|s)", told)
    assert found, told
    return float(found[1]) * UNITS[found[2]]


def replaying(file: Path, *, pause: int) -> str:
    """A script that sends the HTTP requests of a file, hex and one a line, in turn; each
    connection pauses so many milliseconds before each."""
    delay = f"delay = function() return {pause} end" if pause else ""
    return f"""
local requests = {{}}
for line in io.lines("{file}") do
  requests[#requests + 1] = line:gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end)
end
local n = 0
request = function()
  n = n % #requests + 1
  return requests[n]
end
{delay}
"""


def median(base: str, paths: Sequence[str], *, key: str) -> float:
    """Milliseconds of a GET on one connection that stays open, through the paths in turn."""
    told = _run(_gets(paths, key), "-t1", "-c1", "-d2s", "--latency", base)
    return _percentile(told, 50)


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
