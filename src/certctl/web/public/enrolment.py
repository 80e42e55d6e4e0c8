"""First contact: the trust anchors, one of them pinned, and a credential for a one-time token."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from certctl import wire
from certctl.pki import x509
from certctl.services import authority, enrolment
from certctl.services.platform import Platform
from certctl.web import problems
from certctl.web.public.router import Declared, PublicRouter, body_of, json_answer, parsed

FACE: Final = Declared(
    paths=("/api/v1/ca", "/api/v1/agents/enrol"),
    authentication="(public; enrol: one-time token)",
    errors="json",
    routes=(("GET", "/api/v1/ca"), ("POST", "/api/v1/agents/enrol")),
)
MOST: Final = 16_384


def enrolment_app(platform: Platform, issuer_id: str) -> ASGIApp:
    async def trust_anchors(request: Request) -> Response:
        anchors = await authority.trust_anchors(platform, issuer_id)
        return Response(x509.chain_pem(anchors), media_type="application/x-pem-file")

    async def enrol(request: Request) -> Response:
        wish = parsed(wire.Enrolment, await body_of(request, MOST))
        address = request.client.host if request.client else None
        enrolled = await enrolment.enrol(
            platform, wish, address=address, request_id=request.state.request_id
        )
        return json_answer(enrolled.model_dump(), 201)

    return PublicRouter(
        [
            Route("/api/v1/ca", trust_anchors, methods=["GET"]),
            Route("/api/v1/agents/enrol", enrol, methods=["POST"]),
        ],
        tell=problems.response,
    )
