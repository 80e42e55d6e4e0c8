-- People: who they are, where they prove it, and the browser sessions they work in. Every statement
-- is guarded, so that the file can be run again on a half-migrated database.

CREATE TABLE IF NOT EXISTS oidc_providers (
    id                     text PRIMARY KEY,
    name                   text NOT NULL CONSTRAINT oidc_providers_name_key UNIQUE,
    issuer_url             text NOT NULL,
    client_id              text NOT NULL,
    sealed_client_secret   bytea NOT NULL,
    redirect_uri           text NOT NULL,
    groups_claim_path      text NOT NULL DEFAULT 'groups',
    groups_claim_format    text NOT NULL DEFAULT 'string-array' CONSTRAINT oidc_providers_groups_claim_format_check
                               CHECK (groups_claim_format IN ('string-array', 'json-path')),
    fetch_userinfo         boolean NOT NULL DEFAULT false,
    scopes                 text[] NOT NULL DEFAULT '{openid,profile,email}',
    allowed_email_domains  text[] NOT NULL DEFAULT '{}',
    iat_window_seconds     integer NOT NULL DEFAULT 300 CONSTRAINT oidc_providers_iat_window_seconds_check
                               CHECK (iat_window_seconds BETWEEN 1 AND 600),
    jwks_cache_ttl_seconds integer NOT NULL DEFAULT 3600 CONSTRAINT oidc_providers_jwks_cache_ttl_seconds_check
                               CHECK (jwks_cache_ttl_seconds >= 60),
    enabled                boolean NOT NULL DEFAULT true,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT oidc_providers_issuer_client_key UNIQUE (issuer_url, client_id)
);

ALTER TABLE oidc_providers ADD COLUMN IF NOT EXISTS sealed_client_secret_under text
    GENERATED ALWAYS AS (
         CASE WHEN substring(sealed_client_secret FOR 4) = '\x056b6579'
                  THEN encode(substring(sealed_client_secret FROM 5 FOR 8), 'hex')
              WHEN substring(sealed_client_secret FOR 1) = '\x04' THEN 'data' END) STORED
    CONSTRAINT oidc_providers_sealed_client_secret_under_fkey REFERENCES sealing_keys;

-- What the provider says of itself, and its keys, as every replica last fetched them.
CREATE TABLE IF NOT EXISTS oidc_discoveries (
    provider_id   text PRIMARY KEY CONSTRAINT oidc_discoveries_provider_id_fkey REFERENCES oidc_providers ON DELETE CASCADE,
    metadata      jsonb,
    jwks          jsonb,
    fetched_at    timestamptz,
    asked_anew_at timestamptz,
    refresh_count bigint NOT NULL DEFAULT 0,
    rejected      bigint NOT NULL DEFAULT 0,
    last_error    text NOT NULL DEFAULT ''
);

CREATE TABLE IF NOT EXISTS group_role_mappings (
    id          text PRIMARY KEY,
    provider_id text NOT NULL CONSTRAINT group_role_mappings_provider_id_fkey REFERENCES oidc_providers ON DELETE CASCADE,
    group_name  text NOT NULL,
    role_id     text NOT NULL CONSTRAINT group_role_mappings_role_id_fkey REFERENCES roles ON DELETE RESTRICT,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT group_role_mappings_key UNIQUE (provider_id, group_name, role_id)
);
CREATE INDEX IF NOT EXISTS group_role_mappings_role_id_idx ON group_role_mappings (role_id);

CREATE TABLE IF NOT EXISTS users (
    id               text PRIMARY KEY,
    oidc_provider_id text NOT NULL CONSTRAINT users_oidc_provider_id_fkey REFERENCES oidc_providers ON DELETE RESTRICT,
    oidc_subject     text NOT NULL,
    email            text NOT NULL DEFAULT '',
    display_name     text NOT NULL DEFAULT '',
    last_login_at    timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    deactivated_at   timestamptz,
    CONSTRAINT users_subject_key UNIQUE (oidc_provider_id, oidc_subject)
);

-- Of the cookie and of the CSRF token only the SHA-256 is kept.
CREATE TABLE IF NOT EXISTS sessions (
    id                  text PRIMARY KEY,
    token_hash          bytea NOT NULL CONSTRAINT sessions_token_hash_key UNIQUE,
    csrf_hash           bytea NOT NULL,
    user_id             text NOT NULL CONSTRAINT sessions_user_id_fkey REFERENCES users ON DELETE CASCADE,
    signed_in_by        text NOT NULL CONSTRAINT sessions_signed_in_by_check CHECK (signed_in_by IN ('oidc', 'breakglass')),
    oidc_sid            text,
    ip_address          text,
    user_agent          text NOT NULL DEFAULT '',
    created_at          timestamptz NOT NULL DEFAULT now(),
    last_seen_at        timestamptz NOT NULL DEFAULT now(),
    absolute_expires_at timestamptz NOT NULL,
    revoked_at          timestamptz,
    revoked_because     text,
    CONSTRAINT sessions_absolute_expires_at_check CHECK (absolute_expires_at > created_at)
);
CREATE INDEX IF NOT EXISTS sessions_user_id_idx ON sessions (user_id);
CREATE INDEX IF NOT EXISTS sessions_absolute_expires_at_idx ON sessions (absolute_expires_at);

-- State, nonce and PKCE verifier follow from the cookie, of which only the SHA-256 is kept.
CREATE TABLE IF NOT EXISTS oidc_pre_login_sessions (
    id          text PRIMARY KEY,
    cookie_hash bytea NOT NULL CONSTRAINT oidc_pre_login_sessions_cookie_hash_key UNIQUE,
    provider_id text NOT NULL CONSTRAINT oidc_pre_login_sessions_provider_id_fkey REFERENCES oidc_providers ON DELETE CASCADE,
    ip_address  text,
    user_agent  text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS oidc_pre_login_sessions_expires_at_idx ON oidc_pre_login_sessions (expires_at);
CREATE INDEX IF NOT EXISTS oidc_pre_login_sessions_provider_id_idx ON oidc_pre_login_sessions (provider_id);

CREATE TABLE IF NOT EXISTS oidc_bcl_consumed_jtis (
    provider_id text NOT NULL CONSTRAINT oidc_bcl_consumed_jtis_provider_id_fkey REFERENCES oidc_providers ON DELETE CASCADE,
    jti         text NOT NULL,
    consumed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider_id, jti)
);

CREATE TABLE IF NOT EXISTS breakglass_credentials (
    user_id                 text PRIMARY KEY CONSTRAINT breakglass_credentials_user_id_fkey REFERENCES users ON DELETE CASCADE,
    password_hash           text NOT NULL,
    created_at              timestamptz NOT NULL DEFAULT now(),
    last_password_change_at timestamptz NOT NULL DEFAULT now(),
    failure_count           integer NOT NULL DEFAULT 0,
    last_failure_at         timestamptz,
    locked_until            timestamptz
);
