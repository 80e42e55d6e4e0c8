"""OCSP staples for the servers of this host: fetched, verified, put in place, and kept fresh.

The truth about what is served is in the target's files; remembered is only where they are.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_network
from typing import Final
from urllib.parse import quote, urlsplit

import httpx

from certctl.agent.pace import Pace
from certctl.agent.state import KeptStaple, State
from certctl.agent.threads import told
from certctl.connectors import http
from certctl.connectors.catalog import open_target
from certctl.connectors.reach import Network, Reach
from certctl.connectors.target import DeployFailed, Stapled
from certctl.domain.errors import CertctlError, NotFound, Refused, Unavailable
from certctl.pki import staple
from certctl.pki.staple import Staple
from certctl.pki.x509 import CertificateFacts, ders_of_pem, facts

log = logging.getLogger("certctl.agent")
# A responder, or a cache before it, may run on the host itself, as the servers deployed to do.
LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1"))
LONGEST_GET: Final = 255  # octets (RFC 5019 §5)
MOST_ASKED: Final = 3  # responders of one certificate
TargetLocks = defaultdict[str, asyncio.Lock]


@dataclass(frozen=True)
class Served:
    """A leaf, what it says of itself, and its issuer; both in DER."""

    leaf: bytes
    issuer: bytes
    facts: CertificateFacts


def served(chain: Sequence[bytes]) -> Served:
    """The first two certificates of a chain; Refused when it ends with the leaf."""
    if len(chain) < 2:
        raise Refused("the chain ends with the leaf: its issuer is needed to ask for a staple")
    return Served(chain[0], chain[1], facts(chain[0]))


async def fetch(about: Served, reach: Reach) -> Staple:
    """A verified staple from the first responder of the leaf that gives one.

    Raises:
        Refused: when the leaf names no responder, or what the last one says is not believed.
        Unavailable: when the last one does not answer.
    """
    urls = [url for url in about.facts.ocsp_urls if urlsplit(url).scheme in {"http", "https"}]
    failure: CertctlError = Refused("the certificate names no OCSP responder")
    async with http.client(reach) as through:
        for url in urls[:MOST_ASKED]:
            try:
                answer = await _asked(through, url, staple.request(about.leaf, about.issuer))
                now = datetime.now(UTC)
                return staple.verify(answer.body, about.leaf, about.issuer, now=now)
            except CertctlError as error:
                failure = error
    raise failure


async def _asked(through: httpx.AsyncClient, url: str, request: bytes) -> http.Answer:
    """By GET where it is short enough, so that caches may answer."""
    whole = f"{url.rstrip('/')}/{quote(base64.b64encode(request), safe='')}"
    most = staple.MAX_RESPONSE_BYTES
    if len(whole) <= LONGEST_GET:
        return http.accepted(await http.ask(through, "GET", whole, most=most), url)
    kind = {"Content-Type": "application/ocsp-request"}
    asked = http.ask(through, "POST", url, content=request, headers=kind, most=most)
    return http.accepted(await asked, url)


class Staples:
    """The staples of all targets on this host; `run` keeps them fresh."""

    def __init__(
        self, state: State, locks: TargetLocks, *, allowed: Sequence[Network] = (), pace: Pace
    ) -> None:
        self._state = state
        self._locks = locks
        self._reach = Reach((*LOOPBACK, *allowed))
        self._pace = pace
        self._kept = {kept.target_id: kept for kept in state.staples()}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._is_running = False

    async def first(self, target: Stapled, chain: Sequence[bytes]) -> Staple | None:
        """The staple to deploy together with the leaf of `chain`, so that the first handshake
        carries one; None where it may follow.

        Raises:
            DeployFailed: when it may not: a certificate that must be stapled, or a server that
                cannot do without, gets no deployment without a verified response.
        """
        known = facts(chain[0])
        must = known.must_staple
        if not (must or target.needs_staple or known.ocsp_urls):
            return None
        try:
            found = await self._first(target, served(chain))
            if must and found.status == "revoked":
                raise Refused("the certificate is revoked")
        except CertctlError as error:
            if must or target.needs_staple:
                why = "the certificate is must-staple" if must else "the server needs its file"
                message = f"nothing was changed: {why}, and no staple is to be had"
                raise DeployFailed(f"{message}: {error.message}", rolled_back=True) from error
            log.warning("event=deployed_without_staple reason=%r", error.message)
            return None
        return found

    async def _first(self, target: Stapled, about: Served) -> Staple:
        """What lies there, while it is fresh: the same files need no reload."""
        held = await told(partial(_held, target, about))
        if held and datetime.now(UTC) - held.this_update < (held.until - held.this_update) / 2:
            return held
        try:
            return await fetch(about, self._reach)
        except CertctlError:
            if held:
                return held
            raise

    def deployed(self, kept: KeptStaple, leaf: bytes, *, staple: Staple | None) -> None:
        """Remember what a deployment has put in service, in place of what was before; the caller
        holds the target's lock. Without a `staple` it is sought at once."""
        self._forget(kept.target_id)
        target = open_target(kept.target_type, kept.target_config)
        if not isinstance(target, Stapled) or target.staple_path is None:
            return
        if not facts(leaf).ocsp_urls:
            return
        self._keep(kept)
        if staple is not None:
            self._succeeded(kept.target_id, staple)
        self._start(kept.target_id, self._next(staple) if staple else 0.0)

    async def run(self) -> None:
        """Keep every remembered staple fresh until cancelled. What was missed while the agent was
        away is caught up with at once."""
        self._is_running = True
        for target_id in self._kept:
            self._start(target_id, random.uniform(0, self._pace.staple_spread))  # noqa: S311
        try:
            await asyncio.Event().wait()
        finally:
            self._is_running = False
            for keeper in self._keepers.values():
                keeper.cancel()
            await asyncio.gather(*self._keepers.values(), return_exceptions=True)

    def _start(self, target_id: str, pause: float) -> None:
        if self._is_running:
            keeper = asyncio.create_task(self._keep_fresh(target_id, pause))
            keeper.add_done_callback(partial(_ended, target_id))
            self._keepers[target_id] = keeper

    async def _keep_fresh(self, target_id: str, pause: float) -> None:
        backoff = self._pace.backoff()
        refresher = _Refresher(self._kept[target_id], self._locks[target_id], self._reach)
        while True:
            await asyncio.sleep(pause)
            try:
                found = await refresher.refresh()
            except NotFound as error:
                log.info("event=staple_forgotten target=%s reason=%r", target_id, error.message)
                self._forget(target_id)
                return
            except CertctlError as error:
                pause = backoff.next()
                self._failed(target_id, error)
                continue
            backoff.reset()
            pause = self._next(found)
            self._succeeded(target_id, found)

    def _next(self, found: Staple) -> float:
        """Seconds until the next refresh: half of what is left, or a little earlier."""
        left = (found.until - datetime.now(UTC)).total_seconds()
        return max(self._pace.staple_floor, left / 2 * random.uniform(0.8, 1.0))  # noqa: S311

    def _succeeded(self, target_id: str, found: Staple) -> None:
        before = self._kept[target_id]
        level = logging.INFO
        if found.status == "revoked" and before.status != "revoked":
            level = logging.ERROR
        log.log(
            level,
            "event=stapled target=%s status=%s until=%s",
            target_id,
            found.status,
            found.until.isoformat(),
        )
        changes = {"status": found.status, "since": found.this_update, "until": found.until}
        self._keep(before.model_copy(update={**changes, "problem": ""}))

    def _failed(self, target_id: str, error: CertctlError) -> None:
        """The last good one stays; the nearer its end, the louder."""
        kept, now = self._kept[target_id], datetime.now(UTC)
        level, event = logging.WARNING, "staple_not_refreshed"
        if kept.until is None or kept.since is None or kept.until <= now:
            level, event = logging.ERROR, "staple_missing" if kept.until is None else "staple_over"
        elif kept.until - now < (kept.until - kept.since) / 4:
            level, event = logging.ERROR, "staple_ends_soon"
        until = kept.until.isoformat() if kept.until else "-"
        log.log(
            level, "event=%s target=%s until=%s reason=%r", event, target_id, until, error.message
        )
        if kept.problem != error.message:
            self._keep(kept.model_copy(update={"problem": error.message}))

    def _keep(self, kept: KeptStaple) -> None:
        self._kept[kept.target_id] = kept
        self._store()

    def _forget(self, target_id: str) -> None:
        keeper = self._keepers.pop(target_id, None)
        if keeper is not None and keeper is not asyncio.current_task():
            keeper.cancel()
        if self._kept.pop(target_id, None) is not None:
            self._store()

    def _store(self) -> None:
        """A full disk must not keep a staple from being served, nor a deployment from being
        reported."""
        try:
            self._state.keep_staples(tuple(self._kept.values()))
        except OSError as error:
            log.error("event=staples_not_remembered reason=%r", str(error))


