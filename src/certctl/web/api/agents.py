"""What an agent itself calls, bound to its own id."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from certctl import wire
from certctl.domain.access import Permission
from certctl.services import agent_certificate, deploy, enrolment, fleet
from certctl.web.gate import Call, Resource

calls = Resource("/agents", tag="agent protocol")
OWN = (404, 410)


@calls.post(
    "/{id}/heartbeat",
    needs=Permission.AGENT_HEARTBEAT,
    answer=wire.HeartbeatRecorded,
    status=200,
    errors=OWN,
)
async def heartbeat(call: Call, id: str, body: wire.Heartbeat) -> Any:
    """The agent is alive; 410 tells it that it has been retired."""
    return await fleet.heartbeat(call.on, call.actor, id, body)


@calls.post(
    "/{id}/credential", needs=Permission.AGENT_HEARTBEAT, answer=wire.Credential, errors=OWN
)
async def next_credential(call: Call, id: str) -> Any:
    """The agent's next credential; the present one ends when that is first used."""
    return await enrolment.next_credential(call.on, call.actor, id)


@calls.post(
    "/{id}/client-certificate",
    needs=Permission.AGENT_HEARTBEAT,
    answer=wire.ClientCertificate,
    errors=OWN,
)
async def client_certificate(call: Call, id: str, body: wire.ClientCertificateWish) -> Any:
    """A client certificate for a key of the agent's, to be used instead of its credential."""
    return await agent_certificate.issue(call.on, call.actor, id, body)


@calls.get("/{id}/work", needs=Permission.AGENT_JOB_POLL, answer=wire.Work, errors=OWN)
async def work(
    call: Call,
    id: str,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for work")] = 0,
    session: Annotated[
        str | None,
        Query(
            max_length=64, description="New at each start of the agent: its old leases end at once"
        ),
    ] = None,
) -> Any:
    """Lease the agent's due work."""
    return await fleet.work(
        call.on, call.actor, id, wait=wait, session=session, has_left=call.has_left
    )


@calls.post(
    "/{id}/csr",
    needs=Permission.AGENT_JOB_POLL,
    answer=wire.Status,
    status=202,
    errors=(*OWN, 409),
)
async def csr(call: Call, id: str, body: wire.CsrSubmission) -> Any:
    """The CSR of a key that the agent made; the same CSR again changes nothing."""
    return {"status": await fleet.submit_csr(call.on, call.actor, id, body)}


@calls.post(
    "/{id}/jobs/{job_id}/status",
    needs=Permission.AGENT_JOB_COMPLETE,
    answer=wire.Status,
    status=200,
    errors=(*OWN, 409),
)
async def job_status(call: Call, id: str, job_id: str, body: wire.JobReport) -> Any:
    """What became of a job; the same report again changes nothing."""
    await fleet.own(call.on, call.actor, id)
    await deploy.report(call.on, call.actor, job_id, report=body)
    return {"status": "updated"}


@calls.get(
    "/{id}/certificates/{certificate_id}",
    needs=Permission.CERT_READ,
    answer=wire.CertificatePickup,
    errors=OWN,
)
async def certificate(call: Call, id: str, certificate_id: str) -> Any:
    """The live version that this agent holds the key of, with its chain."""
    return await fleet.certificate(call.on, call.actor, id, certificate_id)
