DROP TRIGGER IF EXISTS access_agent_gone ON agents;
DROP TRIGGER IF EXISTS access_agent ON agents;
DROP TRIGGER IF EXISTS access_key ON api_keys;
DROP TRIGGER IF EXISTS access_role ON role_permissions;
DROP TRIGGER IF EXISTS access_regranted ON actor_roles;
DROP TRIGGER IF EXISTS access_granted ON actor_roles;
DROP FUNCTION IF EXISTS certctl_access_changed();
DROP TABLE IF EXISTS access_version;
