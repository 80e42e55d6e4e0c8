-- CAs whose keys live outside the database. Every statement is guarded, so that the file can be run
-- again on a half-migrated database.

ALTER TABLE authorities ADD COLUMN IF NOT EXISTS key_home text NOT NULL DEFAULT 'sealed'
    CONSTRAINT authorities_key_home_check CHECK (key_home IN ('sealed', 'pkcs11', 'none'));
-- What the key is called in its home; the public key is there once the pair has been made.
ALTER TABLE authorities ADD COLUMN IF NOT EXISTS key_reference text;
ALTER TABLE authorities ADD COLUMN IF NOT EXISTS public_key bytea;
UPDATE authorities SET key_home = 'none' WHERE sealed_key IS NULL AND key_reference IS NULL;
ALTER TABLE authorities DROP CONSTRAINT IF EXISTS authorities_key_check;
ALTER TABLE authorities ADD CONSTRAINT authorities_key_check CHECK (CASE key_home
    WHEN 'sealed' THEN sealed_key IS NOT NULL AND key_reference IS NULL AND public_key IS NULL
    WHEN 'none' THEN sealed_key IS NULL AND key_reference IS NULL AND public_key IS NULL
    ELSE sealed_key IS NULL AND key_reference IS NOT NULL
         AND (state = 'preparing' OR public_key IS NOT NULL) END);
