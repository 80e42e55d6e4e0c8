"""What happens is counted under the established names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from certctl.services import issue
from certctl.services.counters import ANSWERS, REGISTRY
from certctl.services.status import Responder
from tests import kit
from tests.conftest import World


def value(name: str, labels: dict[str, str]) -> float:
    known = [each.get_sample_value(name, labels) for each in (REGISTRY, ANSWERS)]
    return sum(value or 0.0 for value in known)


@asynccontextmanager
async def counted(name: str, **labels: str) -> AsyncIterator[None]:
    """What happens inside is counted once."""
    before = value(name, labels)
    yield
    assert value(name, labels) == before + 1


async def test_an_issuance_is_counted_and_timed(world: World) -> None:
    async with (
        counted("certctl_issuance_total", issuer_type="GenericCA", outcome="success"),
        counted("certctl_issuance_duration_seconds_count", issuer_type="GenericCA"),
    ):
        await kit.an_issued_certificate(world)


async def test_a_failed_issuance_is_counted_by_its_error(world: World) -> None:
    row = await kit.order(world, csr_pem=kit.a_csr("a.example.test"))
    await kit.change(world, "UPDATE issuers SET enabled = false")
    async with counted(
        "certctl_issuance_failures_total", issuer_type="unknown", error_class="Conflict"
    ):
        await issue.run(world.platform, await kit.job_of(world, row["id"]))


async def test_a_deployment_is_counted_once_however_often_it_is_reported(world: World) -> None:
    agent = await kit.an_agent(world)
    await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.issue_to(world, agent)
    (item,) = await kit.offered(world, agent)
    async with counted("certctl_deploy_attempts_total", target_type="NGINX", result="success"):
        await kit.deployed(world, agent, item)
        await kit.deployed(world, agent, item)


async def test_a_deployment_that_was_rolled_back_is_counted_as_both(world: World) -> None:
    agent = await kit.an_agent(world)
    await kit.order(world, target_ids=[await kit.a_target(world, agent)])
    await kit.issue_to(world, agent)
    (item,) = await kit.offered(world, agent)
    async with (
        counted("certctl_deploy_attempts_total", target_type="NGINX", result="failure"),
        counted("certctl_deploy_rollback_total", target_type="NGINX", outcome="restored"),
    ):
        await kit.report(world, agent, item.id, status="Failed", error="nginx -t", rolled_back=True)


async def test_an_ocsp_answer_is_counted_by_its_status(world: World) -> None:
    async with counted("certctl_ocsp_counter_total", label="unknown"):
        await Responder(world.platform).answer_serial("iss-local", "1234")
