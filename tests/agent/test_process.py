"""The agent as a process: signals, exit codes, and death at the worst moment."""

from __future__ import annotations

import signal
import subprocess

import pytest
from cryptography import x509

from tests.agent.plane import CREDENTIAL, TOKEN, csr_job
from tests.connectors.kit import spki, until


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=20)
    return process.returncode, output


def test_a_retired_agent_exits_with_zero(host, plane):
    plane.refusals["work"] = [410]
    code, output = ended(host.process())
    assert code == 0, output
    assert "event=retired" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_is_told_to_stop_exits_with_zero(host, plane, number):
    process = host.process()
    until(lambda: plane.calls("/work"))
    process.send_signal(number)
    code, output = ended(process)
    assert code == 0, output


def test_a_bad_setting_is_named_and_exits_with_two(host):
    code, output = ended(host.process(CERTCTL_SERVER_URL="http://plain.example.test"))
    assert code == 2
    assert output.startswith("certctl agent: CERTCTL_SERVER_URL: ")
    assert "Traceback" not in output


def test_secrets_are_not_logged(host, plane):
    plane.offer(**csr_job("job-1"))
    process = host.process(CERTCTL_LOG_LEVEL="debug")
    until(lambda: plane.calls("/csr"))
    process.terminate()
    code, output = ended(process)
    assert code == 0
    assert "event=csr_submitted" in output
    assert CREDENTIAL not in output
    assert TOKEN not in output
    assert "PRIVATE KEY" not in output


def test_a_killed_agent_submits_the_same_key_after_its_restart(host, plane):
    plane.refusals["csr"] = [503] * 1000
    plane.offer(**csr_job("job-1"))
    first = host.process()
    until(lambda: plane.calls("/csr"))
    first.kill()
    ended(first)
    plane.refusals["csr"].clear()
    until(lambda: plane.pollers == 0)
    plane.offer(**csr_job("job-1"))
    host.process(CERTCTL_AGENT_ENROLMENT_TOKEN="")
    until(lambda: "mc-1" in plane.certificates)
    requests = [x509.load_pem_x509_csr(c.body["csr_pem"].encode()) for c in plane.calls("/csr")]
    assert len({spki(request.public_key()) for request in requests}) == 1
    assert len(plane.calls("/enrol")) == 1


def test_a_signal_lets_the_running_deployment_end_and_report(host, plane, gate):
    host.reload_command = gate.command
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    process = host.process()
    until(gate.is_waited_at)
    process.terminate()
    assert any("event=stopping" in line for line in process.stdout)
    gate.open()
    code, output = ended(process)
    assert code == 0, output
    assert [report["status"] for report in plane.reports("deploy-of-job-1")] == ["Completed"]


def test_what_a_killed_agent_left_half_done_is_undone_at_its_next_start(host, plane, gate):
    before = host.server.cert.read_text(), host.server.key.read_text()
    host.reload_command = gate.command
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    process = host.process()
    until(gate.is_waited_at)
    process.kill()
    ended(process)
    gate.open()
    assert host.server.cert.read_text() == plane.certificates["mc-1"]
    plane.seen.clear()
    again = host.process()
    until(lambda: plane.calls("/work"))
    assert (host.server.cert.read_text(), host.server.key.read_text()) == before
    again.terminate()
    code, output = ended(again)
    assert code == 0
    assert "event=interrupted_deployment_undone" in output
