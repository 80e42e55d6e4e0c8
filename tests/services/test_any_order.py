"""Certificates, jobs and approvals through random sequences, legal and not: what always holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from certctl.domain.access import Actor
from certctl.domain.errors import CertctlError
from certctl.domain.revocation import Reason
from certctl.pki.sealing import DataKey
from certctl.services import (
    approve,
    bulk,
    certificates,
    issue,
    jobs,
    plain,
    renew,
    retry,
    revoke,
    sweep,
)
from tests import kit
from tests.conftest import World, open_world
from tests.services.test_approvals import SECOND

# Each finds what must never be.
NEVER = {
    "an open job of a certificate that has ended": """
        SELECT j.id FROM jobs j JOIN managed_certificates c ON c.id = j.certificate_id
        WHERE c.status IN ('Revoked', 'Archived')
          AND j.status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running')""",
    "a live version of a revoked certificate": """
        SELECT v.id FROM certificate_versions v JOIN managed_certificates c
            ON c.id = v.certificate_id WHERE v.live AND c.status = 'Revoked'""",
    "a renewal in progress without a job": """
        SELECT c.id FROM managed_certificates c WHERE c.status = 'RenewalInProgress'
          AND NOT EXISTS (SELECT FROM jobs j WHERE j.certificate_id = c.id
              AND j.type IN ('Issuance', 'Renewal')
              AND j.status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running'))""",
    "an active certificate without a version": """
        SELECT c.id FROM managed_certificates c WHERE c.status IN ('Active', 'Expiring')
          AND NOT EXISTS (SELECT FROM certificate_versions v
              WHERE v.certificate_id = c.id AND v.live)""",
    "an expiry without a version": """
        SELECT c.id FROM managed_certificates c WHERE c.expires_at IS NOT NULL
          AND NOT EXISTS (SELECT FROM certificate_versions v WHERE v.certificate_id = c.id)""",
    "a job that waits for an approval which is decided": """
        SELECT j.id FROM jobs j LEFT JOIN approvals a ON a.id = j.approval_id
        WHERE j.status = 'AwaitingApproval' AND a.state IS DISTINCT FROM 'pending'""",
    "a pending approval for which nothing waits": """
        SELECT a.id FROM approvals a WHERE a.state = 'pending' AND NOT EXISTS (
            SELECT FROM jobs j WHERE j.approval_id = a.id AND j.status = 'AwaitingApproval')""",
    "a guarded version without the approval of a second person": """
        SELECT j.id FROM jobs j JOIN managed_certificates c ON c.id = j.certificate_id
        JOIN certificate_versions v ON v.id = j.version_id
        LEFT JOIN approvals a ON a.id = j.approval_id
        WHERE c.certificate_profile_id = 'guarded' AND j.type IN ('Issuance', 'Renewal')
          AND NOT (a.state = 'approved' AND a.decided_by <> a.requested_by
                   AND a.sans @> v.sans AND a.sans <@ v.sans)""",
    "a version that no audit record tells of": """
        SELECT v.id FROM certificate_versions v WHERE NOT EXISTS (
            SELECT FROM audit_events e WHERE e.action = 'certificate_issued'
              AND e.details->>'fingerprint_sha256' = v.fingerprint_sha256)""",
    "a job with more attempts than it may have": """
        SELECT id FROM jobs WHERE attempts > max_attempts""",
    "an ended job with a lease": """
        SELECT id FROM jobs WHERE status IN ('Completed', 'Failed', 'Cancelled')
          AND (completed_at IS NULL OR sealed_key IS NOT NULL)""",
}
# The walk has been everywhere that matters.
REACHED = """
    SELECT DISTINCT state AS what FROM approvals UNION SELECT DISTINCT status FROM jobs
    UNION SELECT DISTINCT status FROM managed_certificates
    UNION SELECT 'version' FROM certificate_versions"""
PICK = st.integers(0, 5)


