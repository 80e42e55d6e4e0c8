"""NGINX with a configuration, pid, log and temporary files of its own below the data directory."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from typing import Final

from certctl.cli.demo.place import LOOPBACK, Place
from certctl.cli.demo.web import NAMES, Web

TEMPORARY: Final = ("fastcgi", "uwsgi", "scgi")
CONFIG: Final = """\
{user}daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
{temporary}\
    default_type text/plain;
    server {{
        listen {host}:{port} ssl;
        server_name {names};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {folder}/demo.pem;
        ssl_certificate_key {folder}/demo.key;
        return 200 "certctl demo\\n";
    }}
}}
"""


def nginx(program: str, place: Place) -> Web:
    """NGINX on the loopback port of `place`; writes its configuration."""
    folder = place.web
    config = folder / "nginx.conf"
    config.write_text(configuration(place, built_with=_said(program, "-V")))
    # Without -e it opens the machine's own log before it has read the configuration.
    own_log = ("-e", str(folder / "error.log")) if "-e filename" in _said(program, "-h") else ()
    base = (program, "-p", str(folder), *own_log, "-c", str(config))
    return Web("NGINX", folder, place.tls_port, base, (*base, "-t"), (*base, "-s", "reload"))


def configuration(place: Place, *, built_with: str) -> str:
    """The whole nginx.conf. `built_with` is the output of `nginx -V`: a module that was left out
    does not know its own directives."""
    paths = (
        f"    {module}_temp_path {place.web}/{module};\n"
        for module in TEMPORARY
        if f"--without-http_{module}_module" not in built_with
    )
    return CONFIG.format(
        user=_user(),
        folder=place.web,
        temporary="".join(paths),
        host=LOOPBACK,
        port=place.tls_port,
        names=" ".join(NAMES),
    )


def _user() -> str:
    """As root the master reads the key and the workers are nobody."""
    if os.geteuid() != 0:
        return ""
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    return f"user nobody {group};\n"


def _said(program: str, flag: str) -> str:
    done = subprocess.run([program, flag], capture_output=True, timeout=10)
    return (done.stdout + done.stderr).decode(errors="replace")
