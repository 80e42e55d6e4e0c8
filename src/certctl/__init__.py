"""certctl: issues, renews, deploys, verifies and revokes TLS certificates for a whole fleet."""

from importlib.metadata import version

__version__ = version("certctl")
