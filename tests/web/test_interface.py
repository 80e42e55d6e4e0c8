"""The established operations of the lifecycle are there, with their answers and their fields."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.web import app

# Method, path below /api/v1, status of success, and the fields of its answer; of a list, its rows'.
JOB = "id type certificate_id target_id status attempts max_attempts last_error scheduled_at"
CERTIFICATE = (
    "id name common_name sans environment owner_id team_id issuer_id target_ids renewal_policy_id "
    "certificate_profile_id status expires_at tags last_renewal_at last_deployment_at revoked_at "
    "revocation_reason created_at updated_at"
)
VERSION = (
    "id certificate_id serial_number not_before not_after fingerprint_sha256 pem_chain csr_pem "
    "key_algorithm key_size created_at"
)
ISSUER = "id name type config enabled created_at updated_at"
TARGET = "id name type agent_id config enabled created_at updated_at"
AGENT = (
    "id name hostname status last_heartbeat_at registered_at os architecture ip_address version "
    "retired_at retired_reason"
)
RENEWAL_POLICY = (
    "id name renewal_window_days auto_renew max_retries retry_interval_seconds "
    "alert_thresholds_days certificate_profile_id created_at updated_at"
)
PROFILE = (
    "id name description allowed_key_algorithms max_ttl_seconds allowed_ekus "
    "required_san_patterns spiffe_uri_pattern allow_short_lived enabled created_at updated_at"
)
GROUP = (
    "id name description match_os match_architecture match_ip_cidr match_version enabled "
    "created_at updated_at"
)
NOTIFICATION = (
    "id type certificate_id channel recipient message sent_at status retry_count next_retry_at "
    "last_error created_at"
)
BULK = "total_matched total_skipped total_failed errors"
SUMMARY = (
    "total_certificates expiring_certificates expired_certificates revoked_certificates "
    "active_agents offline_agents total_agents pending_jobs failed_jobs complete_jobs completed_at"
)


def resource(path: str, fields: str) -> list[tuple[str, str, int, str]]:
    return [
        ("GET", path, 200, fields),
        ("POST", path, 201, fields),
        ("GET", path + "/{id}", 200, fields),
        ("PUT", path + "/{id}", 200, fields),
        ("DELETE", path + "/{id}", 204, ""),
    ]


OPERATIONS = [
    *resource("/certificates", CERTIFICATE),
    ("GET", "/certificates/{id}/versions", 200, VERSION),
    ("POST", "/certificates/{id}/renew", 202, "status"),
    ("POST", "/certificates/{id}/deploy", 202, "status"),
    ("POST", "/certificates/{id}/revoke", 200, "status"),
    ("POST", "/certificates/bulk-revoke", 200, f"{BULK} total_revoked"),
    ("POST", "/certificates/bulk-renew", 200, f"{BULK} total_enqueued enqueued_jobs"),
    ("POST", "/certificates/bulk-reassign", 200, f"{BULK} total_reassigned"),
    ("GET", "/certificates/{id}/export/pem", 200, "cert_pem chain_pem full_pem"),
    ("POST", "/certificates/{id}/export/pkcs12", 200, ""),
    ("GET", "/certificates/{id}/deployments", 200, TARGET),
    *resource("/issuers", ISSUER),
    ("POST", "/issuers/{id}/test", 200, "status"),
    *resource("/targets", TARGET),
    ("GET", "/agents", 200, AGENT),
    ("GET", "/agents/retired", 200, AGENT),
    ("GET", "/agents/{id}", 200, AGENT),
    ("DELETE", "/agents/{id}", 200, "retired_at already_retired cascade counts"),
    ("POST", "/agents/{id}/heartbeat", 200, "status"),
    ("POST", "/agents/{id}/csr", 202, "status"),
    ("GET", "/agents/{id}/work", 200, "jobs count"),
    ("POST", "/agents/{id}/jobs/{job_id}/status", 200, "status"),
    *resource("/agent-groups", GROUP),
    ("GET", "/agent-groups/{id}/members", 200, AGENT),
    ("GET", "/jobs", 200, JOB),
    ("GET", "/jobs/{id}", 200, JOB),
    ("POST", "/jobs/{id}/cancel", 200, "status"),
    ("POST", "/jobs/{id}/approve", 200, "status"),
    ("POST", "/jobs/{id}/reject", 200, "status"),
    ("GET", "/approvals", 200, "id certificate_id profile_id requested_by state decided_by"),
    ("POST", "/approvals/{id}/approve", 200, "id decided_by action"),
    ("POST", "/approvals/{id}/reject", 200, "id decided_by action"),
    *resource("/policies", "id name type config enabled severity created_at updated_at"),
    ("GET", "/policies/{id}/violations", 200, "id certificate_id rule_id message severity"),
    *resource("/renewal-policies", RENEWAL_POLICY),
    *resource("/profiles", PROFILE),
    *resource("/teams", "id name description created_at updated_at"),
    *resource("/owners", "id name email team_id created_at updated_at"),
    ("GET", "/notifications", 200, NOTIFICATION),
    ("GET", "/notifications/{id}", 200, NOTIFICATION),
    ("POST", "/notifications/{id}/read", 200, "status"),
    ("POST", "/notifications/{id}/requeue", 200, "status"),
    ("GET", "/stats/summary", 200, SUMMARY),
    ("GET", "/stats/certificates-by-status", 200, "status_counts"),
    ("GET", "/stats/expiration-timeline", 200, "buckets"),
    ("GET", "/stats/job-trends", 200, "trends"),
    ("GET", "/stats/issuance-rate", 200, "rate"),
    ("GET", "/metrics", 200, "gauge counter uptime"),
    ("GET", "/metrics/prometheus", 200, ""),
    ("GET", "/digest/preview", 200, ""),
    ("POST", "/digest/send", 200, "status"),
]
DOCUMENT = app.openapi_document()


def answer_of(method: str, path: str, status: int) -> dict[str, Any]:
    found = DOCUMENT["paths"]["/api/v1" + path][method.lower()]["responses"][str(status)]
    content: dict[str, Any] = found.get("content", {}).get("application/json", {})
    return followed(content.get("schema", {}))


def followed(schema: dict[str, Any]) -> dict[str, Any]:
    """The object that a schema means, or its rows when it is a list."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    rows = schema.get("properties", {}).get("data")
    return followed(rows["items"]) if rows else schema


def without_names(path: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


@pytest.mark.parametrize(
    ("method", "path", "status", "fields"), OPERATIONS, ids=lambda each: str(each)[:40]
)
def test_an_established_operation_answers_with_its_fields(
    method: str, path: str, status: int, fields: str
) -> None:
    properties = answer_of(method, path, status).get("properties", {})
    assert set(fields.split()) - set(properties) == set()


def test_the_table_of_routes_names_every_established_operation() -> None:
    listed = {tuple(line.split()[:2]) for line in app.table().splitlines()}
    shown = {(method, without_names(path)) for method, path in listed}
    wanted = {(method, without_names("/api/v1" + path)) for method, path, _, _ in OPERATIONS}
    assert wanted - shown == set()
