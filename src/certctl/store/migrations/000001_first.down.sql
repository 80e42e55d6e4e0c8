DROP TABLE IF EXISTS audit_seals, audit_events, api_keys, deployments, jobs, certificate_revocations,
    certificate_versions, certificate_target_mappings, managed_certificates, deployment_targets,
    enrolment_tokens, agents, crls, service_certificates, issuances, authorities, issuers,
    certificate_profiles, renewal_policies, owners, teams, sealing_keys CASCADE;
DROP FUNCTION IF EXISTS refuse_change(), next_audit_sequence();
DROP SEQUENCE IF EXISTS audit_sequence;
