-- What people are told, once for each channel, and what came of it.
-- Every statement is guarded, so that the file can be run again on a half-migrated database.

-- `occasion` says in words what it was about: with type, certificate and channel it is told once.
-- A row is kept until `keep_until`, for as long as its occasion could come up again.
-- The id is `ne-` and a UUIDv7: the milliseconds, and the random bits of a version 4.
CREATE TABLE IF NOT EXISTS notification_events (
    id             text PRIMARY KEY DEFAULT 'ne-' || encode(
        set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
            FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid,
    type           text NOT NULL CHECK (type IN ('ExpirationWarning', 'RenewalSuccess', 'RenewalFailure',
        'DeploymentSuccess', 'DeploymentFailure', 'PolicyViolation', 'Revocation', 'Digest')),
    certificate_id text CONSTRAINT notification_events_certificate_id_fkey REFERENCES managed_certificates ON DELETE CASCADE,
    occasion       text NOT NULL,
    channel        text NOT NULL,
    recipient      text NOT NULL DEFAULT '',
    severity       text NOT NULL CHECK (severity IN ('informational', 'warning', 'critical')),
    message        text NOT NULL,
    status         text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'failed', 'dead', 'read')),
    retry_count    integer NOT NULL DEFAULT 0,
    next_retry_at  timestamptz,
    leased_until   timestamptz,
    last_error     text,
    sent_at        timestamptz,
    keep_until     timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT notification_events_certificate_check CHECK ((type = 'Digest') = (certificate_id IS NULL)),
    CONSTRAINT notification_events_retry_check CHECK (status <> 'failed' OR next_retry_at IS NOT NULL)
);
CREATE UNIQUE INDEX IF NOT EXISTS notification_events_occasion_key
    ON notification_events (type, certificate_id, occasion, channel) NULLS NOT DISTINCT;
CREATE INDEX IF NOT EXISTS notification_events_due_idx ON notification_events (next_retry_at NULLS FIRST, created_at)
    WHERE status IN ('pending', 'failed');
CREATE INDEX IF NOT EXISTS notification_events_page_idx ON notification_events (created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS notification_events_status_idx ON notification_events (status, created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS notification_events_certificate_idx ON notification_events (certificate_id, created_at, id COLLATE "C");