class AnyOrder(RuleBasedStateMachine):
    """What operators, a second person, an agent and time do to a handful of certificates."""

    loop: asyncio.AbstractEventLoop
    world: World
    agent: Actor
    target: str
    started = 0

    def do(self, call: Awaitable[Any]) -> Any:
        """What is refused changes nothing that the invariants would not see."""

        async def tried() -> Any:
            try:
                return await call
            except CertctlError:
                return None

        return self.loop.run_until_complete(tried())

    def one(self, query: str, pick: int) -> Any:
        found = self.do(kit.rows(self.world, f"{query} ORDER BY id LIMIT 6"))
        return found[pick % len(found)]["id"] if found else None

    def certificate(self, pick: int) -> Any:
        return self.one(
            f"SELECT id FROM managed_certificates WHERE name LIKE 'run {self.started} %%'", pick
        )

    @initialize()
    def begin(self) -> None:
        type(self).started += 1
        self.count = 0

    @rule(guarded=st.booleans(), with_csr=st.booleans())
    def order(self, guarded: bool, with_csr: bool) -> None:
        self.count += 1
        changes: dict[str, Any] = {"name": f"run {self.started} {self.count}"}
        if guarded:
            changes["certificate_profile_id"] = "guarded"
        if with_csr:
            changes["csr_pem"] = kit.a_csr("a.example.test")
        else:
            changes["target_ids"] = [self.target]
        self.do(kit.order(self.world, **changes))

    @rule(pick=PICK, force=st.booleans())
    def renewed(self, pick: int, force: bool) -> None:
        self.do(
            renew.renew(self.world.platform, kit.ADMIN, self.certificate(pick) or "", force=force)
        )

    @rule(pick=PICK, number=st.integers(0, 2))
    def renamed(self, pick: int, number: int) -> None:
        changes = {"sans": [f"n{number}.example.test"]}
        self.do(
            certificates.update(
                self.world.platform, kit.ADMIN, self.certificate(pick) or "", changes=changes
            )
        )

    @rule(pick=PICK)
    def revoked(self, pick: int) -> None:
        self.do(
            revoke.one(
                self.world.platform,
                kit.ADMIN,
                self.certificate(pick) or "",
                reason=Reason.SUPERSEDED,
            )
        )

    @rule(pick=PICK)
    def archived(self, pick: int) -> None:
        self.do(certificates.archive(self.world.platform, kit.ADMIN, self.certificate(pick) or ""))

    @rule(pick=PICK, again=st.booleans())
    def cancelled_or_retried(self, pick: int, again: bool) -> None:
        act = retry.retry if again else jobs.cancel
        job_id = self.one(
            "SELECT id FROM jobs WHERE completed_at IS NULL OR status = 'Failed'", pick
        )
        self.do(act(self.world.platform, kit.ADMIN, job_id or ""))

    @rule(pick=PICK, who=st.sampled_from([kit.ADMIN, SECOND]), agrees=st.booleans())
    def decided(self, pick: int, who: Actor, agrees: bool) -> None:
        act = approve.approve if agrees else approve.reject
        approval_id = self.one("SELECT id FROM approvals", pick)
        self.do(act(self.world.platform, who, approval_id or "", note=None))

    @rule(fails=st.booleans())
    def the_agent_works(self, fails: bool) -> None:
        for item in self.do(kit.offered(self.world, self.agent)) or []:
            if fails:
                self.do(kit.report(self.world, self.agent, item.id, status="Failed", error="no"))
            elif item.status == "AwaitingCSR":
                self.do(kit.send_csr(self.world, self.agent, item))
            else:
                self.do(kit.deployed(self.world, self.agent, item))

    @rule()
    def the_server_works(self) -> None:
        for row in self.do(kit.rows(self.world, "SELECT id FROM jobs WHERE status = 'Pending'")):
            self.do(issue.run(self.world.platform, row["id"]))

    @rule()
    def all_goes_well(self) -> None:
        self.the_agent_works(fails=False)
        self.the_server_works()
        self.the_agent_works(fails=False)

    @rule()
    def leases_end(self) -> None:
        self.do(
            kit.change(
                self.world,
                "UPDATE jobs SET leased_until = now() - interval '1 s' "
                "WHERE leased_until IS NOT NULL",
            )
        )
        self.do(sweep.sweep(self.world.platform))

    @rule(hours=st.sampled_from([1, 25, 200]))
    def time_passes(self, hours: int) -> None:
        for table in ("jobs", "approvals"):
            self.do(
                kit.change(
                    self.world,
                    f"UPDATE {table} SET created_at = created_at - make_interval(hours => %(h)s)",
                    h=hours,
                )
            )
        self.do(kit.change(self.world, "UPDATE managed_certificates SET retry_at = NULL"))
        self.do(sweep.sweep(self.world.platform))
        self.do(renew.find_due(self.world.platform))

    @rule(kind=st.sampled_from(["renew", "revoke"]))
    def many(self, kind: str) -> None:
        ids = [each for each in (self.certificate(0), self.certificate(1)) if each]
        self.do(
            bulk.start(
                self.world.platform,
                kit.ADMIN,
                kind,
                filters={"certificate_ids": ids},
                parameters={"reason": "superseded"},
                dry_run=False,
            )
        )

    @invariant()
    def nothing_is_that_must_never_be(self) -> None:
        found = {what: self.do(kit.rows(self.world, query)) for what, query in NEVER.items()}
        assert {what: rows for what, rows in found.items() if rows} == {}


@pytest.fixture
def machine(database: str, ready_template: tuple[str, DataKey]) -> Iterator[type[AnyOrder]]:
    """The machine on a database of its own, with an agent, a target and a guarded profile."""
    loop = asyncio.new_event_loop()
    opened = open_world(database, ready_template[1])
    world = loop.run_until_complete(anext(opened))

    async def prepared() -> tuple[Actor, str]:
        agent = await kit.an_agent(world)
        guarded = {"id": "guarded", "name": "guarded", "requires_approval": True}
        await plain.create(world.platform, kit.ADMIN, plain.PROFILES, values=guarded)
        return agent, await kit.a_target(world, agent)

    agent, target = loop.run_until_complete(prepared())
    yield type(
        "Prepared", (AnyOrder,), {"loop": loop, "world": world, "agent": agent, "target": target}
    )
    loop.run_until_complete(opened.aclose())
    loop.close()


def test_no_order_of_events_breaks_what_always_holds(machine: type[AnyOrder]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    reached = machine.loop.run_until_complete(kit.rows(machine.world, REACHED))
    assert {row["what"] for row in reached} >= {
        "version", "approved", "rejected", "expired", "Revoked", "Archived", "Completed", "Failed",
        "Cancelled",
    }  # fmt: skip
