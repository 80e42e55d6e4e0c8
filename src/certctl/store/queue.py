"""Hand a task to procrastinate inside the caller's transaction, and the app that runs tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import procrastinate
from procrastinate import exceptions
from procrastinate.app import App
from procrastinate.jobs import Status
from procrastinate.types import JSONDict

from certctl.store.db import SESSION_OPTIONS, Tx

RUN_JOB = "run_job"
REFRESH_CRL = "refresh_crl"
RUN_BULK = "run_bulk"
EVALUATE_POLICY = "evaluate_policy"


def make_app(conninfo: str, *, max_size: int) -> App:
    """The queue's app on its own small pool; tasks are registered by `jobs.tasks`."""
    options = SESSION_OPTIONS.replace("public,procrastinate", "procrastinate,public")
    connector = procrastinate.PsycopgConnector(
        conninfo=conninfo,
        min_size=1,
        max_size=max_size,
        kwargs={"options": options},
    )
    return App(connector=connector)


class Queue:
    """Defers tasks by name. A task carries ids only and may be deferred any number of times."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def defer(
        self,
        tx: Tx,
        task: str,
        *,
        once_per: str | None = None,
        at: datetime | None = None,
        **ids: str,
    ) -> None:
        """Defer in the caller's transaction; with `once_per`, one waiting task for that word."""
        deferrer = self._app.configure_task(
            task,
            queueing_lock=f"{task}:{once_per}" if once_per else None,
            schedule_at=at,
            connection=tx.connection,
        )
        try:
            async with tx.connection.transaction():
                await deferrer.defer_async(**ids)
        except exceptions.AlreadyEnqueued:
            return

    async def defer_many(self, tx: Tx, task: str, many: Sequence[JSONDict]) -> None:
        """Defer in the caller's transaction, once for each of these ids, in one statement."""
        if many:
            deferrer = self._app.configure_task(task, connection=tx.connection)
            await deferrer.batch_defer_async(*many)


async def drop_stalled(app: App) -> int:
    """Forget tasks whose worker has died; how many there were.

    Nothing is lost with them: what was to be done stands in the domain's tables, and the sweep
    defers it again.
    """
    stalled = list(await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=60))
    for job in stalled:
        await app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
    return len(stalled)
