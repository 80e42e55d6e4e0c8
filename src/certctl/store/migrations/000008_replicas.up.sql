-- The processes that serve on this database, each seen every few seconds. Every statement is
-- guarded, so that the file can be run again on a half-migrated database.

CREATE TABLE IF NOT EXISTS replicas (
    id      text PRIMARY KEY,
    kind    text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);
