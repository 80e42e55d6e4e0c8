-- Rules over the inventory, and where they are broken. Every statement is guarded, so that the file
-- can be run again on a half-migrated database.

CREATE TABLE IF NOT EXISTS policy_rules (
    id         text PRIMARY KEY,
    name       text NOT NULL CONSTRAINT policy_rules_name_key UNIQUE,
    type       text NOT NULL,
    config     jsonb NOT NULL DEFAULT '{}',
    enabled    boolean NOT NULL DEFAULT true,
    severity   text NOT NULL DEFAULT 'Warning',
    blocking   boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS policy_violations (
    id             text PRIMARY KEY,
    certificate_id text NOT NULL CONSTRAINT policy_violations_certificate_id_fkey REFERENCES managed_certificates ON DELETE CASCADE,
    rule_id        text NOT NULL CONSTRAINT policy_violations_rule_id_fkey REFERENCES policy_rules ON DELETE CASCADE,
    message        text NOT NULL,
    severity       text NOT NULL DEFAULT 'Warning',
    created_at     timestamptz NOT NULL DEFAULT now(),
    resolved_at    timestamptz
);
-- Severities in another case would be refused by the constraints that follow.
UPDATE policy_rules SET severity = initcap(severity) WHERE severity <> initcap(severity);
UPDATE policy_violations SET severity = initcap(severity) WHERE severity <> initcap(severity);
ALTER TABLE policy_rules DROP CONSTRAINT IF EXISTS policy_rules_type_check;
ALTER TABLE policy_rules ADD CONSTRAINT policy_rules_type_check CHECK (type IN ('AllowedIssuers',
    'AllowedDomains', 'RequiredMetadata', 'AllowedEnvironments', 'RenewalLeadTime', 'CertificateLifetime'));
ALTER TABLE policy_rules DROP CONSTRAINT IF EXISTS policy_rules_severity_check;
ALTER TABLE policy_rules ADD CONSTRAINT policy_rules_severity_check
    CHECK (severity IN ('Warning', 'Error', 'Critical'));
ALTER TABLE policy_violations DROP CONSTRAINT IF EXISTS policy_violations_severity_check;
ALTER TABLE policy_violations ADD CONSTRAINT policy_violations_severity_check
    CHECK (severity IN ('Warning', 'Error', 'Critical'));
-- A violation stands once.
CREATE UNIQUE INDEX IF NOT EXISTS policy_violations_open_key
    ON policy_violations (certificate_id, rule_id) WHERE resolved_at IS NULL;
CREATE INDEX IF NOT EXISTS policy_violations_rule_idx ON policy_violations (rule_id, created_at, id COLLATE "C");
