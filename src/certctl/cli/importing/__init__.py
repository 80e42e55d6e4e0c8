"""`certctl certs import`: certificates found where other tools keep them, sent to the server."""

from certctl.cli.importing.command import import_

__all__ = ["import_"]
