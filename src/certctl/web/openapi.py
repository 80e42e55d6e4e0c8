"""The OpenAPI document: the gated routes as FastAPI sees them, and the public faces."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from fastapi import FastAPI

PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
Answers = Mapping[int, tuple[str | None, Any]]  # media type and schema by status
BINARY: Final = {"type": "string", "format": "binary"}


def document(api: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1. Validation failures are 400 with the one envelope, never 422."""
    spec = deepcopy(api.openapi())
    for path in spec["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["security"] = [{"bearer": []}]
    schemas = spec["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    spec["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    spec["paths"] |= _public()
    spec["info"]["description"] = "Certificate lifecycle: issue, renew, deploy, verify, revoke."
    spec["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    spec["paths"] = dict(sorted(spec["paths"].items()))
    return spec


def _public() -> dict[str, Any]:
    json = "application/json"
    return {
        "/health": {"get": _open("getHealth", "The process is alive", {200: (json, _object())})},
        "/ready": {
            "get": _open(
                "getReady",
                "Database, migrations, worker and signer are fit to serve",
                {200: (json, _object()), 503: (json, _object())},
            )
        },
        "/api/v1/version": {"get": _open("getVersion", "What runs", {200: (json, _object())})},
        "/api/v1/auth/info": {
            "get": _open("getAuthInfo", "How to sign in", {200: (json, _object())})
        },
        "/api/v1/auth/bootstrap": {
            "get": _open(
                "getAuthBootstrap",
                "Whether the bootstrap token can be used",
                {200: (json, _object())},
            ),
            "post": _sent(
                "postAuthBootstrap",
                "The bootstrap token for the first administrator's key",
                {201: (json, _object())} | dict.fromkeys((400, 401, 410, 413), (json, PROBLEM)),
            ),
        },
        **_people(),
        "/api/v1/ca": {
            "get": _open(
                "getTrustAnchor", "The root CA, PEM", {200: ("application/x-pem-file", BINARY)}
            )
        },
        "/api/v1/agents/enrol": {
            "post": _sent(
                "enrolAgent",
                "A one-time token for a credential",
                {201: (json, _object())} | dict.fromkeys((400, 401, 409, 413), (json, PROBLEM)),
            )
        },
        **_relying_parties(),
    }


def _people() -> dict[str, Any]:
    json, nothing = "application/json", (None, None)
    return {
        "/auth/logout": {
            "post": _open(
                "logout", "End the session of the cookie", {204: nothing, 403: (json, PROBLEM)}
            )
        },
        "/auth/oidc/login": {
            "get": {
                **_open(
                    "oidcLogin",
                    "To the provider, to sign in",
                    {302: nothing} | dict.fromkeys((400, 404, 502, 503), (json, PROBLEM)),
                ),
                "parameters": [_query("provider", "Id of the provider")],
            }
        },
        "/auth/oidc/callback": {
            "get": _open(
                "oidcCallback",
                "Back from the provider, with a session or with the reason why not",
                {302: nothing, 503: (json, PROBLEM)},
            )
        },
        "/auth/oidc/back-channel-logout": {
            "post": {
                **_open(
                    "oidcBackChannelLogout",
                    "The provider ends somebody's sessions",
                    {200: nothing} | dict.fromkeys((400, 413, 503), (json, PROBLEM)),
                ),
                "requestBody": {
                    "content": {"application/x-www-form-urlencoded": {"schema": _object()}},
                    "required": True,
                },
            }
        },
        "/auth/breakglass/login": {
            "post": _sent(
                "breakglassLogin",
                "A break-glass password for a session",
                {204: nothing} | dict.fromkeys((400, 401, 404, 413, 429), (json, PROBLEM)),
            )
        },
    }


def _relying_parties() -> dict[str, Any]:
    issuer = _path("id", "An issuer's id or a CA's id")
    return {
        "/.well-known/pki/ocsp/{id}": {
            "post": {
                **_open("ocspPost", "OCSP (RFC 6960)", _ocsp()),
                "parameters": [issuer],
                "requestBody": {
                    "content": {"application/ocsp-request": {"schema": BINARY}},
                    "required": True,
                },
            }
        },
        "/.well-known/pki/ocsp/{id}/{request}": {
            "get": {
                **_open("ocspGet", "OCSP by base64 request or hex serial", _ocsp()),
                "parameters": [issuer, _path("request", "base64 of a request, or a hex serial")],
            }
        },
        "/.well-known/pki/crl/{id}": {
            "get": {
                **_open("crl", "The complete CRL, DER", _file("application/pkix-crl")),
                "parameters": [issuer],
            }
        },
        "/.well-known/pki/crl/{id}/{shard}": {
            "get": {
                **_open("crlShard", "A shard of the CRL, DER", _file("application/pkix-crl")),
                "parameters": [issuer, _path("shard", "As a certificate names it, from 1")],
            }
        },
        "/.well-known/pki/ca/{name}": {
            "get": {
                **_open("caCertificate", "A CA's certificate, DER", _file("application/pkix-cert")),
                "parameters": [_path("name", "The CA's id and .cer")],
            }
        },
    }


def _ocsp() -> Answers:
    return {200: ("application/ocsp-response", BINARY), 415: ("text/plain", _text()), **_refusals()}


def _file(media_type: str) -> Answers:
    return {200: (media_type, BINARY), 304: (media_type, BINARY), **_refusals()}


def _refusals() -> Answers:
    return {code: ("text/plain", _text()) for code in (400, 404, 413, 429, 503)}


def _open(name: str, summary: str, answers: Answers) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["public"],
        "security": [],
        "responses": {
            str(code): {"description": summary, **_content(kind, schema)}
            for code, (kind, schema) in answers.items()
        },
    }


def _content(kind: str | None, schema: Any) -> dict[str, Any]:
    return {} if kind is None else {"content": {kind: {"schema": schema}}}


def _sent(name: str, summary: str, answers: Answers) -> dict[str, Any]:
    """As `_open`, with a JSON body."""
    body = {"content": {"application/json": {"schema": _object()}}, "required": True}
    return {**_open(name, summary, answers), "requestBody": body}


def _query(name: str, text: str) -> dict[str, Any]:
    return {**_path(name, text), "in": "query"}


def _path(name: str, text: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string"},
    }


def _object() -> dict[str, Any]:
    return {"type": "object"}


def _text() -> dict[str, Any]:
    return {"type": "string"}
