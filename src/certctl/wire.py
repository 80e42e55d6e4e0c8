"""Messages between control plane and agent; both sides import this file.

Paths and field names are those established for `/api/v1/agents/…`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")


class Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Enrolment(Message):
    """POST /api/v1/agents/enrol: a one-time token exchanged for the agent's own credential."""

    token: str = Field(max_length=512)
    name: str = Field(min_length=1, max_length=128)
    hostname: str = Field(default="", max_length=255)
    os: str = Field(default="", max_length=64)
    architecture: str = Field(default="", max_length=64)
    ip_address: str = Field(default="", max_length=45)
    version: str = Field(default="", max_length=64)


class Enrolled(Message):
    """Shown once: `credential` is the bearer of this agent and of no other."""

    agent_id: str
    credential: str
    ca_pem: str


class Credential(Message):
    """POST /api/v1/agents/{id}/credential: the agent's next one, shown once."""

    credential: str


class ClientCertificateWish(Message):
    """POST /api/v1/agents/{id}/client-certificate; of the CSR nothing but the key counts."""

    csr_pem: str = Field(max_length=65536)


class ClientCertificate(Message):
    """Leaf first, then the chain; to be presented instead of the bearer credential."""

    certificate_pem: str
    not_after: datetime


class Heartbeat(Message):
    version: str = Field(default="", max_length=64)
    hostname: str = Field(default="", max_length=255)
    os: str = Field(default="", max_length=64)
    architecture: str = Field(default="", max_length=64)
    ip_address: str = Field(default="", max_length=45)


class WorkItem(Message):
    """One job leased to this agent.

    `status` says what is wanted: `AwaitingCSR` a key and a CSR, `Running` a deployment.
    `lease_seconds` is the time until the job may be offered again. `fingerprint_sha256` (lower
    hex, of the leaf's DER) and `certificate_pem` (leaf first, then the chain) come with
    deployments only. `target_config` is complete, secrets included: it is this agent's own.
    """

    id: str
    type: str
    status: str
    certificate_id: str
    common_name: str = ""
    sans: list[str] = []
    key_algorithm: str = "ECDSA-P256"
    must_staple: bool = False
    target_id: str | None = None
    target_type: str | None = None
    target_config: dict[str, Any] | None = None
    fingerprint_sha256: str | None = None
    certificate_pem: str | None = None
    lease_seconds: int = 300


class Work(Message):
    jobs: list[WorkItem]
    count: int


class CsrSubmission(Message):
    """POST /api/v1/agents/{id}/csr; without `job_id` the agent's waiting job of the certificate."""

    csr_pem: str = Field(max_length=65536)
    certificate_id: str | None = Field(default=None, max_length=128)
    job_id: str | None = Field(default=None, max_length=128)


class JobReport(Message):
    """POST /api/v1/agents/{id}/jobs/{job_id}/status; may be sent twice without harm.

    `fingerprint_sha256` is what the agent read over TLS after the deployment.
    """

    status: Literal["Running", "Completed", "Failed"]
    error: str | None = Field(default=None, max_length=4096)
    fingerprint_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    rolled_back: bool = False
    unchanged: bool = False


class CertificatePickup(Message):
    """GET /api/v1/agents/{id}/certificates/{cert_id}: this agent's live version."""

    certificate_pem: str
    fingerprint_sha256: str


class Status(Message):
    status: str


class HeartbeatRecorded(Status):
    """The credential is old: the agent asks for the next one."""

    renew_credential: bool = False
