"""Agents enrol once with a token, see what is their own, and retire for good."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from certctl import wire
from certctl.domain.access import Actor
from certctl.domain.errors import Conflict, Gone, Invalid, NotAllowed, NotFound, Unauthenticated
from certctl.pki import x509
from certctl.services import enrolment, fleet, plain
from certctl.services.access import Authenticator
from tests import kit
from tests.conftest import World


async def enrol(world: World, token: str, name: str = "web1") -> wire.Enrolled:
    return await enrolment.enrol(
        world.platform, wire.Enrolment(token=token, name=name), address=None, request_id="r"
    )


async def a_token(world: World, **how: Any) -> str:
    return str((await enrolment.make_token(world.platform, kit.ADMIN, **how))["token"])


async def test_an_enrolled_agent_gets_a_credential_and_the_ca_that_its_token_named(
    world: World,
) -> None:
    token = await a_token(world)
    enrolled = await enrol(world, token)
    (anchor,) = x509.ders_of_pem(enrolled.ca_pem)
    assert token.endswith(f".{x509.facts(anchor).fingerprint_sha256}")
    actor = await Authenticator(world.platform)(enrolled.credential)
    assert actor is not None
    assert actor.agent_id == enrolled.agent_id


async def test_a_token_is_good_without_the_fingerprint_that_it_carries(world: World) -> None:
    token = await a_token(world)
    assert (await enrol(world, token.rpartition(".")[0])).agent_id.startswith("ag-")


async def test_a_token_is_good_once(world: World) -> None:
    token = await a_token(world)
    await enrol(world, token)
    before = await kit.everything(world)
    with pytest.raises(Unauthenticated, match="unknown, used or expired"):
        await enrol(world, token, "web2")
    assert await kit.everything(world) == before


async def test_a_token_used_by_many_at_once_makes_one_agent(world: World) -> None:
    token = await a_token(world)
    outcomes = await asyncio.gather(
        *(enrol(world, token, f"web{number}") for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(each, wire.Enrolled) for each in outcomes) == 1
    assert sum(isinstance(each, Unauthenticated) for each in outcomes) == 4
    assert await kit.value(world, "SELECT count(*) FROM agents") == 1


async def test_an_expired_token_is_refused(world: World) -> None:
    token = await a_token(world, lifetime=timedelta(0))
    with pytest.raises(Unauthenticated):
        await enrol(world, token)


@pytest.mark.parametrize("token", ["", "certctl_enrol_guess", "." * 10, "x" * 512])
async def test_a_token_that_was_never_made_is_refused(world: World, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await enrol(world, token)


async def test_a_name_that_is_taken_leaves_the_token_unused(world: World) -> None:
    await kit.an_agent(world, "web1")
    token = await a_token(world)
    with pytest.raises(Conflict) as caught:
        await enrol(world, token, "web1")
    assert caught.value.field == "name"
    assert (await enrol(world, token, "web2")).agent_id


async def test_no_secret_of_an_agent_is_kept_as_text(world: World) -> None:
    token = await a_token(world)
    enrolled = await enrol(world, token)
    dump = str(
        await kit.rows(
            world,
            """SELECT a::text, encode(credential_hash, 'escape'), t::text,
                   encode(token_hash, 'escape'), (SELECT string_agg(e::text, ' ')
                   FROM audit_events e) FROM agents a, enrolment_tokens t""",
        )
    )
    assert enrolled.agent_id in dump
    for secret in (enrolled.credential, token.rpartition(".")[0]):
        assert secret not in dump


async def test_a_viewer_makes_no_token(world: World) -> None:
    with pytest.raises(NotAllowed):
        await enrolment.make_token(world.platform, kit.VIEWER)


async def test_an_enrolment_is_audited_as_the_agent_with_its_address(world: World) -> None:
    agent = await kit.an_agent(world)
    (event,) = await kit.rows(world, "SELECT * FROM audit_events WHERE action = 'agent_enrolled'")
    assert (event["actor"], event["address"]) == (agent.agent_id, "192.0.2.8")


ROUTES = {
    "work": lambda on, actor, of: fleet.work(
        on, actor, of, wait=0, session=None, has_left=kit.stays
    ),
    "heartbeat": lambda on, actor, of: fleet.heartbeat(on, actor, of, wire.Heartbeat()),
    "csr": lambda on, actor, of: fleet.submit_csr(
        on, actor, of, wire.CsrSubmission(csr_pem="", job_id="job-1")
    ),
    "certificate": lambda on, actor, of: fleet.certificate(on, actor, of, "mc-1"),
}


@pytest.mark.parametrize("route", ROUTES)
async def test_an_agents_routes_are_closed_to_everybody_else(world: World, route: str) -> None:
    agent, other = await kit.an_agent(world), await kit.an_agent(world, "web2")
    for stranger in (other, kit.ADMIN):
        with pytest.raises(NotAllowed, match="open to that agent only"):
            await ROUTES[route](world.platform, stranger, agent.agent_id or "")


@pytest.mark.parametrize("route", ROUTES)
async def test_a_retired_agent_is_told_to_stop_asking(world: World, route: str) -> None:
    agent = await kit.an_agent(world)
    await retire(world, agent)
    with pytest.raises(Gone):
        await ROUTES[route](world.platform, agent, agent.agent_id or "")


async def retire(world: World, agent: Actor, *, force: bool = False) -> dict[str, Any]:
    return await fleet.retire(
        world.platform,
        kit.ADMIN,
        agent.agent_id or "",
        force=force,
        reason="scrapped" if force else "",
    )


async def test_an_agent_that_is_in_use_is_not_retired_without_force(world: World) -> None:
    served = await kit.a_served_certificate(world)
    before = await kit.everything(world)
    with pytest.raises(Conflict, match="1 active targets, 1 active certificates"):
        await retire(world, served.agent)
    assert await kit.everything(world) == before


async def test_force_needs_a_reason(world: World) -> None:
    agent = await kit.an_agent(world)
    with pytest.raises(Invalid) as caught:
        await fleet.retire(world.platform, kit.ADMIN, agent.agent_id or "", force=True, reason="")
    assert caught.value.field == "reason"


async def test_a_forced_retirement_disables_targets_and_cancels_jobs(world: World) -> None:
    served = await kit.a_served_certificate(world)
    await kit.renew_now(world, served.id)
    answer = await retire(world, served.agent, force=True)
    assert answer["counts"] == {"active_targets": 1, "active_certificates": 1, "pending_jobs": 1}
    target = await plain.get(world.platform, kit.ADMIN, plain.TARGETS, served.target_id)
    assert not target["enabled"]
    job = (await kit.jobs_of(world, served.id))[-1]
    assert (job["status"], job["last_error"]) == ("Cancelled", "agent retired: scrapped")
    with pytest.raises(Conflict, match="bind a target or send csr_pem"):
        await kit.renew_now(world, served.id)


async def test_retiring_twice_is_retiring_once(world: World) -> None:
    agent = await kit.an_agent(world)
    first = await retire(world, agent)
    second = await retire(world, agent)
    assert (first["already_retired"], second["already_retired"]) == (False, True)
    assert second["retired_at"] == first["retired_at"]
    assert (await kit.actions(world)).count("agent_retired") == 1


async def test_a_retired_agent_gets_no_new_target(world: World) -> None:
    agent = await kit.an_agent(world)
    await retire(world, agent)
    with pytest.raises(Invalid) as caught:
        await kit.a_target(world, agent)
    assert caught.value.field == "agent_id"


async def test_a_heartbeat_tells_what_is_known_and_keeps_the_rest(world: World) -> None:
    agent = await kit.an_agent(world)
    agent_id = agent.agent_id or ""
    beat = wire.Heartbeat(version="1.2", hostname="web1.example.test", os="linux")
    await fleet.heartbeat(world.platform, agent, agent_id, beat)
    await fleet.heartbeat(world.platform, agent, agent_id, wire.Heartbeat(version="1.3"))
    row = await fleet.get(world.platform, kit.ADMIN, agent_id)
    assert (row["version"], row["hostname"], row["status"]) == (
        "1.3",
        "web1.example.test",
        "Online",
    )
    await kit.change(world, "UPDATE agents SET last_heartbeat_at = now() - interval '3 minutes'")
    assert (await fleet.get(world.platform, kit.ADMIN, agent_id))["status"] == "Offline"


async def test_an_agent_picks_up_the_live_version_that_it_holds_the_key_of(world: World) -> None:
    served = await kit.a_served_certificate(world)
    other = await kit.an_agent(world, "web2")
    picked = await fleet.certificate(
        world.platform, served.agent, served.agent.agent_id or "", served.id
    )
    (version,) = await kit.versions_of(world, served.id)
    assert picked.fingerprint_sha256 == version["fingerprint_sha256"]
    with pytest.raises(NotFound):
        await fleet.certificate(world.platform, other, other.agent_id or "", served.id)


async def test_a_csr_without_a_job_goes_to_the_agents_waiting_job(world: World) -> None:
    agent = await kit.an_agent(world)
    row = await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    submission = wire.CsrSubmission(csr_pem=kit.a_csr("a.example.test"), certificate_id=row["id"])
    await fleet.submit_csr(world.platform, agent, agent.agent_id or "", submission)
    assert (await kit.job(world, await kit.job_of(world, row["id"])))["status"] == "Pending"


async def test_a_csr_that_names_nothing_is_refused_by_field(world: World) -> None:
    agent = await kit.an_agent(world)
    with pytest.raises(Invalid) as caught:
        await fleet.submit_csr(
            world.platform, agent, agent.agent_id or "", wire.CsrSubmission(csr_pem="x")
        )
    assert caught.value.field == "job_id"


async def test_a_long_poll_is_woken_when_work_comes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "LOOK_EVERY", 60.0)
    agent = await kit.an_agent(world)
    target = await kit.a_target(world, agent)
    listening = asyncio.create_task(world.platform.signals.listen())
    async with asyncio.timeout(20):
        await one_listens(world)
        polling = asyncio.create_task(
            fleet.work(
                world.platform,
                agent,
                agent.agent_id or "",
                wait=60,
                session=None,
                has_left=kit.stays,
            )
        )
        await kit.order(world, target_ids=[target])
        assert (await polling).count == 1
    listening.cancel()


async def one_listens(world: World) -> None:
    while not await kit.value(
        world,
        """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
               AND query LIKE 'LISTEN %%' AND state = 'idle'""",
    ):
        await asyncio.sleep(0.01)


async def test_a_long_poll_is_not_held_once_the_server_stops(world: World) -> None:
    agent = await kit.an_agent(world)
    polling = asyncio.create_task(
        fleet.work(
            world.platform, agent, agent.agent_id or "", wait=60, session=None, has_left=kit.stays
        )
    )
    world.platform.signals.release_all()
    async with asyncio.timeout(20):
        assert (await polling).count == 0


async def test_work_is_not_leased_to_a_poll_whose_caller_has_left(world: World) -> None:
    agent = await kit.an_agent(world)
    await kit.order(world, target_ids=[await kit.a_target(world, agent)])

    async def has_left() -> bool:
        return True

    left = await fleet.work(
        world.platform, agent, agent.agent_id or "", wait=0, session=None, has_left=has_left
    )
    assert left.count == 0
    assert len(await kit.offered(world, agent)) == 1


@pytest.mark.parametrize(
    ("rules", "algorithm"),
    [
        ([{"algorithm": "ECDSA", "min_size": 256}], "ECDSA-P256"),
        ([{"algorithm": "ECDSA", "min_size": 384}], "ECDSA-P384"),
        ([{"algorithm": "RSA", "min_size": 2048}], "RSA-2048"),
        ([{"algorithm": "RSA", "min_size": 2500}], "RSA-3072"),
        ([{"algorithm": "RSA", "min_size": 4096}], "RSA-4096"),
        ([{"algorithm": "Ed25519", "min_size": 0}], "Ed25519"),
        ([{"algorithm": "ML-DSA", "min_size": 65}], "ML-DSA-65"),
    ],
)
async def test_the_agent_is_asked_for_a_key_that_the_profile_allows(
    world: World, rules: list[dict[str, object]], algorithm: str
) -> None:
    agent = await kit.an_agent(world)
    profile = await kit.a_profile(world, allowed_key_algorithms=rules)
    target = await kit.a_target(world, agent)
    await kit.order(world, target_ids=[target], certificate_profile_id=profile)
    (item,) = await kit.offered(world, agent)
    assert item.key_algorithm == algorithm
