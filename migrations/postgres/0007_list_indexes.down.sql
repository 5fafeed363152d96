DROP TRIGGER IF EXISTS count_truncated ON jobs;
DROP TRIGGER IF EXISTS count_deleted ON jobs;
DROP TRIGGER IF EXISTS count_inserted ON jobs;
DROP TRIGGER IF EXISTS count_truncated ON managed_certificates;
DROP TRIGGER IF EXISTS count_deleted ON managed_certificates;
DROP TRIGGER IF EXISTS count_inserted ON managed_certificates;
DROP FUNCTION IF EXISTS certctl_forget_rows();
DROP FUNCTION IF EXISTS certctl_count_rows();
DROP TABLE IF EXISTS row_totals;

DROP INDEX IF EXISTS managed_certificates_profile;
CREATE INDEX IF NOT EXISTS managed_certificates_profile ON managed_certificates (certificate_profile_id);
DROP INDEX IF EXISTS managed_certificates_issuer;
CREATE INDEX IF NOT EXISTS managed_certificates_issuer ON managed_certificates (issuer_id);
DROP INDEX IF EXISTS managed_certificates_team;
CREATE INDEX IF NOT EXISTS managed_certificates_team ON managed_certificates (team_id);
DROP INDEX IF EXISTS managed_certificates_owner;
CREATE INDEX IF NOT EXISTS managed_certificates_owner ON managed_certificates (owner_id);

DROP INDEX IF EXISTS managed_certificates_environment;
DROP INDEX IF EXISTS managed_certificates_ends;
DROP INDEX IF EXISTS managed_certificates_common_name;
DROP INDEX IF EXISTS managed_certificates_updated;
