"""What this process counts itself, under the established names."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY: Final = CollectorRegistry()
ISSUANCE: Final = Counter(
    "certctl_issuance",
    "Issuances that ended, by outcome",
    ["issuer_type", "outcome"],
    registry=REGISTRY,
)
ISSUANCE_FAILURES: Final = Counter(
    "certctl_issuance_failures",
    "Issuances that failed, by class of error",
    ["issuer_type", "error_class"],
    registry=REGISTRY,
)
ISSUANCE_SECONDS: Final = Histogram(
    "certctl_issuance_duration_seconds",
    "Time from the claim of a job to the recorded certificate",
    ["issuer_type"],
    registry=REGISTRY,
)
# Apart, since the revocation planes' are added to them.
ANSWERS: Final = CollectorRegistry()
OCSP: Final = Counter(
    "certctl_ocsp_counter", "OCSP responses by status", ["label"], registry=ANSWERS
)
DEPLOYMENTS: Final = Counter(
    "certctl_deploy_attempts",
    "Deployments that ended",
    ["target_type", "result"],
    registry=REGISTRY,
)
ROLLBACKS: Final = Counter(
    "certctl_deploy_rollback", "Deployments that were rolled back", ["target_type", "outcome"],
    registry=REGISTRY,
)  # fmt: skip
