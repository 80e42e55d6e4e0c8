-- Client certificates of agents, in place of their bearer credentials. Every statement is guarded,
-- so that the file can be run again on a half-migrated database.

ALTER TABLE issuances DROP CONSTRAINT IF EXISTS issuances_purpose_check;
ALTER TABLE issuances ADD CONSTRAINT issuances_purpose_check
    CHECK (purpose IN ('leaf', 'ca', 'ocsp_responder', 'server', 'agent'));
CREATE TABLE IF NOT EXISTS agent_certificates (
    fingerprint_sha256 text PRIMARY KEY,
    agent_id           text NOT NULL CONSTRAINT agent_certificates_agent_id_fkey REFERENCES agents ON DELETE RESTRICT,
    issuer_id          text NOT NULL CONSTRAINT agent_certificates_issuer_id_fkey REFERENCES issuers ON DELETE RESTRICT,
    authority_id       text NOT NULL CONSTRAINT agent_certificates_authority_id_fkey REFERENCES authorities ON DELETE RESTRICT,
    serial_number      text NOT NULL,
    not_after          timestamptz NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    revoked_at         timestamptz
);
CREATE INDEX IF NOT EXISTS agent_certificates_agent_id_idx ON agent_certificates (agent_id);
CREATE INDEX IF NOT EXISTS agent_certificates_authority_id_idx ON agent_certificates (authority_id);
