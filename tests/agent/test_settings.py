"""The agent's settings, its state folder, and its pauses."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from certctl.agent.pace import Backoff
from certctl.agent.settings import AgentSettings, load
from certctl.agent.state import Identity, State
from certctl.domain.errors import Unsafe


def test_without_any_variable_the_defaults_hold():
    settings = load({})
    assert settings.key_dir == Path("/var/lib/certctl/keys")
    assert settings.state_folder == Path("/var/lib/certctl")
    assert settings.poll_wait == 25
    assert settings.log_level == "info"


def test_every_setting_has_its_variable_and_a_description():
    for field in AgentSettings.model_fields.values():
        assert field.alias.startswith("CERTCTL_")
        assert field.description


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CERTCTL_SERVER_URL", "http://control.example.test"),
        ("CERTCTL_SERVER_URL", "control.example.test:8443"),
        ("CERTCTL_SERVER_URL", "https://user:pass@control.example.test"),
        ("CERTCTL_SERVER_URL", "https://control.example.test:99999"),
        ("CERTCTL_AGENT_ID", "../../etc"),
        ("CERTCTL_KEY_DIR", "keys"),
        ("CERTCTL_AGENT_POLL_WAIT", "soon"),
        ("CERTCTL_AGENT_POLL_WAIT", "0"),
        ("CERTCTL_LOG_LEVEL", "loud"),
        ("CERTCTL_OUTBOUND_ALLOW", "everywhere"),
        ("CERTCTL_OUTBOUND_ALLOW", "127.0.0.1/8"),
        ("CERTCTL_AGENT_ENROLMENT_TOKEN", "t" * 513),
    ],
)
def test_a_value_that_does_not_parse_stops_the_start_and_is_named(variable, value):
    with pytest.raises(Unsafe) as refusal:
        load({variable: value})
    assert refusal.value.message.startswith(f"{variable}: ")
    assert value not in refusal.value.message


def test_networks_that_may_be_called_are_comma_separated():
    assert load({}).outbound_allow == ()
    found = load({"CERTCTL_OUTBOUND_ALLOW": "169.254.7.0/24, ::1"}).outbound_allow
    assert [str(network) for network in found] == ["169.254.7.0/24", "::1/128"]


def test_an_empty_variable_is_unset():
    assert load({"CERTCTL_AGENT_POLL_WAIT": "", "CERTCTL_SERVER_URL": ""}).poll_wait == 25


def test_a_trailing_slash_of_the_url_is_dropped():
    assert load({"CERTCTL_SERVER_URL": "https://c.test/"}).server_url == "https://c.test"


def test_secrets_are_not_shown():
    settings = load({"CERTCTL_API_KEY": "s3cret", "CERTCTL_AGENT_ENROLMENT_TOKEN": "t0ken"})
    assert "s3cret" not in repr(settings)
    assert "t0ken" not in repr(settings)


def test_an_identity_survives_a_restart_and_is_private(tmp_path):
    identity = Identity("ag-1", "credential", "https://c.test")
    State(tmp_path / "state").keep_identity(identity)
    path = tmp_path / "state" / "agent.json"
    assert State(tmp_path / "state").identity() == identity
    assert path.stat().st_mode & 0o777 == 0o600
    assert "credential" not in repr(identity)


def test_a_damaged_identity_stops_the_start(tmp_path):
    state = State(tmp_path)
    (tmp_path / "agent.json").write_text("{")
    with pytest.raises(Unsafe, match="enrol again"):
        state.identity()


def test_journals_are_remembered_once(tmp_path):
    state = State(tmp_path)
    for _ in range(2):
        state.remember_journals((Path("/etc/a.pem"), Path("/etc/b.pem")))
    assert State(tmp_path).journals() == (Path("/etc/a.pem"), Path("/etc/b.pem"))


def test_pauses_are_jittered_double_and_are_capped():
    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            assert a == 0
            return b

    backoff = Backoff(1.0, 300.0, Highest())
    assert [backoff.next() for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    backoff.reset()
    assert backoff.next() == 1.0


def test_pauses_stay_capped_however_long_the_server_is_away():
    backoff = Backoff(1.0, 300.0, failures=5000)
    assert 0 <= backoff.next() <= 300
