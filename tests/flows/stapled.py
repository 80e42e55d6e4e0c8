"""Real web servers with the snippets of docs/operator/ocsp-stapling.md, in folders of a test."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.flows.judges import run
from tests.flows.system import end, free_port, until
from tests.nginx import group_of_nobody, user_line
from tests.stapling import shown_staple
from tests.tools import need

PAGE: Final = Path(__file__).parents[2] / "docs" / "operator" / "ocsp-stapling.md"
NAME: Final = "demo.certctl.test"
FOLDERS: Final = r"/etc/(?:nginx|apache2|haproxy)/tls|/var/run/apache2|/run/haproxy"
MODULES: Final = "/usr/lib/apache2/modules"

NGINX: Final = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {snippet}
}}
"""
APACHE: Final = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
DefaultRuntimeDir {folder}
User nobody
Group {group}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule socache_shmcb_module {modules}/mod_socache_shmcb.so
LoadModule ssl_module {modules}/mod_ssl.so
Listen 127.0.0.1:{port}
{snippet}
"""
HAPROXY: Final = """
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
backend www
    http-request return status 200
{snippet}
"""


def snippet(name: str) -> str:
    """The fenced block that the page marks with this name."""
    found = re.findall(rf"<!-- snippet: {name} -->\n```\w+\n(.*?)```", PAGE.read_text(), re.S)
    assert len(found) == 1, f"{PAGE.name} has {len(found)} snippets {name}"
    return str(found[0])


@dataclass
class Stapled:
    """A server that runs the snippet `name` of the page, with this test's paths and port."""

    name: str
    folder: Path
    kind: str = "NGINX"
    frame: str = NGINX
    command: str = ""
    validate: str = ""
    reload_command: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def here(self, text: str) -> str:
        """`text` of the page with paths, port and name of this test."""
        text = re.sub(FOLDERS, str(self.folder), text).replace("www.example.com", NAME)
        return re.sub(r"(?<=listen )443|\*:443|(?<=bind ):443", f"127.0.0.1:{self.port}", text)

    @property
    def config(self) -> Path:
        return self.folder / "server.conf"

    def write(self, *, without: str = "(?!)") -> None:
        """The whole configuration; lines of the snippet that match `without` are left out."""
        text = re.sub(rf"(?m)^.*(?:{without}).*\n", "", self.here(snippet(self.name)))
        self.config.write_text(
            self.frame.format(
                folder=self.folder,
                port=self.port,
                snippet=text,
                user=user_line(),
                group=group_of_nobody(),
                modules=MODULES,
            )
        )

    def start(self) -> None:
        """With a certificate of before, as a server that is taken over has one."""
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        site = self.folder / "site.pem"
        run(need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=before", "-days", "1",
            "-keyout", self.folder / "site.key", "-out", site)  # fmt: skip
        if self.kind == "HAProxy":
            site.write_bytes(site.read_bytes() + (self.folder / "site.key").read_bytes())
            site.chmod(0o600)
        (self.folder / "root.pem").write_bytes(site.read_bytes())
        self.write(without="stapling_file|ssl_stapling  " if "fed" in self.name else "(?!)")
        self.process = subprocess.Popen(
            self.command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.comes_to_show("none")

    def target(self) -> dict[str, Any]:
        """The page's target for this server; only commands and port are this test's."""
        name = "nginx-fed" if self.name == "nginx-fetching" else self.name
        config: Mapping[str, Any] = yaml.safe_load(self.here(snippet(f"{name}-target")))
        changes: dict[str, Any] = {
            "validate_command": self.validate,
            "reload_command": self.reload_command.format(
                pid=self.process.pid if self.process else 0
            ),
            "port": self.port,
            "post_deploy_verify_attempts": 8,
            "post_deploy_verify_backoff": 0.2,
        }
        if self.name == "nginx-fetching":
            changes["staple_path"] = None
        return {**config, **changes}

    def reload(self) -> None:
        run(*self.target()["reload_command"].split())

    def shows(self) -> str:
        return shown_staple(self.port, NAME)

    def comes_to_show(self, status: str) -> None:
        until(f"{self.name} to staple {status}", lambda: self.shows() == status, seconds=30)


def servers(folder: Path) -> list[Stapled]:
    """NGINX twice, Apache, HAProxy."""
    nginx = [need("nginx"), "-p", "{f}", "-e", "{f}/error.log", "-c", "{f}/server.conf"]
    made = []
    for name in ("nginx-fed", "nginx-fetching"):
        place = folder / name
        command = " ".join(nginx).format(f=place)
        made.append(
            Stapled(name, place, command=command, validate=f"{command} -t",
                    reload_command=f"{command} -s reload")
        )  # fmt: skip
    place = folder / "apache"
    command = f"{need('apache2')} -f {place}/server.conf"
    made.append(
        Stapled("apache", place, frame=APACHE, command=f"{command} -DFOREGROUND",
                validate=f"{command} -t", reload_command=f"{command} -k graceful")
    )  # fmt: skip
    place = folder / "haproxy"
    command = f"{need('haproxy')} -f {place}/server.conf"
    made.append(
        Stapled("haproxy", place, "HAProxy", HAPROXY, command=f"{command} -W",
                validate=f"{command} -c", reload_command="kill -USR2 {pid}")
    )  # fmt: skip
    return made


@contextmanager
def running(folder: Path) -> Iterator[dict[str, Stapled]]:
    """All of them, started."""
    started = servers(folder)
    try:
        for each in started:
            each.start()
        yield {each.name: each for each in started}
    finally:
        for each in started:
            end(each.process)
