"""The settings in force, as people may read them."""

from __future__ import annotations

from certctl.settings import load
from certctl.settings.effective import sign_in_settings

SECRET = "s" * 43


def test_settings_are_written_as_operators_write_them() -> None:
    given = {
        "CERTCTL_SESSION_IDLE_TIMEOUT": "90m",
        "CERTCTL_BREAKGLASS_ENABLED": "true",
        "CERTCTL_TRUSTED_PROXIES": "10.0.0.0/8,192.0.2.1/32",
        "CERTCTL_BOOTSTRAP_ADMIN_GROUPS": "admins,owners",
        "CERTCTL_BOOTSTRAP_OIDC_PROVIDER_ID": "op-main",
    }
    told = sign_in_settings(load(given))
    assert {name: told[name] for name in given} == given
    assert told["CERTCTL_SESSION_ABSOLUTE_TIMEOUT"] == "8h"
    assert load({name: text for name, text in told.items() if text}) == load(given)


def test_no_secret_is_among_them() -> None:
    given = {
        "CERTCTL_API_KEYS_NAMED": f"ci:{SECRET},boss:{SECRET}b:admin",
        "CERTCTL_AUTH_SECRET": f"{SECRET}c",
        "CERTCTL_BOOTSTRAP_TOKEN": f"{SECRET}d",
    }
    told = sign_in_settings(load(given))
    assert SECRET not in str(told)
    assert told["CERTCTL_API_KEYS_NAMED"] == "ci:***,boss:***:admin"
    assert (told["CERTCTL_AUTH_SECRET"], told["CERTCTL_BOOTSTRAP_TOKEN"]) == ("***", "***")
