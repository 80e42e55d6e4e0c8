"""Whether the keys of our own CAs can sign now: what `/ready` asks."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Final

from certctl.domain.errors import CertctlError
from certctl.services import ca_keys
from certctl.services.platform import Platform
from certctl.store import authorities
from certctl.store.db import Row

log = logging.getLogger("certctl.signing")
PATIENCE: Final = 2.0  # seconds for one key
KEPT: Final = 5.0  # seconds for which a verdict counts, so that probes do not wear a token


@dataclass(frozen=True)
class Verdict:
    """`away` says for each CA, by id, why its key cannot sign; `fit` counts the others."""

    away: dict[str, str]
    fit: int

    def __str__(self) -> str:
        """Empty when no CA is in use. `/ready` is for everybody: why is for the log."""
        if self.fit and not self.away:
            return "ok"
        return "; ".join(f"CA {ca_id}: its key cannot be used" for ca_id in self.away)


@dataclass
class SelfTest:
    """Lets every CA in use sign a few bytes, one whose home bills for that less often."""

    platform: Platform
    _last: Verdict = field(default_factory=lambda: Verdict({}, 0))
    _until: float = 0.0
    _fit_until: dict[str, float] = field(default_factory=dict)

    async def __call__(self) -> Verdict:
        """The verdict, at most 5 s old; it takes 2 s at most once the CAs are read."""
        if time.monotonic() >= self._until:
            async with self.platform.db.read() as session:
                rows = await authorities.all_active(session)
            tried = await asyncio.gather(*(self._words(row) for row in rows))
            away = {row["id"]: words for row, words in zip(rows, tried, strict=True) if words}
            for ca_id, words in away.items():
                if words != self._last.away.get(ca_id):
                    log.warning("CA %s cannot sign: %s", ca_id, words)
            self._last = Verdict(away, len(rows) - len(away))
            self._until = time.monotonic() + KEPT
        return self._last

    async def _words(self, row: Row) -> str:
        """Why this key cannot sign, or nothing."""
        if time.monotonic() < self._fit_until.get(row["id"], 0.0):
            return ""
        try:
            signer, run = ca_keys.opened(self.platform, row)
            async with asyncio.timeout(PATIENCE):
                await run(signer.sign, b"certctl self-test")
        except TimeoutError:
            return f"its key does not answer within {PATIENCE:g} s"
        except CertctlError as error:
            return error.message
        kept = ca_keys.kept(self.platform, row)
        self._fit_until[row["id"]] = time.monotonic() + kept.total_seconds()
        return ""
