DROP TABLE IF EXISTS blocked_keys;
