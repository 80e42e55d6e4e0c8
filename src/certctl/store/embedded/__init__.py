"""The embedded PostgreSQL: found, created, started, watched, adopted and stopped by us."""

from certctl.store.embedded.server import EmbeddedPostgres, recorded_conninfo

__all__ = ["EmbeddedPostgres", "recorded_conninfo"]
