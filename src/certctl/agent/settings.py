"""Every setting of the agent: its environment variable, type, default and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from certctl.connectors.reach import Network
from certctl.domain.errors import Invalid, Unsafe
from certctl.domain.ids import checked_id

DEFAULT_SERVER_URL = "https://localhost:8443"


def _https(value: str) -> str:
    parts = urlsplit(value)
    if parts.port == 0:
        raise ValueError("has a port that does not exist")
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be an https:// URL: the agent's credential travels to it")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold a host, a port and perhaps a path, nothing else")
    return value.rstrip("/")


def _id(value: str) -> str:
    try:
        return checked_id(value)
    except Invalid as error:
        raise ValueError(error.message) from error


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("must be an absolute path")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise ValueError("must be addresses or networks, comma-separated") from error


Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
HttpsUrl = Annotated[str, AfterValidator(_https)]
Folder = Annotated[Path, AfterValidator(_absolute)]
Level = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]


class AgentSettings(BaseModel):
    """What an agent is told. After enrolment the state folder alone is enough."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    server_url: HttpsUrl | None = Field(
        default=None,
        alias="CERTCTL_SERVER_URL",
        description=f"Control plane, https only; the enrolled one, else {DEFAULT_SERVER_URL}",
    )
    agent_id: Annotated[str, AfterValidator(_id)] | None = Field(
        default=None,
        alias="CERTCTL_AGENT_ID",
        description="This agent's id, when it was registered by hand",
    )
    api_key: SecretStr | None = Field(
        default=None,
        alias="CERTCTL_API_KEY",
        description="This agent's credential, when it was registered by hand",
    )
    agent_name: str | None = Field(
        default=None,
        alias="CERTCTL_AGENT_NAME",
        max_length=128,
        description="Name shown to operators; the host name by default",
    )
    enrolment_token: SecretStr | None = Field(
        default=None,
        alias="CERTCTL_AGENT_ENROLMENT_TOKEN",
        max_length=512,
        description="One-time token of the first start: token.fingerprint-of-the-CA",
    )
    client_certificate: bool = Field(
        default=False,
        alias="CERTCTL_AGENT_CLIENT_CERTIFICATE",
        description="Whether to use a client certificate of the control plane's CA instead of the "
        "bearer credential; not through a proxy that ends TLS",
    )
    key_dir: Folder = Field(
        default=Path("/var/lib/certctl/keys"),
        alias="CERTCTL_KEY_DIR",
        description="Where private keys are made and stay",
    )
    state_dir: Folder | None = Field(
        default=None,
        alias="CERTCTL_AGENT_STATE_DIR",
        description="Where identity and CA are kept; the parent of the key folder by default",
    )
    ca_bundle: Folder | None = Field(
        default=None,
        alias="CERTCTL_SERVER_CA_BUNDLE_PATH",
        description="PEM file of the CA to trust; the enrolled one, else the system's",
    )
    poll_wait: int = Field(
        default=25,
        alias="CERTCTL_AGENT_POLL_WAIT",
        ge=1,
        le=120,
        description="Seconds for which the server may hold a request for work",
    )
    outbound_allow: Networks = Field(
        default=(),
        alias="CERTCTL_OUTBOUND_ALLOW",
        description="Reserved addresses and networks of OCSP responders that the agent may call "
        "for staples, comma-separated; those of its own host it may",
    )
    log_level: Level = Field(
        default="info",
        alias="CERTCTL_LOG_LEVEL",
        description="debug, info, warning or error",
    )

    @property
    def state_folder(self) -> Path:
        return self.state_dir or self.key_dir.parent


def load(environment: Mapping[str, str]) -> AgentSettings:
    """The settings in `environment`; an empty variable counts as unset.

    Raises:
        Unsafe: naming the variable that does not parse; its value is not repeated.
    """
    given = {name: value for name, value in environment.items() if value}
    try:
        return AgentSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        text = first["msg"].removeprefix("Value error, ")
        raise Unsafe(f"{first['loc'][0]}: {text}") from None
