"""`certctl serve` that dies at the step of an issuance named in KILL_AT."""

from __future__ import annotations

import asyncio
import os

from certctl import log
from certctl import settings as settings_
from certctl.boot.serve import serve
from certctl.connectors.issuers.local import LocalCA
from certctl.services import audit, deploy, intents, issue, issued
from certctl.services import jobs as job_service
from certctl.store import issuing, versions
from tests.flows.killed import Step

# From the accepted CSR on, in order. What writes inside a transaction returns before its commit.
STEPS: dict[str, Step] = {
    "before the job is claimed": Step(issue, "_claim", before=True),
    "before the certificate is drafted": Step(LocalCA, "prepare_many", before=True),
    "before the intent is written": Step(intents, "record", before=True),
    "before the intent is committed": Step(issuing, "insert_intents"),
    "after the intent is committed": Step(intents, "intentions"),
    "before the signature": Step(LocalCA, "complete_many", before=True),
    "after the signature": Step(LocalCA, "complete_many"),
    "before anything is recorded": Step(issued, "record", before=True),
    "after the intent is settled": Step(issuing, "settle_intents"),
    "after the version is written": Step(versions, "insert_live"),
    "after the certificate is settled": Step(job_service, "settle_certificates"),
    "after the audit row is written": Step(
        audit,
        "record_many",
        only=lambda _tx, _actor, many, **_category: (
            "certificate_issued" in {e.action for e in many}
        ),
    ),
    "after the commit": Step(issued, "record"),
}
# With an agent, the line begins earlier and ends later.
AGENT_STEPS: dict[str, Step] = {
    "before the CSR is committed": Step(
        audit, "record", only=lambda _tx, _actor, action, **_details: action == "csr_submitted"
    ),
    "before the deployments are committed": Step(deploy, "plan"),
    "before a report is committed": Step(versions, "insert_deployment"),
    "after a report is committed": Step(deploy, "report"),
}


async def main() -> None:
    loaded = settings_.load(os.environ)
    log.configure(loaded.log_level, loaded.log_format)
    (STEPS | AGENT_STEPS)[os.environ["KILL_AT"]].arm()
    await serve(loaded, work_here=True)


if __name__ == "__main__":
    asyncio.run(main())
