-- Refused while a CA has its key in a cloud's key service: that key cannot be brought back, and an
-- older server would not know the name of its home.
DO $$ BEGIN
    IF EXISTS (SELECT FROM authorities
               WHERE key_home IN ('aws-kms', 'gcp-kms', 'azure-key-vault')) THEN
        RAISE EXCEPTION 'a CA has its key in a cloud''s key service';
    END IF;
END $$;
ALTER TABLE authorities DROP CONSTRAINT IF EXISTS authorities_key_home_check;
ALTER TABLE authorities ADD CONSTRAINT authorities_key_home_check CHECK (key_home IN
    ('sealed', 'pkcs11', 'none'));
