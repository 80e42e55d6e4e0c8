"""A certificate's whole life through every layer, with NGINX and OpenSSL as witnesses."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest

from certctl.pki.lint import pkilint_findings
from certctl.pki.x509 import ders_of_pem
from tests.flows.judges import relying_party, run
from tests.flows.system import System, running, until
from tests.tools import need

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("life")) as started:
        yield started


@pytest.fixture(scope="module")
def target_id(system: System) -> str:
    return system.target()


@pytest.fixture
def served(system: System, target_id: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A certificate of this test that NGINX serves; its id."""
    certificate_id = system.order(request.node.name, target_ids=[target_id])
    until("the certificate to be served", lambda: system.served_is_live(certificate_id))
    yield certificate_id
    system.call("DELETE", f"/certificates/{certificate_id}")


def test_an_ordered_certificate_is_served_with_its_chain(system: System, served: str) -> None:
    shown = run(
        need("openssl"), "s_client", "-connect", f"127.0.0.1:{system.nginx.port}",
        "-servername", "demo.certctl.test", "-CAfile", system.data / "ca.pem",
        "-verify_hostname", "demo.certctl.test", "-verify_return_error",
    )  # fmt: skip
    assert "Verify return code: 0 (ok)" in shown
    assert shown.count(" s:") == 2  # the leaf and its issuer


def test_the_private_key_stays_on_the_host_and_belongs_to_its_owner(
    system: System, served: str
) -> None:
    keys = list((system.folder / "agent" / "keys" / served).glob("job-*.key"))
    assert len(keys) == 1
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    secret = keys[0].read_text().splitlines()[1]
    assert secret not in system.call("GET", f"/certificates/{served}/versions").__repr__()


def test_a_renewal_brings_a_new_key_and_a_new_certificate(system: System, served: str) -> None:
    before = system.versions(served)[0]
    system.call("POST", f"/certificates/{served}/renew")
    until(
        "the renewal to be served",
        lambda: (
            system.live_serial(served) != before["serial_number"] and system.served_is_live(served)
        ),
    )
    newest, older = system.versions(served)
    assert [newest["live"], older["live"]] == [True, False]
    keys = {run(need("openssl"), "x509", "-noout", "-pubkey", stdin=v["pem_chain"].encode())
            for v in (newest, older)}  # fmt: skip
    assert len(keys) == 2


def test_a_standard_client_is_told_revoked_from_the_answer_on(system: System, served: str) -> None:
    party = relying_party(system, system.versions(served)[0])
    assert (party.ocsp(), party.ocsp_by_get(), party.ocsp_by_gnutls()) == ("good",) * 3
    party.verify(ok=True)

    system.call("POST", f"/certificates/{served}/revoke", {"reason": "superseded"})

    assert (party.ocsp(), party.ocsp_by_get(), party.ocsp_by_gnutls()) == ("revoked",) * 3
    assert "certificate revoked" in party.refused()


def test_the_established_form_of_a_get_tells_the_same(system: System, served: str) -> None:
    version = system.versions(served)[0]
    party = relying_party(system, version)
    response = party.folder / "by-serial.der"
    url = party.pki(f"ocsp/iss-local/{version['serial_number'].upper().zfill(40)}")
    run(need("curl"), "-sf", "-o", response, url)
    assert ": good" in run(
        need("openssl"), "ocsp", "-issuer", party.issuer, "-cert", party.leaf, "-no_nonce",
        "-respin", response, "-CAfile", party.root,
    )  # fmt: skip


def test_pkilint_finds_nothing_in_what_was_issued(system: System, served: str) -> None:
    chain = ders_of_pem(system.versions(served)[0]["pem_chain"])
    chain += ders_of_pem((system.data / "ca.pem").read_text())
    assert [pkilint_findings("certificate", der) for der in chain] == [[], [], []]


def test_a_broken_configuration_is_rolled_back_and_said(system: System, served: str) -> None:
    serial = system.nginx.served_serial()
    config = system.nginx.folder / "nginx.conf"
    whole = config.read_text()
    config.write_text(whole.replace("return 200", "no_such_directive on; return 200"))
    try:
        system.call("POST", f"/certificates/{served}/renew")
        failed = until(
            "the deployment to fail",
            lambda: [j for j in system.jobs(served, type="Deployment") if j["last_error"]],
        )[0]
    finally:
        config.write_text(whole)
    assert "no_such_directive" in failed["last_error"]
    assert system.nginx.served_serial() == serial
    deployment = system.call("GET", f"/certificates/{served}/deployments")["data"][0]
    assert deployment["outcome"] == "rolled_back"
    # Mended, the next try brings the new version into service by itself.
    until("the new version to be served", lambda: system.served_is_live(served))
    assert system.nginx.served_serial() != serial


def test_deploying_again_what_is_served_changes_nothing(system: System, served: str) -> None:
    path = system.nginx.folder / "site.pem"
    before = path.stat()
    system.call("POST", f"/certificates/{served}/deploy", {})
    until("the job to end", lambda: system.served_is_live(served))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    deployment = system.call("GET", f"/certificates/{served}/deployments")["data"][0]
    assert deployment["outcome"] == "unchanged"


def test_every_change_left_its_audit_row(system: System, served: str) -> None:
    events = system.call("GET", f"/audit?resource_id={served}")["data"]
    assert {event["action"] for event in events} >= {
        "certificate_created",
        "issuance_triggered",
        "csr_submitted",
        "certificate_issued",
        "deployment_completed",
    }


def test_another_agents_credential_opens_nothing_of_this_agent(system: System, served: str) -> None:
    token = system.call("POST", "/agents/enrolment-tokens", {"ttl_seconds": 60})["token"]
    other = system.call("POST", "/agents/enrol", {"token": token, "name": "another"})
    own = system.call("GET", "/agents")["data"][0]["id"]
    job = system.jobs(served)[0]["id"]
    key = other["credential"]
    for method, path, body in (
        ("GET", f"/agents/{own}/work", None),
        ("POST", f"/agents/{own}/jobs/{job}/status", {"status": "Failed"}),
        ("GET", f"/agents/{own}/certificates/{served}", None),
        ("GET", "/certificates", None),
    ):
        answer = system.ask(method, path, body, key=key)
        assert answer.status_code == 403 or answer.json().get("total") == 0, (path, answer.text)
    mine = other["agent_id"]
    answer = system.ask("POST", f"/agents/{mine}/jobs/{job}/status", {"status": "Failed"}, key=key)
    assert answer.status_code in {403, 404}
    assert system.ask("GET", f"/agents/{mine}/certificates/{served}", key=key).status_code == 404
    system.call("DELETE", f"/agents/{mine}")
