-- What processes remember of keys, roles and grants is right as long as this number is the one they knew. It is counted by triggers, so that
-- no program and no person who changes a row can forget to.

CREATE TABLE IF NOT EXISTS access_version (
    id TEXT PRIMARY KEY CHECK (id = 'access'),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO access_version (id, version) VALUES ('access', 0) ON CONFLICT DO NOTHING;

-- The grant of an agent that registers is left out, as on PostgreSQL: nobody remembers a key that has just been made.
CREATE TRIGGER IF NOT EXISTS access_granted AFTER INSERT ON actor_roles
    WHEN NEW.actor_type <> 'Agent' OR NEW.role_id <> 'r-agent'
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_regranted AFTER UPDATE ON actor_roles
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_revoked AFTER DELETE ON actor_roles
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_role_wider AFTER INSERT ON role_permissions
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_role AFTER UPDATE ON role_permissions
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_role_narrower AFTER DELETE ON role_permissions
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_key_made AFTER INSERT ON api_keys
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_key AFTER UPDATE OF name, key_hash, previous_key_hash, previous_valid_until, admin, expires_at ON api_keys
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_key_gone AFTER DELETE ON api_keys
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_agent AFTER UPDATE OF api_key_hash, retired_at ON agents
    WHEN OLD.api_key_hash IS NOT NEW.api_key_hash OR OLD.retired_at IS NOT NEW.retired_at
BEGIN
    UPDATE access_version SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS access_agent_gone AFTER DELETE ON agents
BEGIN
    UPDATE access_version SET version = version + 1;
END;
