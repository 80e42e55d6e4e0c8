"""What the control plane is told: every setting parses, or stops the start with its name."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from certctl.domain.errors import Unsafe
from certctl.settings import Settings, load, table, variable

# For each setting a text it takes with what it becomes, and texts that it refuses.
TABLE: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "data_dir": ("/srv/certctl", Path("/srv/certctl"), ()),
    "server_host": ("10.0.0.1", "10.0.0.1", ()),
    "server_port": ("9443", 9443, ("0", "65536", "https", "84.43")),
    "server_tls_cert_path": ("/etc/c.pem", Path("/etc/c.pem"), ()),
    "server_tls_key_path": ("/etc/k.pem", Path("/etc/k.pem"), ()),
    "ca_cert_path": ("/etc/ca.pem", Path("/etc/ca.pem"), ()),
    "ca_key_path": ("/etc/ca.key", Path("/etc/ca.key"), ()),
    "server_names": ("a.example, 10.0.0.1", "a.example, 10.0.0.1", (",", "not a name", "a..b")),
    "pki_http_host": ("127.0.0.2", "127.0.0.2", ("0.0.0.0", "::")),
    "pki_http_port": ("80", 80, ("-1", "eighty")),
    "pki_http_processes": ("0", 0, ("-1", "65", "all")),
    "pki_base_url": ("http://pki.example/", "http://pki.example", ("https://pki.example", "pki")),
    "database_url": ("postgres://db/x", "postgres://db/x", ()),
    "database_owner_url": ("postgres://owner@db/x", "postgres://owner@db/x", ()),
    "database_max_conns": ("4", 4, ("3", "501", "many")),
    "config_encryption_key": ("k" * 32, "k" * 32, ("k" * 31, "change-me-32-char-encryption-key")),
    "api_keys_named": ("", (), ("name", "name:", ":key", "n:0123456789abcdef:root", "n:short")),
    "auth_type": ("oidc", "oidc", ("jwt", "OIDC", "None")),
    "auth_secret": ("", (), ("short", "change-me-in-production", "k" * 16 + "," + "k" * 16)),
    "bootstrap_token": ("t" * 32, "t" * 32, ("t" * 31,)),
    "bootstrap_admin_groups": ("bosses, ops", ("bosses", "ops"), ()),
    "bootstrap_oidc_provider_id": ("op-1", "op-1", ()),
    "session_idle_timeout": ("30m", timedelta(minutes=30), ("119s", "30", "-1h")),
    "session_absolute_timeout": ("12h", timedelta(hours=12), ("4m", "a day")),
    "session_samesite": ("Strict", "Strict", ("None", "lax")),
    "session_bind_ip": ("true", True, ("loosely",)),
    "session_bind_user_agent": ("true", True, ("loosely",)),
    "oidc_prelogin_require_ip": ("false", False, ("2",)),
    "oidc_prelogin_require_ua": ("false", False, ("2",)),
    "oidc_bcl_max_age_seconds": ("120", 120, ("0", "3601", "60s")),
    "breakglass_enabled": ("true", True, ("perhaps",)),
    "breakglass_lockout_threshold": ("3", 3, ("0", "101", "few")),
    "breakglass_lockout_duration": ("1h", timedelta(hours=1), ("0s", "15")),
    "breakglass_lockout_reset_interval": ("30m", timedelta(minutes=30), ("0s", "1")),
    "user_retention_window": ("240h", timedelta(days=10), ("23h", "30")),
    "keygen_mode": ("agent", "agent", ("server", "AGENT")),
    "demo_mode_ack": ("true", True, ("maybe",)),
    "max_body_size": ("2048", 2048, ("1023", "1M", "99999999999")),
    "request_timeout": ("90s", timedelta(seconds=90), ("500ms", "90")),
    "max_connections_per_address": ("20", 20, ("0", "few")),
    "trusted_proxies": (
        "10.0.0.1, fd00::/8",
        (ip_network("10.0.0.1/32"), ip_network("fd00::/8")),
        ("proxy", "10.0.0.1/8", "*"),
    ),
    "cors_origins": (
        "https://console.example, http://[::1]:5173",
        ("https://console.example", "http://[::1]:5173"),
        ("*", "null", "console.example", "https://a.example/", "https://*.example", "HTTPS://A"),
    ),
    "log_level": ("warn", "warn", ("loud", "WARN")),
    "log_format": ("text", "text", ("xml",)),
    "rate_limit_enabled": ("no", False, ("off?", "2")),
    "rate_limit_rps": ("2.5", 2.5, ("0", "-1", "fast", "nan", "inf")),
    "rate_limit_burst": ("7", 7, ("0", "1.5")),
    "rate_limit_per_user_rps": ("3", 3.0, ("-1", "nan", "inf")),
    "rate_limit_per_user_burst": ("9", 9, ("-1",)),
    "ocsp_live_rate": ("50", 50, ("0", "fast")),
    "ocsp_rate_limit_per_ip_min": ("60", 60, ("0",)),
    "scheduler_renewal_check_interval": ("5m", timedelta(minutes=5), ("5", "59s", "soon")),
    "job_awaiting_csr_timeout": ("90m", timedelta(minutes=90), ("0s", "1 day")),
    "job_awaiting_approval_timeout": ("24h", timedelta(days=1), ("0s", "a week")),
    "job_agent_offline_ttl": ("90s", timedelta(seconds=90), ("0s", "-5m", "5")),
    "notification_retention": ("30d", timedelta(days=30), ("1h", "x")),
    "renewal_concurrency": ("5", 5, ("0", "-1", "501")),
    "acme_ari_http_timeout_seconds": ("7", 7, ("7s", "soon")),
    "policy_block_severity": ("Error", "Error", ("error", "Fatal")),
    "webhook_url": ("https://hooks.example/x", "https://hooks.example/x", ()),
    "webhook_secret": ("s" * 32, "s" * 32, ()),
    "outbound_allow": (
        "127.0.0.1, fd00::/8",
        (ip_network("127.0.0.1/32"), ip_network("fd00::/8")),
        ("localhost", "127.0.0.1/8", "10.0.0.0/33", "127.0.0.1 ::1", "127.0.0.1,x"),
    ),
    "block_rfc1918_outbound": ("true", True, ("private",)),
    "digest_enabled": ("yes", True, ("daily",)),
    "agent_credential_renew_after": ("7d", timedelta(days=7), ("59s", "7")),
    "job_lease": ("1m30s", timedelta(seconds=90), ("100ms", "30")),
    "job_retention": ("7d", timedelta(days=7), ("1h", "7w")),
    "crl_validity": ("12h", timedelta(hours=12), ("59m", "11d")),
    "ocsp_validity": ("30m", timedelta(minutes=30), ("30s", "8d")),
    "ocsp_responder_validity": ("400h", timedelta(hours=400), ("10m", "100h")),
    "ocsp_responder_rotation_grace": ("1h", timedelta(hours=1), ("720h", "-1h")),
    "server_certificate_validity": ("48h", timedelta(days=2), ("30m", "9" * 20 + "d")),
    "audit_checkpoint_interval": ("30m", timedelta(minutes=30), ("59s", "hourly")),
    "audit_checkpoint_dir": ("/srv/kept", Path("/srv/kept"), ()),
    "pkcs11_module": ("/usr/lib/hsm.so", Path("/usr/lib/hsm.so"), ()),
    "pkcs11_token": ("certctl", "certctl", ()),
    "pkcs11_pin": ("123456", "123456", ()),
    "aws_kms_region": ("eu-central-1", "eu-central-1", ("Frankfurt", "eu central", "eu")),
    "aws_kms_endpoint": (
        "https://kms.example/",
        "https://kms.example",
        (
            "kms.example",
            "http://kms.example",
            "https://kms.example/path",
            "https://u:p@kms.example",
        ),
    ),
    "aws_kms_alias_prefix": ("pki/", "pki/", ("aws/", "a b", "alias:")),
    "gcp_kms_key_ring": (
        "projects/p/locations/global/keyRings/r",
        "projects/p/locations/global/keyRings/r",
        ("r", "projects/p/locations/global/keyRings/", "projects/p/locations/global/keyRings/r/x"),
    ),
    "gcp_kms_protection_level": ("HSM", "HSM", ("hsm", "EXTERNAL")),
    "gcp_kms_endpoint": ("http://127.0.0.1:9", "http://127.0.0.1:9", ("http://kms.example",)),
    "azure_key_vault_url": (
        "https://pki.vault.azure.net",
        "https://pki.vault.azure.net",
        ("pki.vault.azure.net", "http://pki.vault.azure.net", "https://pki.vault.azure.net/keys"),
    ),
    "azure_key_vault_protection_level": ("HSM", "HSM", ("hsm",)),
    "signer_timeout": ("5s", timedelta(seconds=5), ("0s", "3m", "soon")),
    "shutdown_grace": ("0.5s", timedelta(seconds=0.5), ("5",)),
}
PAIRS = (
    {"server_tls_cert_path", "server_tls_key_path"},
    {"ca_cert_path", "ca_key_path"},
    {"bootstrap_admin_groups", "bootstrap_oidc_provider_id"},
    {"pkcs11_module", "pkcs11_token", "pkcs11_pin"},
)
KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def one(field: str, text: str) -> dict[str, str]:
    """The environment with this setting, and with the others that go with it."""
    others = {name for pair in PAIRS if field in pair for name in pair - {field}}
    given = {variable(name): "/x" for name in others}
    if field == "database_owner_url":
        given = {variable("database_url"): "postgres://db/x"}
    if field == "aws_kms_endpoint":
        given = {variable("aws_kms_region"): "eu-central-1"}
    if field == "gcp_kms_endpoint":
        given = {variable("gcp_kms_key_ring"): "projects/p/locations/global/keyRings/r"}
    return {variable(field): text, **given}


def plain(value: Any) -> Any:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


def test_the_table_of_this_test_names_every_setting() -> None:
    assert set(TABLE) == set(Settings.model_fields)


@pytest.mark.parametrize("field", TABLE)
def test_a_good_value_is_taken(field: str) -> None:
    text, expected, _ = TABLE[field]
    assert plain(getattr(load(one(field, text)), field)) == expected


@pytest.mark.parametrize(
    ("field", "text"), [(field, text) for field, row in TABLE.items() for text in row[2]]
)
def test_a_bad_value_stops_the_start_with_the_name_of_the_setting(field: str, text: str) -> None:
    with pytest.raises(Unsafe) as refused:
        load(one(field, text))
    assert variable(field) in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    "field",
    ["config_encryption_key", "api_keys_named", "database_url", "database_owner_url", "pkcs11_pin"],
)
def test_a_secret_is_in_no_refusal_and_no_representation(field: str) -> None:
    secret = "hunter2-hunter2"
    try:
        shown = repr(load({variable(field): f"name:{secret}"}))
    except Unsafe as error:
        shown = error.message
    assert secret not in shown


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_has_a_sentence_of_help_in_the_table(field: str) -> None:
    assert Settings.model_fields[field].description
    assert f"`{variable(field)}`" in table()


@pytest.mark.parametrize("field", Settings.model_fields)
def test_an_empty_value_counts_as_absent(field: str) -> None:
    assert load({variable(field): ""}) == load({})


def test_the_environment_wins_over_the_default_and_names_of_others_are_left_alone() -> None:
    loaded = load({"CERTCTL_SERVER_PORT": "1", "SERVER_PORT": "2", "CERTCTL_AGENT_ID": "x"})
    assert loaded.server_port == 1


def test_settings_do_not_change_after_the_start() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({}).server_port = 1  # type: ignore[misc]


def test_named_keys_carry_name_key_and_admin() -> None:
    loaded = load({"CERTCTL_API_KEYS_NAMED": f"ci:{KEY}, root:{OTHER}:admin,"})
    keys = [(each.name, plain(each.key), each.admin) for each in loaded.api_keys_named]
    assert keys == [("ci", KEY, False), ("root", OTHER, True)]


def test_a_name_given_twice_is_a_rotation() -> None:
    loaded = load({"CERTCTL_API_KEYS_NAMED": f"ci:{KEY},ci:{OTHER}"})
    assert [each.name for each in loaded.api_keys_named] == ["ci", "ci"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (f"ci:{KEY},ci:{OTHER}:admin", "disagree"),
        (f"ci:{KEY},cd:{KEY}", "same key"),
        (f"a b:{KEY}", "entry 1"),
        (f"ci:{KEY},:{OTHER}", "entry 2"),
        (f"ci:{KEY}:admin:more", "entry 1"),
    ],
)
def test_named_keys_that_do_not_fit_are_refused_in_words(text: str, word: str) -> None:
    with pytest.raises(Unsafe, match=f"CERTCTL_API_KEYS_NAMED: .*{word}"):
        load({"CERTCTL_API_KEYS_NAMED": text})


@pytest.mark.parametrize(
    "environment",
    [
        {"CERTCTL_PKI_HTTP_HOST": "0.0.0.0"},
        {"CERTCTL_PKI_HTTP_HOST": "::"},
        {"CERTCTL_PKI_HTTP_HOST": "0.0.0.0", "CERTCTL_PKI_BASE_URL": "http://127.0.0.1:8080"},
        {"CERTCTL_PKI_HTTP_HOST": "10.0.0.1", "CERTCTL_PKI_BASE_URL": "http://localhost"},
        {"CERTCTL_PKI_HTTP_HOST": "10.0.0.1", "CERTCTL_PKI_BASE_URL": "http://LOCALHOST/pki"},
        {"CERTCTL_PKI_HTTP_HOST": "10.0.0.1", "CERTCTL_PKI_BASE_URL": "http://[::1]:8080"},
    ],
)
def test_certificates_for_others_never_point_at_the_loopback(environment: dict[str, str]) -> None:
    with pytest.raises(Unsafe, match="CERTCTL_PKI_BASE_URL"):
        load(environment)


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"CERTCTL_PKI_HTTP_HOST": "::1", "CERTCTL_PKI_HTTP_PORT": "90"}, "http://[::1]:90"),
        ({"CERTCTL_PKI_HTTP_HOST": "10.0.0.1"}, "http://10.0.0.1:8080"),
        ({"CERTCTL_PKI_BASE_URL": "http://pki.example/x/"}, "http://pki.example/x"),
    ],
)
def test_the_address_in_certificates_follows_the_listener_unless_given(
    environment: dict[str, str], url: str
) -> None:
    assert load(environment).public_url == url


@pytest.mark.parametrize("field", sorted(set().union(*PAIRS)))
def test_the_settings_of_a_pair_go_together(field: str) -> None:
    with pytest.raises(Unsafe, match="go together"):
        load({variable(field): "/x"})


@pytest.mark.parametrize(("given", "seconds"), [("", 15), ("0", 15), ("-3", 15), ("4", 4)])
def test_a_time_for_renewal_information_that_is_not_positive_means_the_default(
    given: str, seconds: int
) -> None:
    loaded = load({"CERTCTL_ACME_ARI_HTTP_TIMEOUT_SECONDS": given})
    assert loaded.ari_timeout == timedelta(seconds=seconds)


def test_keys_made_by_the_server_must_be_acknowledged() -> None:
    server = {"CERTCTL_KEYGEN_MODE": "server"}
    with pytest.raises(Unsafe, match="CERTCTL_DEMO_MODE_ACK"):
        load(server)
    assert load({**server, "CERTCTL_DEMO_MODE_ACK": "true"}).keygen_mode == "server"


def test_nobody_is_an_administrator_beyond_this_machine_without_an_acknowledgement() -> None:
    open_to_all = {"CERTCTL_AUTH_TYPE": "none"}
    assert load(open_to_all).auth_type == "none"
    reachable = {**open_to_all, "CERTCTL_SERVER_HOST": "10.0.0.1"}
    with pytest.raises(Unsafe, match="CERTCTL_DEMO_MODE_ACK"):
        load(reachable)
    assert load({**reachable, "CERTCTL_DEMO_MODE_ACK": "true"}).auth_type == "none"


def test_what_took_the_place_of_jwt_is_told() -> None:
    with pytest.raises(Unsafe, match="CERTCTL_AUTH_TYPE: jwt is gone: use API keys"):
        load({"CERTCTL_AUTH_TYPE": "jwt"})


def test_keys_without_names_are_read_one_by_one() -> None:
    keys = load({"CERTCTL_AUTH_SECRET": f"{'a' * 16}, {'b' * 16}"}).auth_secret
    assert [key.get_secret_value() for key in keys] == ["a" * 16, "b" * 16]
