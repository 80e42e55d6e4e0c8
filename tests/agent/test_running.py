"""Whole agents between a control plane and a TLS server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certctl.agent import client_certificate
from certctl.agent.state import State
from certctl.connectors.served import served_fingerprint
from tests.agent.conftest import QUICK, eventually
from tests.agent.plane import AGENT, CREDENTIAL, csr_job, deployment
from tests.connectors.kit import a_bundle, fingerprint, spki


def served(host) -> str:
    return served_fingerprint("127.0.0.1", host.server.port, server_name=None, timeout=5)


def leaf_of(plane, certificate_id: str = "mc-1") -> x509.Certificate:
    return x509.load_pem_x509_certificate(plane.certificates[certificate_id].encode())


async def test_from_an_enrolment_token_to_a_served_certificate(host, plane, start):
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    leaf = leaf_of(plane)
    assert plane.reports("deploy-of-job-1") == [
        {
            "status": "Completed",
            "fingerprint_sha256": fingerprint(leaf),
            "rolled_back": False,
            "unchanged": False,
        }
    ]
    assert served(host) == fingerprint(leaf)
    [key] = host.key_files()
    assert key.name == "job-1.key"
    assert spki(load_pem_private_key(key.read_bytes(), None).public_key()) == spki(
        leaf.public_key()
    )
    assert (key.parent / "current.key").readlink().name == "job-1.key"
    assert host.server.key.read_bytes() == key.read_bytes()


async def test_no_private_key_is_ever_sent(host, plane, start):
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    assert "PRIVATE" not in str(plane.seen)


async def test_a_certificate_that_does_not_come_with_the_job_is_picked_up(host, plane, start):
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: "mc-1" in plane.certificates)
    job = deployment("mc-1", plane.certificates["mc-1"], host.target)
    plane.offer(**{**job, "certificate_pem": None})
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    assert served(host) == fingerprint(leaf_of(plane))


async def test_a_deployment_done_twice_is_unchanged_the_second_time(host, plane, start):
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    plane.offer(**deployment("mc-1", plane.certificates["mc-1"], host.target, "again"))
    await eventually(lambda: plane.reports("again"))
    assert not plane.reports("deploy-of-job-1")[0]["unchanged"]
    assert plane.reports("again")[0]["unchanged"]


async def test_a_renewal_keeps_the_live_key_until_the_new_one_is_in_service(
    host, plane, start, gate
):
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    host.reload_command = gate.command
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-2"))
    await eventually(gate.is_waited_at)
    link = host.key_files()[0].parent / "current.key"
    assert [path.name for path in host.key_files()] == ["job-1.key", "job-2.key"]
    assert link.readlink().name == "job-1.key"
    gate.open()
    await eventually(lambda: plane.reports("deploy-of-job-2"))
    assert link.readlink().name == "job-2.key"


async def test_a_failed_deployment_is_reported_with_its_reason_and_rolled_back(host, plane, start):
    before = served(host)
    host.validate_command = "ls /absent-folder"
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    [report] = plane.reports("deploy-of-job-1")
    assert report["status"] == "Failed"
    assert report["rolled_back"]
    assert "/absent-folder" in report["error"]
    assert served(host) == before
    assert not (host.key_files()[0].parent / "current.key").exists()


async def test_jobs_that_cannot_be_done_fail_with_a_reason(host, plane, start):
    foreign = a_bundle(plane.ca, "site.example.test")
    pem = foreign.leaf_pem + foreign.chain_pem
    good = deployment("mc-1", pem, host.target)
    jobs = {
        "no-key": {},
        "no-target": {"target_type": None},
        "unknown-target": {"target_type": "Gopher"},
        "bad-config": {"target_config": {**host.target, "reload_command": "a; b"}},
        "other-leaf": {"fingerprint_sha256": "ab" * 32},
        "garbage": {"certificate_pem": "no certificate"},
        "unknown-type": {"type": "Dance"},
    }
    plane.certificates["mc-1"] = pem
    start()
    await eventually(lambda: plane.calls("/work"))
    for job, changes in jobs.items():
        plane.offer(**{**good, "id": job, **changes})
    plane.offer(**csr_job("bad-algorithm", key_algorithm="DSA-1024"))
    plane.offer(**csr_job("bad-name", sans=["under_score.test"]))
    names = [*jobs, "bad-algorithm", "bad-name"]
    await eventually(lambda: all(plane.reports(job) for job in names))
    told = {job: plane.reports(job)[0]["error"] for job in names}
    assert all(plane.reports(job)[0]["status"] == "Failed" for job in names)
    assert "holds no key for certificate mc-1" in told["no-key"]
    assert "the job names" in told["other-leaf"]
    assert "no PEM certificate" in told["garbage"]
    assert "does not know jobs of type Dance" in told["unknown-type"]
    assert "DSA-1024" in told["bad-algorithm"]
    assert "under_score.test" in told["bad-name"]


async def test_target_problems_are_told_by_the_agent_that_holds_the_key(host, plane, start):
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: "mc-1" in plane.certificates)
    good = deployment("mc-1", plane.certificates["mc-1"], host.target)
    plane.offer(**{**good, "id": "a", "target_type": "Gopher"})
    plane.offer(**{**good, "id": "b", "target_config": {**host.target, "port": 0}})
    plane.offer(**{**good, "id": "c", "target_type": None})
    await eventually(lambda: all(plane.reports(job) for job in "abc"))
    assert "NGINX" in plane.reports("a")[0]["error"]
    assert plane.reports("b")[0]["error"].startswith("port: ")
    assert "names no target" in plane.reports("c")[0]["error"]


async def test_an_id_that_would_leave_its_path_is_not_acted_upon(host, plane, start):
    plane.offer(**csr_job("../../etc/passwd"))
    plane.offer(**csr_job("job-1", "../up"))
    plane.offer(**csr_job("job-2"))
    start()
    await eventually(lambda: plane.calls("/csr"))
    assert [seen.body["job_id"] for seen in plane.calls("/csr")] == ["job-2"]
    assert {path.name for path in (host.folder / "agent" / "keys").iterdir()} == {"mc-1"}


async def test_a_request_the_server_does_not_like_is_a_failed_job(host, plane, start):
    plane.refusals["csr"] = [400]
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: plane.reports("job-1"))
    assert plane.reports("job-1")[0]["error"] == "the server answered 400: scripted"


async def test_a_lost_request_is_sent_again_with_the_same_key(host, plane, start):
    plane.refusals["csr"] = [503, 0, 429]
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: len(plane.calls("/csr")) == 4)
    requests = [x509.load_pem_x509_csr(c.body["csr_pem"].encode()) for c in plane.calls("/csr")]
    assert len({spki(request.public_key()) for request in requests}) == 1


async def test_a_report_that_is_lost_is_sent_until_it_arrives(host, plane, start):
    """The answer to the second one is lost, so the server hears of it twice."""
    plane.refusals["status"] = [503, 0, 429]
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: len(plane.reports("deploy-of-job-1")) == 4)
    assert len({str(report) for report in plane.reports("deploy-of-job-1")}) == 1


@pytest.mark.parametrize("status", [404, 409])
async def test_a_report_the_server_does_not_want_is_dropped(host, plane, start, status):
    plane.refusals["status"] = [status]
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    task = start()
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    polls = len(plane.calls("/work"))
    await eventually(lambda: len(plane.calls("/work")) > polls + 1)
    assert len(plane.reports("deploy-of-job-1")) == 1
    assert not task.done()


async def test_a_server_that_was_away_hears_of_the_outcome(host, plane, start, gate):
    host.reload_command = gate.command
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(gate.is_waited_at)
    await asyncio.to_thread(plane.stop)
    gate.open()
    await eventually(lambda: (host.folder / "agent/keys/mc-1/current.key").exists())
    plane.start()
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    beats = len(plane.calls("/heartbeat"))
    await eventually(lambda: len(plane.calls("/heartbeat")) > beats)


async def test_a_slow_deployment_does_not_delay_the_heartbeat(host, plane, start, gate):
    host.reload_command = gate.command
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(gate.is_waited_at)
    beats = len(plane.calls("/heartbeat"))
    await eventually(lambda: len(plane.calls("/heartbeat")) > beats + 3)
    assert plane.reports("deploy-of-job-1") == []
    gate.open()
    await eventually(lambda: plane.reports("deploy-of-job-1"))


async def test_one_target_is_worked_on_by_one_job_at_a_time(host, plane, start, gate):
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: "mc-1" in plane.certificates)
    host.reload_command = gate.command
    for job in ("first", "second"):
        plane.offer(**deployment("mc-1", plane.certificates["mc-1"], host.target, job))
    await eventually(gate.is_waited_at)
    polls = len(plane.calls("/work"))
    await eventually(lambda: len(plane.calls("/work")) > polls)
    assert plane.reports("second") == []
    gate.open()
    await eventually(lambda: plane.reports("first") and plane.reports("second"))
    assert plane.reports("second")[0]["unchanged"]


async def test_four_targets_are_worked_on_at_once_and_no_more(host, plane, start, gate, tmp_path):
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(lambda: "mc-1" in plane.certificates)
    for number in range(5):
        config = {
            **host.target,
            "cert_path": str(tmp_path / f"{number}.pem"),
            "key_path": str(tmp_path / f"{number}.key"),
            "validate_command": f"touch {tmp_path}/begun-{number}",
            "reload_command": gate.command,
            "post_deploy_verify": {"enabled": False},
        }
        job = deployment("mc-1", plane.certificates["mc-1"], config, f"d{number}")
        plane.offer(**{**job, "target_id": f"t-{number}"})
    await eventually(lambda: len(list(tmp_path.glob("begun-*"))) == 4)
    beats = len(plane.calls("/heartbeat"))
    await eventually(lambda: len(plane.calls("/heartbeat")) > beats + 3)
    assert len(list(tmp_path.glob("begun-*"))) == 4
    while not all(plane.reports(f"d{number}") for number in range(5)):
        if gate.is_waited_at():
            gate.open()
        await asyncio.sleep(0.01)


async def test_a_job_that_is_offered_again_meanwhile_is_done_once(host, plane, start, gate):
    host.reload_command = gate.command
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    start()
    await eventually(gate.is_waited_at)
    plane.offer(**deployment("mc-1", plane.certificates["mc-1"], host.target))
    await eventually(lambda: not plane.work)
    polls = len(plane.calls("/work"))
    await eventually(lambda: len(plane.calls("/work")) > polls)
    gate.open()
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    polls = len(plane.calls("/work"))
    await eventually(lambda: len(plane.calls("/work")) > polls + 1)
    assert len(plane.reports("deploy-of-job-1")) == 1


@pytest.mark.parametrize("call", ["work", "heartbeat"])
async def test_a_retired_agent_ends(host, plane, start, call):
    plane.refusals[call] = [410]
    await asyncio.wait_for(start(), 15)
    assert len([seen for seen in plane.seen if seen.path.endswith("/enrol")]) == 1


async def test_a_retired_agent_lets_its_deployment_end(host, plane, start, gate):
    host.reload_command = gate.command
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    task = start()
    await eventually(gate.is_waited_at)
    plane.refusals["work"] = [410] * 3
    await eventually(lambda: len(plane.refusals["work"]) < 3)
    gate.open()
    await asyncio.wait_for(task, 15)
    assert served(host) == fingerprint(leaf_of(plane))


async def test_a_deployment_that_does_not_end_is_left_after_the_grace(host, plane, start, gate):
    host.reload_command = gate.command
    plane.deploy_to = host.target
    plane.offer(**csr_job("job-1"))
    quick = replace(QUICK, grace=0.1)
    task = start(pace=quick)
    await eventually(gate.is_waited_at)
    start.stop.set()
    await asyncio.wait_for(task, 10)
    assert plane.reports("deploy-of-job-1") == []
    gate.open()
    await eventually(lambda: (host.folder / "agent/keys/mc-1/current.key").exists())


async def test_a_refused_credential_is_not_the_end(host, plane, start):
    plane.refusals["work"] = [401, 403]
    start()
    await eventually(lambda: len(plane.calls("/work")) > 3)


async def test_the_heartbeat_tells_of_the_host(host, plane, start):
    start()
    await eventually(lambda: plane.calls("/heartbeat"))
    beat = plane.calls("/heartbeat")[0]
    assert beat.path == f"/api/v1/agents/{AGENT}/heartbeat"
    assert set(beat.body) == {"version", "hostname", "os", "architecture", "ip_address"}


async def test_an_old_credential_is_exchanged_and_the_new_one_kept_before_it_is_used(
    host, plane, start
):
    start()
    await eventually(lambda: plane.calls("/heartbeat"))
    plane.finds_it_old = True
    await eventually(lambda: plane.credentials == [f"{CREDENTIAL}-1"])
    stored = json.loads((host.settings().state_folder / "agent.json").read_text())
    assert stored["credential"] == f"{CREDENTIAL}-1"
    assert len(plane.calls("/credential")) == 1


async def test_a_new_credential_that_never_arrived_locks_nobody_out(host, plane, start):
    plane.refusals["credential"] = [0]
    start()
    await eventually(lambda: plane.calls("/heartbeat"))
    plane.finds_it_old = True
    plane.offer(**csr_job("job-1"))
    await eventually(lambda: "mc-1" in plane.certificates)
    assert plane.credentials[0] == CREDENTIAL


def proved(plane) -> list[tuple[bool, int | None]]:
    """For each call how it was proved who calls: by a credential or not, and which certificate."""
    shown = plane.client_certificates
    return [
        (seen.bearer is not None, shown.index(seen.certificate) if seen.certificate else None)
        for seen in list(plane.seen)
        if seen.path.startswith(f"/api/v1/agents/{AGENT}/")
    ]


async def test_an_agent_presents_a_certificate_instead_of_its_credential(host, plane, start):
    plane.deploy_to = host.target
    start(CERTCTL_AGENT_CLIENT_CERTIFICATE="true")
    await eventually(lambda: (False, 0) in proved(plane))
    plane.offer(**csr_job("job-1"))
    await eventually(lambda: plane.reports("deploy-of-job-1"))
    since = len(proved(plane))
    await eventually(lambda: len(proved(plane)) > since + 5)
    assert set(proved(plane)[since:]) == {(False, 0)}
    pair = host.settings().state_folder / "client.pem"
    assert pair.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in str(plane.seen)


async def test_a_certificate_is_replaced_when_two_thirds_of_its_life_are_over(host, plane, start):
    plane.client_life = timedelta(seconds=20)  # of which five minutes have gone before
    start(CERTCTL_AGENT_CLIENT_CERTIFICATE="true")
    await eventually(lambda: (False, 0) in proved(plane))
    plane.client_life = timedelta(days=30)
    await eventually(lambda: (False, 1) in proved(plane))
    assert len(plane.client_certificates) == 2


async def test_a_kept_certificate_serves_from_the_first_call_on(host, plane, start):
    first = start(CERTCTL_AGENT_CLIENT_CERTIFICATE="true")
    await eventually(lambda: (False, 0) in proved(plane))
    start.stop.set()
    await first
    start.stop.clear()
    plane.seen.clear()
    start(CERTCTL_AGENT_CLIENT_CERTIFICATE="true")
    await eventually(lambda: proved(plane))
    assert set(proved(plane)) == {(False, 0)}
    assert len(plane.client_certificates) == 1


async def test_a_certificate_that_is_over_gives_way_to_the_credential(host, plane, start):
    plane.client_life = timedelta(seconds=1)
    first = start(CERTCTL_AGENT_CLIENT_CERTIFICATE="true")
    await eventually(lambda: plane.client_certificates)
    start.stop.set()
    await first
    start.stop.clear()
    state = State(host.settings().state_folder)
    await eventually(lambda: client_certificate.usable(state) is None)
    plane.client_life = timedelta(days=30)
    made = len(plane.client_certificates)
    start(CERTCTL_AGENT_CLIENT_CERTIFICATE="true")
    await eventually(lambda: (False, made) in proved(plane))
