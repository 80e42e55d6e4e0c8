"""What people are told: kinds, severities, channels, and when a failed delivery is tried again."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Final

from certctl.domain.errors import Conflict

MOST_TRIES: Final = 5
LONGEST_WAIT: Final = timedelta(hours=1)
# What must be set for a channel; the others are names that policies may hold already.
SETTINGS: Final = {"Webhook": "CERTCTL_WEBHOOK_URL and CERTCTL_WEBHOOK_SECRET"}
CHANNELS: Final = ("Email", "Webhook", "Slack", "Teams", "PagerDuty", "OpsGenie")


class Kind(StrEnum):
    EXPIRATION_WARNING = "ExpirationWarning"
    RENEWAL_SUCCESS = "RenewalSuccess"
    RENEWAL_FAILURE = "RenewalFailure"
    DEPLOYMENT_SUCCESS = "DeploymentSuccess"
    DEPLOYMENT_FAILURE = "DeploymentFailure"
    POLICY_VIOLATION = "PolicyViolation"
    REVOCATION = "Revocation"
    DIGEST = "Digest"


class Severity(StrEnum):
    INFORMATIONAL = "informational"
    WARNING = "warning"
    CRITICAL = "critical"


class Status(StrEnum):
    """`pending` and `failed` are yet to be sent; `dead` means that nobody was told."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    DEAD = "dead"
    READ = "read"


def wait_after(failures: int, *, random: float) -> timedelta | None:
    """How long to wait after so many failures, spread by a number from 0 to 1; None: give up."""
    if failures >= MOST_TRIES:
        return None
    wait = timedelta(minutes=2**failures) * (0.75 + random / 2)
    return min(wait, LONGEST_WAIT)


def unheard(channel: str) -> str:
    """Why nothing can be sent over a channel, and what to do about it."""
    if channel in SETTINGS:
        return f"nobody was told: set {SETTINGS[channel]}, start again, then requeue this"
    return (
        f"nobody was told: there is no channel {channel}; let alert_channels of the renewal "
        f"policy name one of {', '.join(sorted(SETTINGS))}"
    )


def read_from(status: str) -> None:
    """Raises Conflict for what is yet to be sent: marked as read it would not be."""
    if status in {Status.PENDING, Status.FAILED}:
        raise Conflict(f"the notification is {status}: it is yet to be sent", field="status")


def requeue_from(status: str) -> None:
    """Raises Conflict for what has been sent, or is about to be."""
    if status not in {Status.FAILED, Status.DEAD}:
        raise Conflict(
            f"the notification is {status}; failed or dead can be requeued", field="status"
        )
