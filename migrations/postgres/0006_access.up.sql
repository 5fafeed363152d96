-- What replicas remember of keys, roles and grants is right as long as this number is the one they knew. It is counted by triggers, so that
-- no program and no person who changes a row can forget to.

CREATE TABLE IF NOT EXISTS access_version (
    id TEXT COLLATE "C" PRIMARY KEY CHECK (id = 'access'),
    version BIGINT NOT NULL
);
COMMENT ON TABLE access_version IS 'One row: how often who may do what has changed.';
INSERT INTO access_version (id, version) VALUES ('access', 0) ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION certctl_access_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE access_version SET version = version + 1;
    PERFORM pg_notify('certctl_access', '');
    RETURN NULL;
END $$;

-- The grant of an agent that registers is left out: nobody remembers a key that has just been made, and a fleet that registers would queue
-- behind this one row.
DROP TRIGGER IF EXISTS access_granted ON actor_roles;
CREATE TRIGGER access_granted AFTER INSERT ON actor_roles FOR EACH ROW
    WHEN (NEW.actor_type <> 'Agent' OR NEW.role_id <> 'r-agent') EXECUTE FUNCTION certctl_access_changed();
DROP TRIGGER IF EXISTS access_regranted ON actor_roles;
CREATE TRIGGER access_regranted AFTER UPDATE OR DELETE ON actor_roles FOR EACH ROW EXECUTE FUNCTION certctl_access_changed();
DROP TRIGGER IF EXISTS access_role ON role_permissions;
CREATE TRIGGER access_role AFTER INSERT OR UPDATE OR DELETE ON role_permissions FOR EACH ROW EXECUTE FUNCTION certctl_access_changed();
DROP TRIGGER IF EXISTS access_key ON api_keys;
CREATE TRIGGER access_key AFTER INSERT OR DELETE OR UPDATE OF name, key_hash, previous_key_hash, previous_valid_until, admin, expires_at ON api_keys
    FOR EACH ROW EXECUTE FUNCTION certctl_access_changed();
DROP TRIGGER IF EXISTS access_agent ON agents;
CREATE TRIGGER access_agent AFTER UPDATE OF api_key_hash, retired_at ON agents FOR EACH ROW
    WHEN (OLD.api_key_hash IS DISTINCT FROM NEW.api_key_hash OR OLD.retired_at IS DISTINCT FROM NEW.retired_at)
    EXECUTE FUNCTION certctl_access_changed();
DROP TRIGGER IF EXISTS access_agent_gone ON agents;
CREATE TRIGGER access_agent_gone AFTER DELETE ON agents FOR EACH ROW EXECUTE FUNCTION certctl_access_changed();
