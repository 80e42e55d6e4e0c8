"""Teams, owners, profiles and renewal policies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from certctl.domain.profile import KEY_SIZES
from certctl.services import plain
from certctl.web.api.common import Created, Id, In, NameText, Out, checked_email
from certctl.web.api.crud import crud

Email = Annotated[str, Field(max_length=255), AfterValidator(checked_email)]
Description = Annotated[str, Field(max_length=2000)]


class NewTeam(In):
    id: Id | None = None
    name: NameText
    description: Description = ""


class TeamChange(In):
    name: NameText | None = None
    description: Description | None = None


class Team(Out):
    id: str
    name: str
    description: str
    created_at: Created
    updated_at: Created


class NewOwner(In):
    id: Id | None = None
    name: NameText
    email: Email = ""
    team_id: Id | None = None


class OwnerChange(In):
    name: NameText | None = None
    email: Email | None = None
    team_id: Id | None = None


class Owner(Out):
    id: str
    name: str
    email: str
    team_id: str | None
    created_at: Created
    updated_at: Created


Threshold = Annotated[int, Field(ge=0, le=365)]
WindowDays = Annotated[int, Field(ge=1, le=365)]
Retries = Annotated[int, Field(ge=0, le=10)]
RetryInterval = Annotated[int, Field(ge=60, le=86400)]
Thresholds = Annotated[list[Threshold], Field(max_length=20)]
Tier = Literal["informational", "warning", "critical"]
Channel = Literal["Email", "Webhook", "Slack", "Teams", "PagerDuty", "OpsGenie"]
Channels = dict[Tier, Annotated[list[Channel], Field(max_length=6)]]
Days = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,2})$")]
Severities = Annotated[dict[Days, Tier], Field(max_length=20)]
# What went well is told only where it is asked for.
TROUBLE: Channels = {"informational": [], "warning": ["Webhook"], "critical": ["Webhook"]}
SEVERITIES: Severities = {"30": "informational", "14": "warning", "7": "warning", "0": "critical"}


class NewRenewalPolicy(In):
    id: Id | None = None
    name: NameText
    renewal_window_days: WindowDays = 30
    auto_renew: bool = True
    max_retries: Retries = 3
    retry_interval_seconds: RetryInterval = 3600
    alert_thresholds_days: Thresholds = [30, 14, 7, 0]
    alert_channels: Channels = TROUBLE
    alert_severity_map: Severities = SEVERITIES
    certificate_profile_id: Id | None = None
    agent_group_id: Id | None = None


class RenewalPolicyChange(In):
    name: NameText | None = None
    renewal_window_days: WindowDays | None = None
    auto_renew: bool | None = None
    max_retries: Retries | None = None
    retry_interval_seconds: RetryInterval | None = None
    alert_thresholds_days: Thresholds | None = None
    alert_channels: Channels | None = None
    alert_severity_map: Severities | None = None
    certificate_profile_id: Id | None = None
    agent_group_id: Id | None = None


class RenewalPolicy(Out):
    id: str
    name: str
    renewal_window_days: int
    auto_renew: bool
    max_retries: int
    retry_interval_seconds: int
    alert_thresholds_days: list[int]
    alert_channels: dict[Tier, list[Channel]]
    alert_severity_map: dict[str, Tier]
    certificate_profile_id: str | None
    agent_group_id: str | None
    created_at: Created
    updated_at: Created


Eku = Literal["serverAuth", "clientAuth", "codeSigning", "emailProtection", "timeStamping"]


class KeyAlgorithmRule(In):
    """`min_size`, in bits, is by default the least that is safe; for ML-DSA it is the least
    parameter set: 44, 65 or 87."""

    algorithm: Literal["ECDSA", "RSA", "Ed25519", "ML-DSA"]
    min_size: Annotated[int, Field(ge=0, le=8192)] = 0

    @model_validator(mode="before")
    @classmethod
    def _least(cls, given: Any) -> Any:
        if isinstance(given, dict) and "min_size" not in given:
            sizes = KEY_SIZES.get(str(given.get("algorithm")), (0,))
            return {**given, "min_size": sizes[0]}
        return given


KeyRules = Annotated[list[KeyAlgorithmRule], Field(min_length=1, max_length=10)]
Lifetime = Annotated[int, Field(ge=600, le=397 * 86400)]
Shards = Annotated[int, Field(ge=0, le=1024)]
Pattern = Annotated[str, Field(max_length=256)]
Address = Annotated[str, Field(max_length=255)]
Oids = Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=10)]
Ekus = Annotated[list[Eku], Field(min_length=1, max_length=5)]
Patterns = Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=50)]
EC_OR_RSA = [
    KeyAlgorithmRule(algorithm="ECDSA", min_size=256),
    KeyAlgorithmRule(algorithm="RSA", min_size=2048),
]


class NewProfile(In):
    id: Id | None = None
    name: NameText
    description: Description = ""
    allowed_key_algorithms: KeyRules = EC_OR_RSA
    max_ttl_seconds: Lifetime = 90 * 86400
    allowed_ekus: Ekus = ["serverAuth"]
    required_san_patterns: Patterns = []
    must_staple: bool = False
    must_staple_critical: bool = False
    certificate_policies: Oids = []
    cps_uri: Address = ""
    crl_shards: Shards = 0
    allow_single_labels: bool = False
    spiffe_uri_pattern: Pattern = ""
    allow_short_lived: bool = False
    requires_approval: bool = False
    enabled: bool = True


class ProfileChange(In):
    name: NameText | None = None
    description: Description | None = None
    allowed_key_algorithms: KeyRules | None = None
    max_ttl_seconds: Lifetime | None = None
    allowed_ekus: Ekus | None = None
    required_san_patterns: Patterns | None = None
    must_staple: bool | None = None
    must_staple_critical: bool | None = None
    certificate_policies: Oids | None = None
    cps_uri: Address | None = None
    crl_shards: Shards | None = None
    allow_single_labels: bool | None = None
    spiffe_uri_pattern: Pattern | None = None
    allow_short_lived: bool | None = None
    requires_approval: bool | None = None
    enabled: bool | None = None


class Profile(Out):
    id: str
    name: str
    description: str
    version: int
    allowed_key_algorithms: list[KeyAlgorithmRule]
    max_ttl_seconds: int
    allowed_ekus: list[str]
    required_san_patterns: list[str]
    must_staple: bool
    must_staple_critical: bool
    certificate_policies: list[str]
    cps_uri: str
    crl_shards: int
    allow_single_labels: bool
    spiffe_uri_pattern: str
    allow_short_lived: bool
    requires_approval: bool
    enabled: bool
    warnings: list[str]
    created_at: Created
    updated_at: Created


teams = crud("/teams", plain.TEAMS, create=NewTeam, update=TeamChange, shown=Team)
owners = crud(
    "/owners",
    plain.OWNERS,
    create=NewOwner,
    update=OwnerChange,
    shown=Owner,
    clearable=frozenset({"team_id"}),
)
renewal_policies = crud(
    "/renewal-policies",
    plain.RENEWAL_POLICIES,
    create=NewRenewalPolicy,
    update=RenewalPolicyChange,
    shown=RenewalPolicy,
    clearable=frozenset({"certificate_profile_id", "agent_group_id"}),
)
profiles = crud("/profiles", plain.PROFILES, create=NewProfile, update=ProfileChange, shown=Profile)
