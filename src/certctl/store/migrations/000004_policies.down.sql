DROP TABLE IF EXISTS policy_violations, policy_rules;
