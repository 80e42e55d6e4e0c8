"""Task names and the service calls behind them, one line each, and how often the periodic run.

A task carries ids only, never retries by itself, and does nothing when its work is done: what
is to be done stands in the domain's own tables.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from procrastinate.app import App

from certctl.services import (
    bulk,
    checkpoints,
    crls,
    digest,
    notify,
    policy,
    renew,
    status,
    suggest,
    sweep,
)
from certctl.services.audit import Sealer
from certctl.services.issue import run
from certctl.services.platform import Platform
from certctl.store.queue import EVALUATE_POLICY, REFRESH_CRL, RUN_BULK, RUN_JOB, drop_stalled

log = logging.getLogger("certctl.jobs")
EVERY_FIVE_SECONDS: Final = "* * * * * */5"
EVERY_MINUTE: Final = "* * * * *"
EVERY_HOUR: Final = "7 * * * *"
EVERY_MORNING: Final = "0 6 * * *"  # UTC


def register(app: App, platform: Platform, *, renewal_interval: timedelta) -> None:
    """Bind every task to the platform."""

    @app.task(name=RUN_JOB)
    async def run_job(job_id: str) -> None:
        await run(platform, job_id)

    @app.task(name=REFRESH_CRL)
    async def refresh_crl(authority_id: str) -> None:
        await crls.refresh_stale(platform, authority_id)

    @app.task(name=RUN_BULK)
    async def run_bulk(operation_id: str) -> None:
        await bulk.run(platform, operation_id)

    @app.task(name=EVALUATE_POLICY)
    async def evaluate_policy(row_id: str) -> None:
        await policy.evaluate_all(platform, rule_id=row_id)

    async def urgent() -> int:
        return await renew.find_due(platform, short_lived_only=True)

    sealer = Sealer(platform)
    minutes = max(1, int(renewal_interval.total_seconds() // 60))
    every = f"*/{minutes} * * * *" if minutes < 60 else EVERY_HOUR
    _periodic(app, "find_due", every, lambda: renew.find_due(platform))
    _periodic(app, "find_urgent", EVERY_MINUTE, urgent)
    _periodic(app, "sweep", EVERY_FIVE_SECONDS, lambda: sweep.sweep(platform))
    _periodic(app, "ask_when_to_renew", EVERY_MINUTE, lambda: suggest.ask(platform))
    _periodic(app, "send_notifications", EVERY_FIVE_SECONDS, lambda: notify.send_due(platform))
    _periodic(app, "expiry_alerts", EVERY_HOUR, lambda: notify.expiring(platform))
    _periodic(app, "evaluate_policies", EVERY_HOUR, lambda: policy.evaluate_all(platform))
    if platform.terms.digest_enabled:
        _periodic(app, "send_digest", EVERY_MORNING, lambda: digest.send_daily(platform))
    _periodic(app, "seal_audit", EVERY_MINUTE, sealer.tick)
    _periodic(app, "audit_checkpoint", EVERY_MINUTE, lambda: checkpoints.tick(platform))
    _periodic(app, "keep_fresh", EVERY_MINUTE, lambda: status.keep_fresh(platform))
    _periodic(app, "prune", EVERY_HOUR, lambda: sweep.prune(platform))
    _periodic(app, "drop_stalled", EVERY_MINUTE, lambda: drop_stalled(app))


def _periodic(app: App, name: str, cron: str, call: Callable[[], Awaitable[int]]) -> None:
    @app.periodic(cron=cron)
    @app.task(name=name, queueing_lock=name)
    async def tick(timestamp: int) -> None:  # noqa: ARG001 - procrastinate passes it
        count = await call()
        if count:
            log.info("%s: %d", name, count)
