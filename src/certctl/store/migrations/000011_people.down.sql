DROP TABLE IF EXISTS breakglass_credentials, oidc_bcl_consumed_jtis, oidc_pre_login_sessions, sessions;
DROP TABLE IF EXISTS group_role_mappings, oidc_discoveries, users, oidc_providers;
DELETE FROM actor_roles WHERE actor_type = 'User';
