"""A configuration for a real NGINX that keeps everything in one folder."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

CONFIG = """
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
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {name};
        ssl_certificate {folder}/site.pem;
        ssl_certificate_key {folder}/site.key;
        return 200 "hello";
    }}
}}
"""


def configuration(folder: Path, port: int, *, name: str) -> str:
    """One TLS server on a loopback port, with `site.pem` and `site.key` of the folder."""
    return CONFIG.format(folder=folder, port=port, name=name, user=user_line())


def user_line() -> str:
    """A master run by root needs a user for its workers; the name of nobody's group varies."""
    if os.geteuid() != 0:
        return ""
    return f"user nobody {group_of_nobody()};"


def group_of_nobody() -> str:
    return grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
