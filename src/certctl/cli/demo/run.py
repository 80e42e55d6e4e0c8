"""`certctl demo` from the first process to the last."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from certctl.cli.demo import byhand, plane, program, proof, story, web
from certctl.cli.demo.children import Children
from certctl.cli.demo.nginx import nginx
from certctl.cli.demo.place import TLS_PORT, Place, check_free, find
from certctl.cli.demo.screen import Screen
from certctl.cli.demo.story import Stage
from certctl.cli.demo.web import NAME, Web
from certctl.domain.errors import Unavailable

STARTED: Final = 15.0


def run(*, once: bool, data_dir: Path | None) -> int:
    """The demonstration's exit status. Everything it started has ended when this returns.

    Raises:
        CertctlError: with the reason in one sentence.
    """
    environment, screen = dict(os.environ), Screen()
    place = find(data_dir, environment)
    place.prepare()
    try:
        with Children() as children:
            stage = _set(place, children, environment, screen=screen)
            with stage.api:
                seconds = story.tell(stage)
            _conclude(stage, seconds, once=once)
            if not once:
                children.wait()
    except KeyboardInterrupt:
        screen.note("stopped: everything that was started has ended")
        return 1 if once else 0
    return 0


def _set(
    place: Place, children: Children, environment: Mapping[str, str], *, screen: Screen
) -> Stage:
    """Control plane, web server and agent, in this order."""
    screen.step(f"Control plane: HTTPS at {place.server_url}, data in {place.data}")
    api = plane.start_server(place, children, environment, screen.note)
    screen.step("Web server, with a throw-away certificate for a start")
    server = _start_web(place, children, environment, screen=screen)
    screen.fact("program", f"{server.kind} ({server.start[0]})")
    screen.fact("port", str(server.port))
    screen.step("Agent, a process of its own")
    agent = plane.start_agent(place, children, environment, api)
    screen.fact("agent", f"{agent.name} ({agent.id})")
    how = "enrolled with a one-time token" if agent.is_new else "kept from an earlier run"
    screen.fact("identity", how)
    return Stage(place, api, children, screen, server, agent.id)


def _start_web(
    place: Place, children: Children, environment: Mapping[str, str], *, screen: Screen
) -> Web:
    check_free(place.tls_port, TLS_PORT)
    found = program.find(place.data / "nginx-package", environment, screen.note)
    server = nginx(found, place) if found else web.small(place)
    if not (server.cert.exists() and server.key.exists() and _passes(server)):
        web.put_throwaway_pair(server)
    inherited = {k: v for k, v in environment.items() if not k.startswith("CERTCTL_")}
    children.start("web server", server.start, environment=inherited, log=place.logs / "web.log")
    deadline = time.monotonic() + STARTED
    while True:
        children.check()
        try:
            proof.served(server.port, NAME, ca_pem=None)
            return server
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _passes(server: Web) -> bool:
    """Whether the pair left by an earlier run can be served."""
    from certctl.cli.demo.tls_server import context

    try:
        context(server.cert, server.key)
    except OSError:
        return False
    return True


def _conclude(stage: Stage, seconds: float, *, once: bool) -> None:
    """What stands now, and how to see it by hand."""
    screen, place = stage.screen, stage.place
    screen.step(f"Done. From the start to the first served certificate: {seconds:.1f} s")
    screen.fact("API", place.server_url)
    screen.fact("key file", str(place.key_file))
    screen.fact("agent", stage.agent_id)
    screen.fact("serving", f"https://{NAME}:{place.tls_port}/ on 127.0.0.1")
    screen.fact("logs", str(place.logs))
    screen.step(
        "To repeat each step by hand, while `certctl demo` stays up:"
        if once
        else "To repeat each step by hand:"
    )
    for meaning, line in byhand.lines(place):
        screen.line_to_paste(meaning, line)
    if not once:
        screen.step("Up until Ctrl-C, which stops what was started here and nothing else")
