DROP TABLE IF EXISTS agent_certificates;
-- What such a certificate was issued for stays known as a serial that was used.
UPDATE issuances SET purpose = 'leaf' WHERE purpose = 'agent';
ALTER TABLE issuances DROP CONSTRAINT IF EXISTS issuances_purpose_check;
ALTER TABLE issuances ADD CONSTRAINT issuances_purpose_check
    CHECK (purpose IN ('leaf', 'ca', 'ocsp_responder', 'server'));
