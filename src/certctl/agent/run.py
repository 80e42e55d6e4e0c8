"""The agent's life: poll, work, report, heartbeat; back off, stop when told or retired."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from certctl.agent import anchors, client_certificate
from certctl.agent.execute import Bench, execute
from certctl.agent.host import describe
from certctl.agent.join import Membership, join
from certctl.agent.keystore import KeyStore
from certctl.agent.link import Link, connect
from certctl.agent.pace import Pace
from certctl.agent.settings import AgentSettings, load
from certctl.agent.staple import Staples, TargetLocks
from certctl.agent.state import State
from certctl.agent.threads import in_thread
from certctl.agent.trust import tls_to
from certctl.connectors.files import recover
from certctl.domain.errors import (
    CertctlError,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    Refused,
    Unavailable,
    Unsafe,
)
from certctl.domain.ids import checked_id
from certctl.wire import JobReport, WorkItem

log = logging.getLogger("certctl.agent")
AT_ONCE = 4
BAD_CONFIGURATION = 2


def main(environment: Mapping[str, str]) -> int:
    """Run the agent until it is told to stop (0), is retired (0), or cannot start (2)."""
    try:
        settings = load(environment)
        logging.basicConfig(
            level=settings.log_level.upper(),
            stream=sys.stdout,
            format="time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
        )
        logging.getLogger("httpx").setLevel(logging.WARNING)
        asyncio.run(_until_signal(settings))
    except Unsafe as error:
        sys.stderr.write(f"certctl agent: {error.message}\n")
        return BAD_CONFIGURATION
    return 0


async def _until_signal(settings: AgentSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop, pace=Pace())


async def serve(settings: AgentSettings, stop: asyncio.Event, *, pace: Pace) -> None:
    """Join, undo what an earlier run left half-done, and work until `stop` or retirement.

    Raises:
        Unsafe: when settings, stored state or trust do not allow a start.
    """
    state, keys = State(settings.state_folder), KeyStore(settings.key_dir)
    _recover(state)
    membership = await _joined(settings, state, stop, pace=pace)
    if membership is None:
        return
    identity = membership.identity
    pair = client_certificate.usable(state) if settings.client_certificate else None
    client = connect(
        identity.server_url,
        tls_to(membership.ca_file, pair),
        credential=None if pair else identity.credential,
    )
    async with aclosing(Link(client, identity.agent_id)) as link:
        locks: TargetLocks = TargetLocks(asyncio.Lock)
        staples = Staples(state, locks, allowed=settings.outbound_allow, pace=pace)
        bench = Bench(link, keys, state, staples, locks)
        await Agent(bench, settings, stop, membership=membership, pace=pace).run()


async def _joined(
    settings: AgentSettings, state: State, stop: asyncio.Event, *, pace: Pace
) -> Membership | None:
    joining = asyncio.create_task(join(settings, state, backoff=pace.backoff()))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({joining, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return joining.result() if joining.done() else None
    finally:
        await _cancel({joining, stopping})


def _recover(state: State) -> None:
    """One host with a damaged journal still renews its other certificates."""
    for path in state.journals():
        try:
            for undone in recover([path]):
                log.warning("event=interrupted_deployment_undone path=%s", undone)
        except CertctlError as error:
            log.error("event=recovery_failed path=%s reason=%r", path, error.message)


class Agent:
    """Heartbeat and polling run side by side; each job is a task, one at a time for a target."""

    def __init__(
        self,
        bench: Bench,
        settings: AgentSettings,
        stop: asyncio.Event,
        *,
        membership: Membership,
        pace: Pace,
    ) -> None:
        self._bench = bench
        self._link = bench.link
        self._poll_wait = settings.poll_wait
        self._describe = partial(describe, membership.identity.server_url)
        self._ca_file = membership.ca_file
        self._presents = settings.client_certificate
        self._stop = stop
        self._pace = pace
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._targets = bench.locks
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._anchors_due = 0.0

    async def run(self) -> None:
        """Until `stop` is set or the server says that this agent is gone; then let running jobs
        end and their reports go out, within the grace."""
        loops = {
            asyncio.create_task(self._stop.wait()),
            asyncio.create_task(self._heartbeats()),
            asyncio.create_task(self._polls()),
            asyncio.create_task(self._bench.staples.run()),
        }
        log.info("event=started")
        ended, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        await _cancel(loops - ended)
        log.info("event=stopping running_jobs=%d", len(self._jobs))
        if self._jobs:
            await asyncio.wait(self._jobs.values(), timeout=self._pace.grace)
        await _cancel(self._jobs.values())
        for task in ended:
            task.result()

    async def _heartbeats(self) -> None:
        backoff = self._pace.backoff()
        while True:
            pause = self._pace.heartbeat * random.uniform(0.9, 1.1)  # noqa: S311
            try:
                told = await self._link.heartbeat(await in_thread(self._describe))
                backoff.reset()
                if told.renew_credential:
                    await self._renew_credential()
                if self._presents:
                    await client_certificate.keep_current(
                        self._bench.state, self._link, self._ca_file
                    )
                await self._keep_anchors()
            except Gone as error:
                self._retire(error)
            except CertctlError as error:
                log.warning("event=heartbeat_failed reason=%r", error.message)
                pause = min(pause, backoff.next())
            await asyncio.sleep(pause)

    async def _keep_anchors(self) -> None:
        """Not where the operator has said whom to believe."""
        state, now = self._bench.state, time.monotonic()
        if self._ca_file != state.ca_file or now < self._anchors_due:
            return
        self._anchors_due = now + self._pace.trust
        try:
            await anchors.keep_current(state, self._link)
        except (CertctlError, OSError) as error:
            log.warning("event=trust_anchors_stay reason=%r", str(error))

    async def _renew_credential(self) -> None:
        """It is kept before it is used: until then the present one is good."""
        credential = await self._link.next_credential()
        state = self._bench.state
        identity = state.identity()
        assert identity is not None
        state.keep_identity(replace(identity, credential=credential))
        self._link.use_credential(credential)
        log.info("event=credential_renewed")

    async def _polls(self) -> None:
        backoff = self._pace.backoff()
        clock = asyncio.get_running_loop().time
        while True:
            async with self._slots:
                pass
            begun = clock()
            try:
                work = await self._link.work(self._poll_wait)
            except Gone as error:
                self._retire(error)
                return
            except CertctlError as error:
                pause = backoff.next()
                log.warning("event=poll_failed retry_in=%.1f reason=%r", pause, error.message)
                await asyncio.sleep(pause)
                continue
            backoff.reset()
            if not self._start(work.jobs):
                await asyncio.sleep(max(0.0, begun + self._pace.poll_floor - clock()))

    def _start(self, items: Iterable[WorkItem]) -> bool:
        """Begin the jobs that are not under way already; whether there were any."""
        begun = False
        for item in items:
            if item.id in self._jobs or not _is_readable(item):
                continue
            task = asyncio.create_task(self._work_on(item))
            self._jobs[item.id] = task
            task.add_done_callback(partial(self._ended, item.id))
            begun = True
        return begun

    def _ended(self, job_id: str, _: asyncio.Task[None]) -> None:
        del self._jobs[job_id]

    async def _work_on(self, item: WorkItem) -> None:
        try:
            report = await self._outcome(item)
            if report is not None:
                await self._deliver(item.id, report)
        except Gone as error:
            self._retire(error)
        except CertctlError as error:
            log.warning("event=job_left job=%s reason=%r", item.id, error.message)

    async def _outcome(self, item: WorkItem) -> JobReport | None:
        """Jobs may be done twice, so one that lost the server is begun again while its lease
        lasts."""
        backoff, clock = self._pace.backoff(), asyncio.get_running_loop().time
        until = clock() + item.lease_seconds
        while True:
            try:
                async with self._targets[item.target_id or item.certificate_id], self._slots:
                    return await execute(item, self._bench)
            except Unavailable as error:
                pause = backoff.next()
                if clock() + pause > until:
                    raise
                log.warning("event=job_waits job=%s reason=%r", item.id, error.message)
                await asyncio.sleep(pause)

    async def _deliver(self, job_id: str, report: JobReport) -> None:
        """Send `report` until the server has it or does not want it."""
        backoff = self._pace.backoff()
        if report.error:
            log.error("event=job_failed job=%s reason=%r", job_id, report.error)
        while True:
            try:
                await self._link.report(job_id, report)
                return
            except (Gone, NotFound, Conflict, Invalid, Refused):
                raise
            except CertctlError as error:
                pause = backoff.next()
                log.warning(
                    "event=report_waits job=%s retry_in=%.1f reason=%r",
                    job_id,
                    pause,
                    error.message,
                )
                await asyncio.sleep(pause)

    def _retire(self, error: Gone) -> None:
        log.warning("event=retired reason=%r", error.message)
        self._stop.set()


def _is_readable(item: WorkItem) -> bool:
    """Ids become parts of paths and URLs; one that cannot be is not answered to."""
    try:
        checked_id(item.id)
        checked_id(item.certificate_id)
    except Invalid as error:
        log.error("event=job_ignored reason=%r", error.message)
        return False
    return True


async def _cancel(tasks: Iterable[asyncio.Task[object]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
