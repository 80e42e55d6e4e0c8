"""The control plane and the agent as child processes, and the wait until each is there."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from certctl.cli.client import Api
from certctl.cli.demo.children import Children
from certctl.cli.demo.place import Place
from certctl.cli.settings import API_KEY, CA_BUNDLE, DATA_DIR, SERVER_URL, Access
from certctl.domain.errors import NotFound, Unavailable, Unsafe

START: Final = 120.0
INTERVAL: Final = 0.1
SHUTDOWN: Final = 45.0
OWN_TLS: Final = "CERTCTL_SERVER_TLS_CERT_PATH"


@dataclass(frozen=True)
class Enrolled:
    """The demonstration's agent, and whether this run enrolled it."""

    id: str
    name: str
    is_new: bool


def start_server(
    place: Place, children: Children, environment: Mapping[str, str], say: Callable[[str], None]
) -> Api:
    """Start `certctl serve`; its API, once `/ready` says so.

    Raises:
        Refused: when it ends early, with its own sentence. Unavailable: after two minutes.
        Unsafe: when the administrator's key is nowhere to be found.
    """
    children.start(
        "serve",
        (sys.executable, "-m", "certctl", "serve"),
        environment={**environment, DATA_DIR: str(place.data)},
        log=place.logs / "server.log",
        keep_output=False,  # the first administrator's key is printed there
        grace=SHUTDOWN,
    )
    deadline, told = time.monotonic() + START, ""
    while True:
        children.check()
        api, state = _readiness(place, environment)
        if state != told:
            say(state)
            told = state
        if api is not None:
            return api
        if time.monotonic() > deadline:
            raise Unavailable(f"the server is not ready after {START:g} s: {state}")
        time.sleep(INTERVAL)


def access(place: Place, environment: Mapping[str, str]) -> Access:
    """With the key that the first start left, or else the one of the environment.

    Raises:
        Unsafe: when there is neither.
    """
    other_ca = environment.get(CA_BUNDLE) if environment.get(OWN_TLS) else None
    try:
        key = place.key_file.read_text().strip()
    except FileNotFoundError:
        key = environment.get(API_KEY, "")
    if not key:
        raise Unsafe(
            f"{API_KEY}: the data directory holds no admin.key, so set it to an administrator's key"
        )
    return Access(place.server_url, Path(other_ca) if other_ca else place.ca_file, key)


def _readiness(place: Place, environment: Mapping[str, str]) -> tuple[Api | None, str]:
    """The API when everything is ready, and the state in words."""
    if not place.ca_file.exists():
        return None, "starting: database, migrations, certificate authorities"
    try:
        probe = Api(Access(place.server_url, access(place, environment).ca_file))
        with probe:
            fine, parts = probe.probe("/ready")
    except (Unavailable, Unsafe):
        return None, "starting: not listening yet"
    if fine:
        return Api(access(place, environment)), "ready"
    waiting = ", ".join(name for name, state in parts.items() if state not in {"ok", "not_ready"})
    return None, f"starting: waiting for {waiting}"


def start_agent(
    place: Place, children: Children, environment: Mapping[str, str], api: Api
) -> Enrolled:
    """Start `certctl agent`, with a one-time token when the server does not know it yet.

    Raises:
        Refused: when it ends early. Unavailable: when it is not enrolled after two minutes.
    """
    known = _known_agent(place, api)
    name = known["name"] if known else _free_name(api)
    children.start(
        "agent",
        (sys.executable, "-m", "certctl", "agent"),
        environment=_agent_environment(place, api, environment, name=name, enrol=known is None),
        log=place.logs / "agent.log",
    )
    deadline = time.monotonic() + START
    while (agent_id := _kept_id(place)) is None:
        children.check()
        if time.monotonic() > deadline:
            raise Unavailable(f"the agent is not enrolled after {START:g} s; see its log")
        time.sleep(INTERVAL)
    return Enrolled(agent_id, name, known is None)


def _agent_environment(
    place: Place, api: Api, environment: Mapping[str, str], *, name: str, enrol: bool
) -> dict[str, str]:
    """None of our own settings: the agent has its own credential and knows of nothing else."""
    inherited = {k: v for k, v in environment.items() if not k.startswith("CERTCTL_")}
    told = {
        SERVER_URL: api.access.server_url,
        "CERTCTL_AGENT_NAME": name,
        "CERTCTL_KEY_DIR": str(place.agent / "keys"),
        "CERTCTL_AGENT_STATE_DIR": str(place.agent),
    }
    if enrol:
        made = api.post("agents", "enrolment-tokens", body={"ttl_seconds": 600})
        told["CERTCTL_AGENT_ENROLMENT_TOKEN"] = made["token"]
    return {**inherited, **told}


def _known_agent(place: Place, api: Api) -> dict[str, Any] | None:
    """The agent of an earlier run; an identity that the server does not know is forgotten."""
    agent_id = _kept_id(place)
    if agent_id is None:
        return None
    try:
        row: dict[str, Any] = api.get("agents", agent_id)
    except NotFound:
        row = {"retired_at": "unknown"}
    if row["retired_at"] is None:
        return row
    (place.agent / "agent.json").unlink()
    return None


def _kept_id(place: Place) -> str | None:
    try:
        return str(json.loads((place.agent / "agent.json").read_text())["agent_id"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _free_name(api: Api) -> str:
    """Names of agents are unique, those of retired ones included."""
    taken = {row["name"] for row in api.walk("agents")}
    taken |= {row["name"] for row in api.walk("agents", "retired")}
    return "demo-agent" if "demo-agent" not in taken else f"demo-agent-{secrets.token_hex(3)}"
