-- CAs whose certificates are signed outside. Every statement is guarded, so that the file can be
-- run again on a half-migrated database.

-- Without a key: a CA of somebody else, above one of ours.
ALTER TABLE authorities ALTER COLUMN sealed_key DROP NOT NULL;
ALTER TABLE authorities ADD COLUMN IF NOT EXISTS signed_outside boolean NOT NULL DEFAULT false;
-- The request that a certificate is made from, ours to a CA outside, or one from outside to ours.
ALTER TABLE authorities ADD COLUMN IF NOT EXISTS csr_pem text;
-- When the CA above it revoked its certificate, and why.
ALTER TABLE authorities ADD COLUMN IF NOT EXISTS revoked_at timestamptz;
ALTER TABLE authorities ADD COLUMN IF NOT EXISTS revocation_reason text;
