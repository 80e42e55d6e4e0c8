"""The digest: looked at, or sent now."""

from __future__ import annotations

from typing import Any, Literal

from starlette.responses import HTMLResponse

from certctl.domain.access import Permission
from certctl.services import digest as service
from certctl.web.api.common import Out
from certctl.web.gate import Call, Resource

digest = Resource("/digest", tag="digest")


class Digest(Out):
    subject: str
    text: str
    html: str


class Sent(Out):
    status: Literal["sent"]
    message: str


@digest.get(needs=Permission.DIGEST_READ, answer=Digest, errors=())
async def get_digest(call: Call) -> Any:
    """The digest of this moment, in each of its forms."""
    made = await service.preview(call.on, call.actor)
    return {"subject": made.subject, "text": made.text, "html": made.html}


@digest.get("/preview", needs=Permission.DIGEST_READ, answer=None, errors=())
async def preview_digest(call: Call) -> Any:
    """The digest of this moment as a page of HTML."""
    return HTMLResponse((await service.preview(call.on, call.actor)).html)


@digest.post("/send", needs=Permission.DIGEST_SEND, answer=Sent, status=200, errors=())
async def send_digest(call: Call) -> Any:
    """Hand the digest to every configured channel; 503 when there is none."""
    channels = await service.send(call.on, call.actor)
    return {"status": "sent", "message": f"handed to {', '.join(channels)}"}
