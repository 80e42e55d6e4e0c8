-- Certificates of our CAs beside the one that each serves: for the same subject and key, by another
-- CA above. Every statement is guarded, so that the file can be run again on a half-migrated
-- database.

-- The row is there before anything is signed; it has its certificate once that is made.
-- `served_until` is when chains stopped going by it; null when they never did.
CREATE TABLE IF NOT EXISTS authority_certificates (
    id            text PRIMARY KEY,
    authority_id  text NOT NULL CONSTRAINT authority_certificates_authority_id_fkey REFERENCES authorities ON DELETE RESTRICT,
    parent_id     text NOT NULL CONSTRAINT authority_certificates_parent_id_fkey REFERENCES authorities ON DELETE RESTRICT,
    cert_der      bytea,
    not_before    timestamptz,
    not_after     timestamptz,
    served_until  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT authority_certificates_parent_key UNIQUE (authority_id, parent_id),
    CONSTRAINT authority_certificates_parent_check CHECK (parent_id <> authority_id)
);
CREATE INDEX IF NOT EXISTS authority_certificates_parent_id_idx
    ON authority_certificates (parent_id);
