"""`kill -9` of the server at each step of an issuance: one known version is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.judges import relying_party
from tests.flows.killed_server import STEPS
from tests.flows.system import System, until
from tests.kit import a_csr

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One data directory that lives through every kill."""
    system = System(tmp_path_factory.mktemp("killed"), {"CERTCTL_JOB_LEASE": "1s"})
    try:
        system.start_server()
        yield system
    finally:
        system.stop()
        system.remove()


@pytest.mark.parametrize("step", STEPS)
def test_a_server_killed_at_any_step_leaves_one_known_version(system: System, step: str) -> None:
    slug = step.replace(" ", "-")
    assert system.server is not None
    system.stop()
    system.start_server("tests.flows.killed_server", KILL_AT=step)
    certificate_id = system.order(
        slug, sans=[], common_name=f"{slug}.test", csr_pem=a_csr(f"{slug}.test")
    )

    assert system.server.wait(60) == -9, system.log("server")
    system.start_server()

    until("the issuance to end", lambda: system.live_serial(certificate_id))
    versions = system.versions(certificate_id)
    assert [v["live"] for v in versions] == [True]
    assert {j["status"] for j in system.jobs(certificate_id)} == {"Completed"}
    assert system.certificate(certificate_id)["status"] == "Active"
    assert relying_party(system, versions[0]).ocsp() == "good"
    assert unknown_signatures(system) == []


def unknown_signatures(system: System) -> list[str]:
    """Serials that the CA meant to sign for a job that has ended, and never settled."""
    import psycopg

    from certctl.store.embedded import recorded_conninfo

    with psycopg.connect(recorded_conninfo(Path(system.data))) as connection:
        rows = connection.execute(
            """SELECT i.serial_number FROM issuances i LEFT JOIN jobs j ON j.id = i.job_id
               WHERE i.purpose = 'leaf' AND (i.state = 'intended'
                  OR (i.state = 'issued' AND NOT EXISTS (SELECT FROM certificate_versions v
                      WHERE v.serial_number = i.serial_number)))"""
        ).fetchall()
    return [row[0] for row in rows]
