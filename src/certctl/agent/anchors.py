"""The roots that the agent believes after its first contact: those that the server names whom it
believes already, so that a new root is known before the server's chain leads to it."""

from __future__ import annotations

import logging
from pathlib import Path

from certctl.agent.link import Link, connect, trust_anchors
from certctl.agent.private import stage_private
from certctl.agent.state import State
from certctl.agent.trust import tls_to
from certctl.domain.errors import Invalid, Unavailable
from certctl.pki.x509 import ders_of_pem

log = logging.getLogger("certctl.agent")


async def keep_current(state: State, link: Link) -> None:
    """Keep what the server names, once the server has been reached by that alone; the link goes by
    it from then on. Errors as `Link`'s."""
    shown = await link.trust_anchors()
    if _ders(shown) == _ders(state.ca_file.read_text()):
        return
    staged = stage_private(state.ca_file, shown.encode())
    try:
        await _reached_by(staged, link)
        state.keep_ca(shown)
    finally:
        staged.unlink()
    await link.believe(tls_to(state.ca_file, _pair(state, link)))
    log.info("event=trust_anchors_kept count=%d", len(_ders(shown)))


async def _reached_by(ca_file: Path, link: Link) -> None:
    async with connect(link.server_url, tls_to(ca_file)) as client:
        await trust_anchors(client)


def _pair(state: State, link: Link) -> Path | None:
    return state.client_pair if link.presents else None


def _ders(pem: str) -> set[bytes]:
    try:
        return set(ders_of_pem(pem))
    except Invalid as error:
        raise Unavailable(f"the server names no root: {error.message}") from None
