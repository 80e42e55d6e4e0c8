"""The whole system as an operator starts it: processes, ports and files of one test."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from cryptography import x509

from certctl.store.embedded import EmbeddedPostgres, recorded_conninfo
from tests.nginx import configuration
from tests.tools import need

Json = dict[str, Any]
PATIENCE = 60.0


def until(what: str, look: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """What `look` answers as soon as that is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain for: {what}")
        time.sleep(0.1)


def free_port() -> int:
    """A port below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(11_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def end(process: subprocess.Popen[bytes] | None) -> None:
    """Ask a process to stop; by force if that takes long."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


CONNECTIONS = 12
NO_PLANE = {"CERTCTL_PKI_HTTP_PROCESSES": "0"}  # where no relying party asks


@dataclass
class Nginx:
    """A real NGINX with a configuration of its own on a loopback port."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> str:
        folder = self.folder
        return f"{need('nginx')} -p {folder} -e {folder}/error.log -c {folder}/nginx.conf"

    @property
    def target_config(self) -> Json:
        return {
            "cert_path": f"{self.folder}/site.pem",
            "key_path": f"{self.folder}/site.key",
            "validate_command": f"{self.command} -t",
            "reload_command": f"{self.command} -s reload",
            "host": "127.0.0.1",
            "port": self.port,
            "server_name": "demo.certctl.test",
            "post_deploy_verify_backoff": 0.2,
        }

    def start(self) -> None:
        self.folder.mkdir(parents=True)
        config = configuration(self.folder, self.port, name="demo.certctl.test")
        (self.folder / "nginx.conf").write_text(config)
        subprocess.run(
            [need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=before", "-days", "1",
             "-keyout", f"{self.folder}/site.key", "-out", f"{self.folder}/site.pem"],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        self.process = subprocess.Popen(self.command.split(), stderr=subprocess.DEVNULL)
        until("NGINX listening", self.served)

    def served(self) -> x509.Certificate | None:
        """The certificate that a handshake shows now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), 5) as plain,
                context.wrap_socket(plain, server_hostname="demo.certctl.test") as tls,
            ):
                return x509.load_der_x509_certificate(tls.getpeercert(True) or b"")
        except OSError:
            return None

    def served_serial(self) -> str | None:
        found = self.served()
        return None if found is None else f"{found.serial_number:x}"