class _Refresher:
    """The staple of one target; what its server was not told of, it is told again."""

    def __init__(self, kept: KeptStaple, lock: asyncio.Lock, reach: Reach) -> None:
        self._kept = kept
        self._lock = lock
        self._reach = reach
        self._is_told = True

    async def refresh(self) -> Staple:
        """The staple that the server has now.

        Raises:
            NotFound: when the target has no such certificate any more, or it has ended.
            CertctlError: when there is none to be had, or the server does not take it.
        """
        target = self._target()
        about = await told(partial(_in_service, target))
        if about.facts.not_after <= datetime.now(UTC):
            raise NotFound("its certificate has ended")
        found = await fetch(about, self._reach)
        async with self._lock:
            if (await told(partial(_in_service, target))).leaf != about.leaf:
                raise Unavailable("another certificate was put in service meanwhile")
            held = await told(partial(_held, target, about))
            if not self._is_told or held is None or held.der != found.der:
                self._is_told = False
                await told(partial(target.put_staple, found.der))
                self._is_told = True
        return found

    def _target(self) -> Stapled:
        target = open_target(self._kept.target_type, self._kept.target_config)
        if not isinstance(target, Stapled) or target.staple_path is None:
            raise NotFound("the target is not stapled")
        return target


def _in_service(target: Stapled) -> Served:
    return served(ders_of_pem(target.in_service()))


def _held(target: Stapled, about: Served) -> Staple | None:
    """The staple in its file, if it is one for this leaf and still holds."""
    if target.staple_path is None:
        return None
    with suppress(OSError, CertctlError):
        content = target.staple_path.read_bytes()
        return staple.verify(content, about.leaf, about.issuer, now=datetime.now(UTC))
    return None


def _ended(target_id: str, keeper: asyncio.Task[None]) -> None:
    if not keeper.cancelled() and (error := keeper.exception()):
        log.error("event=staple_keeper_crashed target=%s", target_id, exc_info=error)
