"""`kill -9` of the agent, the server and PostgreSQL while a certificate is renewed and deployed:
afterwards exactly one live version, served, known."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.flows import killed_agent, killed_server
from tests.flows.system import NO_PLANE, System, running, until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("killed-agent")
    with running(folder, CERTCTL_JOB_LEASE="2s", **NO_PLANE) as started:
        yield started


@pytest.fixture(scope="module")
def certificate_id(system: System) -> str:
    certificate_id = system.order(target_ids=[system.target()])
    until("the first certificate", lambda: system.served_is_live(certificate_id))
    return certificate_id


def renewed(system: System, certificate_id: str, before: str | None) -> None:
    """Wait for one live version other than `before`, served, with nothing left to do."""
    until(
        "the new version to be served",
        lambda: (
            system.live_serial(certificate_id) != before and system.served_is_live(certificate_id)
        ),
    )
    assert [v["live"] for v in system.versions(certificate_id)].count(True) == 1
    assert system.certificate(certificate_id)["status"] == "Active"


@pytest.mark.parametrize("step", killed_agent.STEPS)
def test_an_agent_killed_at_any_step_still_brings_the_version_into_service(
    system: System, certificate_id: str, step: str
) -> None:
    before = system.live_serial(certificate_id)
    system.stop_agent()
    system.start_agent("tests.flows.killed_agent", KILL_AT=step)
    system.call("POST", f"/certificates/{certificate_id}/renew")
    assert system.agent is not None
    assert system.agent.wait(60) == -signal.SIGKILL, system.log("agent")
    assert system.nginx.served_serial() is not None  # something is served all the time

    system.start_agent()

    renewed(system, certificate_id, before)


@pytest.mark.parametrize("step", killed_server.AGENT_STEPS)
def test_a_server_killed_while_an_agent_works_goes_on_where_it_was(
    system: System, certificate_id: str, step: str
) -> None:
    before = system.live_serial(certificate_id)
    system.stop_server()
    system.start_server("tests.flows.killed_server", KILL_AT=step)
    system.call("POST", f"/certificates/{certificate_id}/renew")
    assert system.server is not None
    assert system.server.wait(60) == -signal.SIGKILL, system.log("server")

    system.start_server()

    renewed(system, certificate_id, before)


def test_postgresql_killed_during_a_renewal_comes_back_and_the_renewal_ends(
    system: System, certificate_id: str
) -> None:
    before = system.live_serial(certificate_id)
    system.call("POST", f"/certificates/{certificate_id}/renew")
    os.kill(system.postmaster(), signal.SIGKILL)
    until("the server to be ready again", system.is_ready)
    renewed(system, certificate_id, before)
