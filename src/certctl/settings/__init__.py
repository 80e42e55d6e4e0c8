"""Every setting of the control plane: its name, type, default and meaning.

The environment variable of a field is `CERTCTL_` and the field's name in capitals. A value that
does not parse stops the start and is named; there are no silent defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from certctl.domain.errors import Invalid, Unsafe
from certctl.domain.names import parse_names
from certctl.settings.forms import (
    PLACEHOLDERS,
    Duration,
    Flag,
    NamedKey,
    Networks,
    Port,
    is_loopback,
    named_keys,
    names,
    origins,
    plain_keys,
)
from certctl.settings.key_homes import KeyHomes

PREFIX = "CERTCTL_"


class Settings(KeyHomes):
    """What the control plane is told at the start; immutable afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(
        Path("var"), description="Directory for the embedded database, keys and client.toml"
    )
    server_host: str = Field("127.0.0.1", description="Address of the management listener (HTTPS)")
    server_port: Port = Field(8443, description="Port of the management listener (HTTPS)")
    server_tls_cert_path: Path | None = Field(
        None, description="PEM chain for the management listener; default: issued by the own CA"
    )
    server_tls_key_path: Path | None = Field(None, description="PEM key of that chain")
    ca_cert_path: Path | None = Field(
        None,
        description="PEM certificate of a CA, and the chain above it, that is to be the built-in "
        "issuer's at the first start; default: a root of its own",
    )
    ca_key_path: Path | None = Field(None, description="PEM key of that CA, unencrypted")
    server_names: str = Field(
        "localhost,127.0.0.1,::1",
        description="Names in the server certificate that the own CA issues, comma-separated",
    )
    pki_http_host: str = Field(
        "127.0.0.1", description="Address of the plain-http listener for OCSP, CRL and CA files"
    )
    pki_http_port: Port = Field(8080, description="Port of the plain-http listener")
    pki_http_processes: int = Field(
        1,
        ge=0,
        le=64,
        description="Processes that answer on it; 0: `certctl plane` is started by itself",
    )
    pki_base_url: str = Field(
        "", description="http URL written into certificates; default: the plain-http listener"
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        description="postgres:// URL of a PostgreSQL 15 or newer; default: an embedded one",
    )
    database_owner_url: SecretStr = Field(
        SecretStr(""),
        description="The same database as the role that owns its tables: it migrates, and the role "
        "of CERTCTL_DATABASE_URL can then only add to the audit trail",
    )
    database_max_conns: int = Field(
        20,
        ge=4,
        le=500,
        description="Most connections that one process opens for requests; a fifth of them is for "
        "OCSP and CRLs alone",
    )
    config_encryption_key: SecretStr = Field(
        SecretStr(""),
        description="Passphrase for secrets at rest, 32 bytes or more; default: one is made",
    )
    api_keys_named: Annotated[tuple[NamedKey, ...], BeforeValidator(named_keys)] = Field(
        (), description="API keys as name:key[:admin], comma-separated"
    )
    auth_type: Literal["api-key", "oidc", "none"] = Field(
        "api-key",
        description="How callers prove who they are: api-key; oidc, which is the same and tells "
        "clients that people sign in; or none, which makes everybody on this machine an "
        "administrator (beyond loopback it needs CERTCTL_DEMO_MODE_ACK)",
    )
    auth_secret: Annotated[tuple[SecretStr, ...], BeforeValidator(plain_keys)] = Field(
        (), description="API keys without names, comma-separated; they may read"
    )
    bootstrap_token: SecretStr = Field(
        SecretStr(""),
        description="One-time token that makes the first administrator, 32 bytes or more; without "
        "it the first start makes one",
    )
    bootstrap_admin_groups: Annotated[tuple[str, ...], BeforeValidator(names)] = Field(
        (),
        description="Groups, comma-separated, of which the first to sign in becomes an "
        "administrator, while no person is one",
    )
    bootstrap_oidc_provider_id: str = Field(
        "", description="Id of the provider whose groups these are"
    )
    session_idle_timeout: Duration = Field(
        timedelta(hours=1),
        ge=timedelta(minutes=2),
        description="Silence after which a browser session is over",
    )
    session_absolute_timeout: Duration = Field(
        timedelta(hours=8), ge=timedelta(minutes=5), description="Longest life of a browser session"
    )
    session_samesite: Literal["Lax", "Strict"] = Field(
        "Lax", description="SameSite of the session's cookies"
    )
    session_bind_ip: Flag = Field(
        False, description="Whether a session counts from its first address only"
    )
    session_bind_user_agent: Flag = Field(
        False, description="Whether a session counts with its first User-Agent only"
    )
    oidc_prelogin_require_ip: Flag = Field(
        True, description="Whether a login must end at the address where it began"
    )
    oidc_prelogin_require_ua: Flag = Field(
        True, description="Whether a login must end with the User-Agent with which it began"
    )
    oidc_bcl_max_age_seconds: int = Field(
        60, ge=1, le=3600, description="Largest age of a back-channel logout token, in seconds"
    )
    breakglass_enabled: Flag = Field(
        False, description="Whether people may sign in with a break-glass password"
    )
    breakglass_lockout_threshold: int = Field(
        5, ge=1, le=100, description="Failures after which a break-glass password is locked"
    )
    breakglass_lockout_duration: Duration = Field(
        timedelta(minutes=15), ge=timedelta(seconds=1), description="How long it is locked"
    )
    breakglass_lockout_reset_interval: Duration = Field(
        timedelta(hours=1),
        ge=timedelta(seconds=1),
        description="Time without a failure after which failures are forgotten",
    )
    user_retention_window: Duration = Field(
        timedelta(days=30),
        ge=timedelta(days=1),
        description="Time after which name and address of a deactivated person are forgotten",
    )
    keygen_mode: Literal["agent", "server"] = Field(
        "agent",
        description="Who makes the keys of certificates without a target: their operators "
        "(agent), or the server (needs CERTCTL_DEMO_MODE_ACK); agents make their own always",
    )
    demo_mode_ack: Flag = Field(
        False,
        description="Acknowledges CERTCTL_KEYGEN_MODE=server, CERTCTL_CORS_ORIGINS=*, and "
        "CERTCTL_AUTH_TYPE=none beyond loopback",
    )
    max_body_size: int = Field(
        1_048_576, ge=1024, le=64 * 1_048_576, description="Largest request body in bytes"
    )
    request_timeout: Duration = Field(
        timedelta(minutes=2),
        ge=timedelta(seconds=1),
        description="Longest time for a request; an agent's wait for work has its own",
    )
    max_connections_per_address: int = Field(
        200, ge=1, description="Connections at once from a source address, to each listener"
    )
    trusted_proxies: Networks = Field(
        (),
        description="Addresses and networks of proxies whose X-Forwarded-For is believed, "
        "comma-separated",
    )
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(origins)] = Field(
        (),
        description="Origins whose pages may read the management API in a browser, "
        "comma-separated; * needs CERTCTL_DEMO_MODE_ACK",
    )
    log_level: Literal["debug", "info", "warn", "error"] = Field(
        "info", description="Least severe level that is logged"
    )
    log_format: Literal["json", "text"] = Field("json", description="Form of log lines")
    rate_limit_enabled: Flag = Field(True, description="Whether rate limits apply")
    rate_limit_rps: float = Field(
        50,
        gt=0,
        allow_inf_nan=False,
        description="Requests a second for each source address",
    )
    rate_limit_burst: int = Field(100, ge=1, description="Requests at once for each source address")
    rate_limit_per_user_rps: float = Field(
        0,
        ge=0,
        allow_inf_nan=False,
        description="Requests a second for each API key; 0: as for an address",
    )
    rate_limit_per_user_burst: int = Field(
        0, ge=0, description="Requests at once for each API key; 0: as for an address"
    )
    ocsp_rate_limit_per_ip_min: int = Field(
        1000, ge=1, description="OCSP and CRL requests a minute for each source address"
    )
    scheduler_renewal_check_interval: Duration = Field(
        timedelta(hours=1), ge=timedelta(minutes=1), description="How often due renewals are sought"
    )
    job_awaiting_csr_timeout: Duration = Field(
        timedelta(hours=24), ge=timedelta(seconds=1), description="Longest wait for an agent's CSR"
    )
    job_awaiting_approval_timeout: Duration = Field(
        timedelta(hours=168),
        ge=timedelta(seconds=1),
        description="Longest wait for a second person's decision; then the job is cancelled",
    )
    job_agent_offline_ttl: Duration = Field(
        timedelta(minutes=5),
        gt=timedelta(0),
        description="Silence of an agent after which its running jobs go back to the queue",
    )
    agent_credential_renew_after: Duration = Field(
        timedelta(days=30),
        ge=timedelta(minutes=1),
        description="Age at which an agent exchanges its credential for another",
    )
    job_lease: Duration = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=1),
        description="Time a worker or an agent has for a job before it is offered again",
    )
    job_retention: Duration = Field(
        timedelta(days=90), ge=timedelta(days=1), description="How long ended jobs are kept"
    )
    notification_retention: Duration = Field(
        timedelta(days=90),
        ge=timedelta(days=1),
        description="How long notifications and resolved violations are kept",
    )
    renewal_concurrency: int = Field(
        25, ge=1, le=500, description="Most questions to outside CAs at once"
    )
    acme_ari_http_timeout_seconds: int = Field(
        15,
        description="Seconds that a CA has to say when to renew (RFC 9773); 0 or less: 15",
    )
    policy_block_severity: Literal["", "Warning", "Error", "Critical"] = Field(
        "", description="Severity from which a violated policy rule blocks; default: none does"
    )
    webhook_url: SecretStr = Field(
        SecretStr(""), description="http(s) URL that notifications are posted to, signed"
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""), description="Secret under which they are signed (HMAC-SHA256)"
    )
    outbound_allow: Networks = Field(
        (),
        description="Addresses and networks that certctl may call although they are reserved, "
        "comma-separated, such as 127.0.0.1,169.254.7.0/24",
    )
    block_rfc1918_outbound: Flag = Field(
        False, description="Whether certctl calls no private networks either"
    )
    digest_enabled: Flag = Field(False, description="Whether a digest is sent each day")
    crl_validity: Duration = Field(
        timedelta(days=1), ge=timedelta(hours=1), le=timedelta(days=10), description="Life of a CRL"
    )
    ocsp_validity: Duration = Field(
        timedelta(hours=1),
        ge=timedelta(minutes=1),
        le=timedelta(days=7),
        description="Life of an OCSP response",
    )
    ocsp_live_rate: int = Field(
        10_000,
        ge=1,
        description="OCSP responses a second that a process signs at request, as for nonces",
    )
    ocsp_responder_validity: Duration = Field(
        timedelta(hours=720), ge=timedelta(hours=1), description="Life of a responder certificate"
    )
    ocsp_responder_rotation_grace: Duration = Field(
        timedelta(hours=168), description="Time before its end at which a responder is replaced"
    )
    server_certificate_validity: Duration = Field(
        timedelta(days=30), ge=timedelta(hours=1), description="Life of the own server certificate"
    )
    audit_checkpoint_interval: Duration = Field(
        timedelta(hours=1),
        ge=timedelta(minutes=1),
        description="How often the newest seal of the audit trail is signed",
    )
    audit_checkpoint_dir: Path | None = Field(
        None,
        description="Directory where signed checkpoints are also written, to be kept elsewhere",
    )
    shutdown_grace: Duration = Field(
        timedelta(seconds=20), description="Longest wait for requests and jobs at the stop"
    )

    @field_validator("auth_type", mode="before")
    @classmethod
    def _no_jwt(cls, value: Any) -> Any:
        if value == "jwt":
            raise ValueError("jwt is gone: use API keys, api-key")
        return value

    @field_validator("config_encryption_key", "bootstrap_token")
    @classmethod
    def _strong(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text and (weak := weakness(text)):
            raise ValueError(weak)
        return value

    @field_validator("server_names")
    @classmethod
    def _names(cls, value: str) -> str:
        try:
            names = parse_names(filter(None, (name.strip() for name in value.split(","))))
        except Invalid as error:
            raise ValueError(error.message.removeprefix("sans: ")) from None
        if not names:
            raise ValueError("needs one name at least")
        return value

    @field_validator("pki_base_url")
    @classmethod
    def _plain_http(cls, value: str) -> str:
        if value and not re.fullmatch(r"http://[^/\s]+(/[^\s]*)?", value):
            raise ValueError("must be an http:// URL: relying parties fetch it without TLS")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if (self.server_tls_cert_path is None) != (self.server_tls_key_path is None):
            raise ValueError(
                "CERTCTL_SERVER_TLS_CERT_PATH and CERTCTL_SERVER_TLS_KEY_PATH go together"
            )
        if (self.ca_cert_path is None) != (self.ca_key_path is None):
            raise ValueError("CERTCTL_CA_CERT_PATH and CERTCTL_CA_KEY_PATH go together")
        if self.owner_url and not self.database_url.get_secret_value():
            raise ValueError("CERTCTL_DATABASE_OWNER_URL goes together with CERTCTL_DATABASE_URL")
        if self.auth_type == "none" and not (is_loopback(self.server_host) or self.demo_mode_ack):
            raise ValueError(
                "CERTCTL_AUTH_TYPE=none makes everybody an administrator, and CERTCTL_SERVER_HOST "
                "is not a loopback address: acknowledge it with CERTCTL_DEMO_MODE_ACK=true"
            )
        if self.keygen_mode == "server" and not self.demo_mode_ack:
            raise ValueError(
                "CERTCTL_KEYGEN_MODE=server lets private keys be made and kept on the server: "
                "acknowledge it with CERTCTL_DEMO_MODE_ACK=true"
            )
        if "*" in self.cors_origins and not self.demo_mode_ack:
            raise ValueError(
                "CERTCTL_CORS_ORIGINS=* lets every page that somebody opens read the management "
                "API: list the origins, or acknowledge it with CERTCTL_DEMO_MODE_ACK=true"
            )
        if bool(self.bootstrap_admin_groups) != bool(self.bootstrap_oidc_provider_id):
            raise ValueError(
                "CERTCTL_BOOTSTRAP_ADMIN_GROUPS and CERTCTL_BOOTSTRAP_OIDC_PROVIDER_ID go together"
            )
        if self.ocsp_responder_rotation_grace >= self.ocsp_responder_validity:
            raise ValueError(
                "CERTCTL_OCSP_RESPONDER_ROTATION_GRACE must be shorter than "
                "CERTCTL_OCSP_RESPONDER_VALIDITY"
            )
        if not self.pki_base_url and self.pki_http_host in {"0.0.0.0", "::"}:  # noqa: S104
            raise ValueError(
                "CERTCTL_PKI_BASE_URL is needed when CERTCTL_PKI_HTTP_HOST is every address; "
                "set it to the http URL that relying parties reach"
            )
        if is_loopback_url(self.public_url) and not is_loopback(self.pki_http_host):
            raise ValueError(
                "CERTCTL_PKI_BASE_URL is a loopback address although CERTCTL_PKI_HTTP_HOST is not; "
                "set it to the http URL that relying parties reach"
            )
        return self

    @property
    def owner_url(self) -> str:
        """The URL of the tables' owner; empty when the server's own role is that."""
        return self.database_owner_url.get_secret_value()

    @property
    def public_url(self) -> str:
        """The http URL under which relying parties fetch OCSP, CRLs and CA certificates."""
        host = f"[{self.pki_http_host}]" if ":" in self.pki_http_host else self.pki_http_host
        return self.pki_base_url or f"http://{host}:{self.pki_http_port}"

    @property
    def ari_timeout(self) -> timedelta:
        """Time for a CA's renewal information; what is not positive means 15 s."""
        seconds = self.acme_ari_http_timeout_seconds
        return timedelta(seconds=seconds if seconds > 0 else 15)

    @property
    def server_name_list(self) -> tuple[str, ...]:
        return tuple(filter(None, (name.strip() for name in self.server_names.split(","))))


def weakness(passphrase: str) -> str | None:
    """What is wrong with a passphrase for secrets at rest, in words."""
    if passphrase in PLACEHOLDERS:
        return "is the placeholder of an example; make one of your own"
    return "must have 32 bytes or more" if len(passphrase.encode()) < 32 else None


def is_loopback_url(url: str) -> bool:
    host = url.removeprefix("http://").split("/")[0]
    return host.startswith("[::1]") or is_loopback(host.rsplit(":", 1)[0])


def load(environment: Mapping[str, str]) -> Settings:
    """The settings of the environment; an empty value counts as absent.

    Raises:
        Unsafe: one sentence that names the variable and what it accepts.
    """
    given = {
        field: environment[variable(field)]
        for field in Settings.model_fields
        if environment.get(variable(field))
    }
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = variable(str(first["loc"][0])) if first["loc"] else ""
        text = first["msg"].removeprefix("Value error, ")
        raise Unsafe(f"{name}: {text}" if name else text) from None


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def table() -> str:
    """Every setting as a Markdown table; `docs/reference/settings.md` is this text."""
    rows = ["| Setting | Default | Meaning |", "|---|---|---|"]
    inherited = KeyHomes.model_fields
    for field in sorted(Settings.model_fields, key=lambda name: name in inherited):
        info = Settings.model_fields[field]
        rows.append(f"| `{variable(field)}` | {_shown(info.default)} | {info.description} |")
    return "\n".join(rows) + "\n"


def _shown(value: Any) -> str:
    if value is None or value == () or (isinstance(value, SecretStr | str) and not len(value)):
        return "–"
    if isinstance(value, timedelta):
        return f"`{duration_text(value)}`"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def duration_text(value: timedelta) -> str:
    """As a setting is written: `90m`, `1h`."""
    seconds = int(value.total_seconds())
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