@dataclass
class System:
    """Server, agent and NGINX in one folder. `restart` and `kill` are what happens to them."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    https: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None
    agent: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.nginx = Nginx(self.folder / "nginx")
        self.data = self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CERTCTL_")}
        return {
            **inherited,
            "CERTCTL_DATA_DIR": str(self.data),
            "CERTCTL_SERVER_PORT": str(self.https),
            "CERTCTL_PKI_HTTP_PORT": str(self.http),
            "CERTCTL_LOG_FORMAT": "text",
            "CERTCTL_RATE_LIMIT_ENABLED": "false",
            **self.settings,
        }

    @property
    def agent_environment(self) -> dict[str, str]:
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("CERTCTL_")},
            "CERTCTL_SERVER_URL": f"https://127.0.0.1:{self.https}",
            "CERTCTL_AGENT_NAME": "beside-nginx",
            "CERTCTL_KEY_DIR": str(self.folder / "agent" / "keys"),
            "CERTCTL_AGENT_STATE_DIR": str(self.folder / "agent"),
            "CERTCTL_AGENT_POLL_WAIT": "5",
        }

    def start_server(self, *entry: str, ready: bool = True, **more: str) -> None:
        """`certctl serve`, or another module in its place."""
        self.server = self._start(entry or ("certctl", "serve"), "server", self.environment | more)
        if ready:
            until("the server to be ready", self.is_ready)

    def start_agent(self, *entry: str, **more: str) -> None:
        environment = self.agent_environment | more
        known = (self.folder / "agent" / "agent.json").exists()
        if not known and "CERTCTL_AGENT_ENROLMENT_TOKEN" not in environment:
            token = self.call("POST", "/agents/enrolment-tokens", {"ttl_seconds": 600})["token"]
            environment["CERTCTL_AGENT_ENROLMENT_TOKEN"] = token
        self.agent = self._start(entry or ("certctl", "agent"), "agent", environment)

    def _start(
        self, entry: tuple[str, ...], log: str, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{log}.log").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", *entry], stdout=out, stderr=out, env=environment
            )

    def is_ready(self) -> bool:
        return self.answers("ready")

    def answers(self, path: str = "health") -> bool:
        """Whether the server says that all is well."""
        assert self.server is not None
        assert self.server.poll() is None, self.log("server")
        try:
            answer = httpx.get(f"https://127.0.0.1:{self.https}/{path}", verify=False, timeout=5)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def call(self, method: str, path: str, body: Json | None = None, *, key: str = "") -> Json:
        """An API call by the first administrator; asserts that it was accepted."""
        answer = self.ask(method, path, body, key=key)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}

    def ask(
        self, method: str, path: str, body: Json | None = None, *, key: str | None = ""
    ) -> httpx.Response:
        """With the first administrator's key, with `key`, or with None for no key at all."""
        secret = (self.data / "admin.key").read_text().strip() if key == "" else key
        trust = ssl.create_default_context(cafile=self.data / "ca.pem")
        with httpx.Client(verify=trust, timeout=30) as client:
            return client.request(
                method,
                f"https://127.0.0.1:{self.https}/api/v1{path}",
                json=body,
                headers={} if secret is None else {"Authorization": f"Bearer {secret}"},
            )

    def order(self, name: str = "demo", **more: Any) -> str:
        """A certificate of demo.certctl.test and localhost; its id."""
        body = {
            "name": name,
            "common_name": "demo.certctl.test",
            "sans": ["demo.certctl.test", "localhost"],
            "owner_id": "o-default",
            "team_id": "t-default",
            "issuer_id": "iss-local",
            "renewal_policy_id": "rp-default",
            **more,
        }
        return str(self.call("POST", "/certificates", body)["id"])

    def target(self, **changes: Any) -> str:
        """The NGINX of this system as a target of its agent; its id."""
        agent = until("the agent", lambda: self.call("GET", "/agents")["data"])[0]["id"]
        body = {
            "name": "nginx",
            "type": "NGINX",
            "agent_id": agent,
            "config": self.nginx.target_config | changes,
        }
        return str(self.call("POST", "/targets", body)["id"])

    def certificate(self, certificate_id: str) -> Json:
        return self.call("GET", f"/certificates/{certificate_id}")

    def versions(self, certificate_id: str) -> list[Json]:
        return list(self.call("GET", f"/certificates/{certificate_id}/versions")["data"])

    def jobs(self, certificate_id: str, **filters: str) -> list[Json]:
        query = "&".join(
            f"{k}={v}" for k, v in {"certificate_id": certificate_id, **filters}.items()
        )
        return list(self.call("GET", f"/jobs?{query}")["data"])

    def live_serial(self, certificate_id: str) -> str | None:
        live = [v["serial_number"] for v in self.versions(certificate_id) if v["live"]]
        return live[0] if len(live) == 1 else None

    def served_is_live(self, certificate_id: str) -> bool:
        """Whether NGINX serves the one live version, and nothing is under way any more.

        After a reload the workers of before may take a connection more: one answer is no proof.
        """
        serial = self.live_serial(certificate_id)
        busy = [j for j in self.jobs(certificate_id) if j["completed_at"] is None]
        if serial is None or busy:
            return False
        return all(self.nginx.served_serial() == serial for _ in range(CONNECTIONS))

    def postmaster(self) -> int:
        """The process id of the embedded PostgreSQL."""
        home = EmbeddedPostgres(self.data).home
        return int((home / "postgres" / "postmaster.pid").read_text().split()[0])

    def sql(self, *statements: str) -> None:
        """Past certctl, as somebody with the database's password can."""
        with psycopg.connect(recorded_conninfo(self.data), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def stop_agent(self) -> None:
        end(self.agent)

    def stop_server(self) -> None:
        end(self.server)

    def stop(self) -> None:
        for process in (self.agent, self.server, self.nginx.process):
            end(process)

    def remove(self) -> None:
        """What root's embedded database leaves outside the test's folder."""
        if self.data.exists():
            embedded = EmbeddedPostgres(self.data)
            home = embedded.home
            if (self.data / "postgres.json").exists():
                embedded.start()  # an orphan after a kill is adopted, and stopped
                embedded.stop()
            if os.geteuid() == 0 and home.is_relative_to("/var/lib/certctl"):
                shutil.rmtree(home, ignore_errors=True)


@contextmanager
def running(
    folder: Path, *, nginx: bool = True, agent: bool = True, **settings: str
) -> Iterator[System]:
    """A started system, stopped and removed afterwards."""
    system = System(folder, settings)
    try:
        if nginx:
            system.nginx.start()
        system.start_server()
        if agent:
            system.start_agent()
        yield system
    finally:
        system.stop()
        system.remove()
