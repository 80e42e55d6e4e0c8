"""Must-staple rolled out as the page for operators says, on four real servers, then revoked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from certctl.pki.x509 import ders_of_pem, facts
from tests.flows.judges import run
from tests.flows.stapled import NAME, Stapled
from tests.flows.stapled import running as servers_running
from tests.flows.system import System, running, until
from tests.tools import need

pytestmark = pytest.mark.timeout(240)
Servers = dict[str, Stapled]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with servers_running(tmp_path_factory.mktemp("servers")) as started:
        yield started


@pytest.fixture(scope="module")
def system(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("stapling"), nginx=False) as started:
        yield started


@pytest.fixture(scope="module")
def certificate_id(system: System, servers: Servers) -> str:
    """A certificate without must-staple, deployed to all four."""
    agent = until("the agent", lambda: system.call("GET", "/agents")["data"])[0]["id"]
    (servers["nginx-fetching"].folder / "root.pem").write_bytes(
        (system.data / "ca.pem").read_bytes()
    )
    targets = [
        system.call(
            "POST",
            "/targets",
            {"name": name, "type": each.kind, "agent_id": agent, "config": each.target()},
        )["id"]
        for name, each in servers.items()
    ]
    made = system.order("stapled", sans=[NAME], target_ids=targets)
    until("all deployments", lambda: deployments(system, made) == {"Completed"} and settled(system))
    return made


def deployments(system: System, certificate_id: str) -> set[str]:
    return {job["status"] for job in system.jobs(certificate_id, type="Deployment")}


def settled(system: System) -> bool:
    waiting = ("Pending", "AwaitingCSR", "Running")
    return not [job for job in system.call("GET", "/jobs")["data"] if job["status"] in waiting]


def refuses(server: Stapled, system: System) -> bool:
    """Whether GnuTLS, which enforces must-staple, refuses the server."""
    done = subprocess.run(
        [need("gnutls-cli"), "--x509cafile", system.data / "ca.pem", "--port", str(server.port),
         "--sni-hostname", NAME, "--verify-hostname", NAME, "127.0.0.1"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return done.returncode != 0


def test_staples_are_served_before_anything_is_promised(
    system: System, servers: Servers, certificate_id: str
) -> None:
    fed = servers["nginx-fed"]
    assert (fed.folder / "site.ocsp").exists()
    fed.write()
    run(*fed.validate.split())
    fed.reload()
    for each in servers.values():
        each.comes_to_show("good")


def test_a_must_staple_certificate_has_its_staple_from_the_first_handshake(
    system: System, servers: Servers, certificate_id: str
) -> None:
    profile = system.call("POST", "/profiles", {"name": "web-must-staple", "must_staple": True})
    system.call("PUT", f"/certificates/{certificate_id}", {"certificate_profile_id": profile["id"]})
    before = system.live_serial(certificate_id)
    system.call("POST", f"/certificates/{certificate_id}/renew")
    until(
        "the must-staple certificate to be deployed",
        lambda: system.live_serial(certificate_id) != before and settled(system),
    )
    newest = system.versions(certificate_id)[0]
    assert facts(ders_of_pem(newest["pem_chain"])[0]).must_staple
    for each in servers.values():
        each.comes_to_show("good")
        run(need("curl"), "-sS", "--cert-status", "--cacert", system.data / "ca.pem", "--resolve",
            f"{NAME}:{each.port}:127.0.0.1", "-o", "/dev/null",
            f"https://{NAME}:{each.port}/")  # fmt: skip
        assert not refuses(each, system)


def test_the_last_good_staple_is_served_while_the_responder_is_away(
    system: System, servers: Servers, certificate_id: str
) -> None:
    system.stop_server()
    system.stop_agent()
    system.start_agent()
    until(
        "the agent to miss the responder",
        lambda: system.log("agent").count("event=staple_not_refreshed") >= 2,
    )
    for name in ("nginx-fed", "haproxy"):
        servers[name].reload()
        servers[name].comes_to_show("good")
        assert not refuses(servers[name], system)
    system.start_server()


def test_a_revocation_is_stapled_and_clients_refuse(
    system: System, servers: Servers, certificate_id: str
) -> None:
    system.call("POST", f"/certificates/{certificate_id}/revoke", {"reason": "superseded"})
    system.stop_agent()
    system.start_agent()  # it catches up at once with what it missed
    servers["nginx-fed"].comes_to_show("revoked")
    servers["haproxy"].comes_to_show("revoked")
    servers["apache"].reload()
    servers["apache"].comes_to_show("revoked")
    # What NGINX fetches itself and is not good, it does not staple.
    servers["nginx-fetching"].reload()
    servers["nginx-fetching"].comes_to_show("none")
    for each in servers.values():  # a worker of before a reload may take one connection more
        until(f"{each.name} to be refused", lambda each=each: refuses(each, system), seconds=30)
    assert "status=revoked" in system.log("agent")
