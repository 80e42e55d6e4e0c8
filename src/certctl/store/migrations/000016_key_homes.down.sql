-- Refused while a CA has its key in a home of its own: that key cannot be brought back.
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'authorities'::regclass
               AND attname = 'key_reference' AND NOT attisdropped) THEN
        IF EXISTS (SELECT FROM authorities WHERE key_reference IS NOT NULL) THEN
            RAISE EXCEPTION 'a CA has its key outside the database';
        END IF;
    END IF;
END $$;
ALTER TABLE authorities DROP CONSTRAINT IF EXISTS authorities_key_check;
ALTER TABLE authorities DROP COLUMN IF EXISTS public_key;
ALTER TABLE authorities DROP COLUMN IF EXISTS key_reference;
ALTER TABLE authorities DROP COLUMN IF EXISTS key_home;
