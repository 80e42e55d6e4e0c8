"""The table of connectors, and the one door through which target configurations come."""

from __future__ import annotations

import pytest

from certctl.connectors.catalog import TARGETS, open_target, target_class
from certctl.connectors.target import Target
from certctl.domain.errors import Invalid

NGINX = {
    "cert_path": "/etc/tls/site.pem",
    "key_path": "/etc/tls/site.key",
    "validate_command": "nginx -t",
    "reload_command": "nginx -s reload",
}


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_every_target_of_the_table_loads(kind):
    found = target_class(kind)
    assert issubclass(found, Target)
    assert found.kind == kind


def test_every_field_of_a_target_is_described():
    for kind in TARGETS:
        fields = target_class(kind).Config.model_fields
        assert [name for name, field in fields.items() if not field.description] == []


@pytest.mark.parametrize("kind", ["nginx", "Nginx", "NGINX"])
def test_kinds_are_found_in_any_case(kind):
    assert target_class(kind).kind == "NGINX"


def test_an_unknown_kind_is_answered_with_the_known_ones():
    with pytest.raises(Invalid, match="NGINX") as refusal:
        open_target("Gopher", {})
    assert refusal.value.field == "type"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cert_path": "relative.pem"}, "cert_path"),
        ({"cert_path": "/etc/../shadow"}, "cert_path"),
        ({"key_path": "/"}, "key_path"),
        ({"reload_command": "nginx -s reload; reboot"}, "reload_command"),
        ({"validate_command": ""}, "validate_command"),
        ({"key_file_mode": "0888"}, "key_file_mode"),
        ({"key_file_mode": 640}, "key_file_mode"),
        ({"key_file_mode": "4755"}, "key_file_mode"),
        ({"port": 0}, "port"),
        ({"backup_retention": -2}, "backup_retention"),
        ({"post_deploy_verify": {"endpoint": "nowhere"}}, "post_deploy_verify.endpoint"),
        ({"post_deploy_verify": {"timeout": 0}}, "post_deploy_verify.timeout"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_a_bad_field_is_named(changes, field):
    with pytest.raises(Invalid) as refusal:
        open_target("NGINX", NGINX | changes)
    assert refusal.value.field == field
    assert refusal.value.message.startswith(f"{field}: ")


@pytest.mark.parametrize("missing", sorted(NGINX))
def test_what_is_required_is_asked_for(missing):
    with pytest.raises(Invalid) as refusal:
        open_target("NGINX", {k: v for k, v in NGINX.items() if k != missing})
    assert refusal.value.field == missing


@pytest.mark.parametrize(
    ("given", "mode"),
    [("0640", 0o640), ("640", 0o640), ("0o640", 0o640), (0o640, 0o640), (0, None), ("", None)],
)
def test_modes_are_octal_text_or_their_value(given, mode):
    target = open_target("NGINX", NGINX | {"key_file_mode": given})
    assert target.config.key_file_mode == mode


def test_durations_of_existing_configurations_are_nanoseconds():
    target = open_target("NGINX", NGINX | {"post_deploy_verify": {"timeout": 10_000_000_000}})
    assert target.config.post_deploy_verify.timeout == 10.0
