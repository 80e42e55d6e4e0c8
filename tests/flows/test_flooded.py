"""A caller without manners costs itself, and nobody else: floods and slow clients from one
address, on a real server, while another address is served as ever."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from certctl.store.embedded import recorded_conninfo
from tests.flows.system import System, running, until

pytestmark = pytest.mark.timeout(180)
RATE, BURST, OCSP_A_MINUTE = 20, 40, 60
REQUESTS, SECONDS = 4000, 15
SLOW = 50
OCSP = "/.well-known/pki/ocsp/iss-local/1"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    settings = {
        "CERTCTL_RATE_LIMIT_ENABLED": "true",
        "CERTCTL_RATE_LIMIT_RPS": str(RATE),
        "CERTCTL_RATE_LIMIT_BURST": str(BURST),
        "CERTCTL_RATE_LIMIT_PER_USER_RPS": "1000",
        "CERTCTL_RATE_LIMIT_PER_USER_BURST": "1000",
        "CERTCTL_OCSP_RATE_LIMIT_PER_IP_MIN": str(OCSP_A_MINUTE),
        "CERTCTL_MAX_CONNECTIONS_PER_ADDRESS": str(SLOW),
    }
    folder = tmp_path_factory.mktemp("flooded")
    with running(folder, nginx=False, agent=False, **settings) as started:
        yield started


def usual(system: System, requests: int = 40) -> float:
    """The median time, in seconds, that a request by the administrator takes now."""
    key = (system.data / "admin.key").read_text().strip()
    with httpx.Client(
        base_url=f"https://127.0.0.1:{system.https}/api/v1",
        headers={"Authorization": f"Bearer {key}"},
        verify=False,
        timeout=20,
    ) as client:
        times = []
        for _ in range(requests):
            begin = time.monotonic()
            assert client.get("/teams").status_code == 200
            times.append(time.monotonic() - begin)
    return statistics.median(times)


@pytest.mark.parametrize(
    ("face", "refill"), [("api", RATE), ("ocsp", OCSP_A_MINUTE / 60)], ids=["api", "ocsp"]
)
def test_a_flood_from_one_address_is_refused_and_another_is_served_as_ever(
    system: System, face: str, refill: float
) -> None:
    usual(system)  # warm
    before = usual(system)
    url = {
        "api": f"https://127.0.0.1:{system.https}/api/v1/teams",
        "ocsp": f"http://127.0.0.1:{system.http}{OCSP}",
    }[face]
    begin = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.flows.flooding", "127.0.0.2", url, str(REQUESTS),
         str(SECONDS)],
        stdout=subprocess.PIPE, text=True,
    ) as flooding:  # fmt: skip
        assert flooding.stdout is not None
        assert flooding.stdout.readline() == "started\n"
        during = []
        while flooding.poll() is None:
            during.append(usual(system, 10))
        counted = json.loads(flooding.stdout.read())
    took = time.monotonic() - begin
    burst = BURST if face == "api" else OCSP_A_MINUTE
    refused, granted = counted.pop("429"), sum(counted.values())
    assert set(counted) <= {"401", "200"}
    assert granted <= burst + refill * took + 1
    assert refused > granted
    assert statistics.median(during) < 10 * before + 0.05
    other = httpx.get(f"http://127.0.0.1:{system.http}{OCSP}", timeout=10)
    assert other.status_code == 200


class SlowOne:
    """Begins a request and sends a header every while, never the last."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(
            ("127.0.0.1", port), 10, source_address=("127.0.0.3", 0)
        )
        self.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")

    def drip(self) -> bool:
        """Whether the server still wants to hear."""
        try:
            self.sock.sendall(b"X: 1\r\n")
            self.sock.settimeout(0.001)
            self.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        except OSError:
            return False
        return False  # an answer, or the end


def all_let_go(slow: list[SlowOne]) -> bool:
    """Every one drips, whatever the others were told."""
    return True not in [each.drip() for each in slow]


def test_slow_clients_are_let_go_and_others_are_served_meanwhile(system: System) -> None:
    slow = [SlowOne(system.http) for _ in range(SLOW)]
    with socket.create_connection(
        ("127.0.0.1", system.http), 10, source_address=("127.0.0.3", 0)
    ) as refused:
        assert refused.recv(1) == b""  # the address has all its connections
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(
            until, "slow clients to be let go", lambda: all_let_go(slow),
            seconds=15,
        )  # fmt: skip
        served = 0
        while not ending.done():
            answer = httpx.get(f"http://127.0.0.1:{system.http}/.well-known/pki/crl/iss-local")
            assert answer.status_code in {200, 429}
            served += answer.status_code == 200
        ending.result()
    for each in slow:
        each.sock.close()
    assert served > 0


def test_a_server_counts_itself_among_those_that_share_the_budgets(system: System) -> None:
    with psycopg.connect(recorded_conninfo(system.data), autocommit=True) as connection:
        found = connection.execute("SELECT kind FROM replicas").fetchall()
    assert sorted(found) == [("plane",), ("serve",)]
