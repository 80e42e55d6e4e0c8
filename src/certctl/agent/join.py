"""Who this agent is: told by the environment, remembered from before, or enrolled now."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from certctl.agent import link, trust
from certctl.agent.host import describe
from certctl.agent.pace import Backoff
from certctl.agent.settings import DEFAULT_SERVER_URL, AgentSettings
from certctl.agent.state import Identity, State
from certctl.agent.threads import in_thread
from certctl.domain.errors import CertctlError, Unavailable, Unsafe
from certctl.wire import Enrolment

log = logging.getLogger("certctl.agent")


@dataclass(frozen=True)
class Membership:
    """An identity and the CA file to trust; without a file, the system's CAs."""

    identity: Identity
    ca_file: Path | None


async def join(settings: AgentSettings, state: State, *, backoff: Backoff) -> Membership:
    """This agent's identity; enrols at the first start, waiting while the server is away.

    Raises:
        Unsafe: when there is neither identity nor token, the CA is not the expected one, or the
            token is refused.
    """
    known = _known(settings, state)
    if known is not None:
        return Membership(known, _ca_file(settings, state))
    if settings.enrolment_token is None:
        raise Unsafe(
            "this agent has no identity: set CERTCTL_AGENT_ENROLMENT_TOKEN for its first start, "
            "or CERTCTL_AGENT_ID and CERTCTL_API_KEY"
        )
    while True:
        try:
            return await _enrol(settings, state, settings.enrolment_token.get_secret_value())
        except Unavailable as error:
            pause = backoff.next()
            log.warning("event=enrolment_waits retry_in=%.1f reason=%r", pause, error.message)
            await asyncio.sleep(pause)


def _known(settings: AgentSettings, state: State) -> Identity | None:
    stored = state.identity()
    if settings.agent_id and settings.api_key:
        url = settings.server_url or (stored.server_url if stored else DEFAULT_SERVER_URL)
        return Identity(settings.agent_id, settings.api_key.get_secret_value(), url)
    if settings.agent_id or settings.api_key:
        raise Unsafe("CERTCTL_AGENT_ID and CERTCTL_API_KEY belong together; set both or neither")
    if stored is None:
        return None
    return Identity(stored.agent_id, stored.credential, settings.server_url or stored.server_url)


def _ca_file(settings: AgentSettings, state: State) -> Path | None:
    if settings.ca_bundle is not None:
        return settings.ca_bundle
    return state.ca_file if state.ca_file.exists() else None


async def _enrol(settings: AgentSettings, state: State, secret: str) -> Membership:
    server_url = settings.server_url or DEFAULT_SERVER_URL
    token, fingerprint = trust.split_token(secret)
    if settings.ca_bundle is None and fingerprint is not None:
        state.keep_ca(await trust.fetch_ca(server_url, fingerprint))
    ca_file = _ca_file(settings, state)
    host = await in_thread(partial(describe, server_url))
    enrolment = Enrolment(
        token=token,
        name=settings.agent_name or host.hostname[:128],
        **host.model_dump(),
    )
    async with link.connect(server_url, trust.tls_to(ca_file)) as client:
        try:
            enrolled = await link.enrol(client, enrolment)
        except Unavailable:
            raise
        except CertctlError as error:
            raise Unsafe(f"enrolment was refused: {error.message}") from error
    identity = Identity(enrolled.agent_id, enrolled.credential, server_url)
    # A certificate of an earlier enrolment is not this one's.
    state.client_pair.unlink(missing_ok=True)
    state.keep_identity(identity)
    log.info("event=enrolled agent_id=%s server=%s", identity.agent_id, server_url)
    return Membership(identity, ca_file)
