"""`certctl serve` that dies, as by `kill -9`, at the step named in KILL_AT.

The product holds no fault points: this script wraps the database, the signer and the issuer of
its own process. A step is a function and whether the end comes before it or after it has
returned; a function that writes inside a transaction returns before the commit.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from typing import Any

from certctl import log
from certctl import settings as settings_
from certctl.boot.serve import serve
from certctl.connectors.issuers.local import LocalCA
from certctl.services import authority, issue
from certctl.services import jobs as job_service
from certctl.store import authorities, versions

# Each step of an issuance from the accepted CSR on, in order.
STEPS: dict[str, tuple[Any, str]] = {
    "before the job is claimed": (issue, "_claim"),
    "before the certificate is drafted": (LocalCA, "prepare"),
    "before the intent is written": (authority, "record_intent"),
    "before the intent is committed": (authorities, "insert_intent"),
    "after the intent is committed": (authority, "intended"),
    "before the signature": (LocalCA, "_complete"),
    "after the signature": (LocalCA, "complete"),
    "before anything is recorded": (issue, "_record"),
    "after the intent is settled": (authorities, "settle_intent"),
    "after the version is written": (versions, "insert_live"),
    "after the certificate is settled": (job_service, "settle_certificate"),
    "after the audit row is written": (issue.audit, "record"),
    "after the commit": (issue, "_record"),
}
BEFORE = frozenset(step for step in STEPS if step.startswith("before ") and "committed" not in step)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(step: str) -> None:
    """Replace the step's function by one that ends this process."""
    owner, name = STEPS[step]
    function = getattr(owner, name)

    if asyncio.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            if step in BEFORE:
                die()
            answer = await function(*args, **kwargs)
            if name != "record" or "certificate_issued" in args:
                die()
            return answer
    else:

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if step in BEFORE:
                die()
            answer = function(*args, **kwargs)
            die()
            return answer

    setattr(owner, name, wrapped)


async def main() -> None:
    """Serve as usual; the trap is laid once the first start is over."""
    loaded = settings_.load(os.environ)
    log.configure(loaded.log_level, loaded.log_format)
    if step := os.environ.get("KILL_AT"):
        arm(step)
    await serve(loaded, work_here=True)


if __name__ == "__main__":
    asyncio.run(main())
