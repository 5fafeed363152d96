-- Never run automatically.
DROP TABLE IF EXISTS acme_failing_names;
DROP TABLE IF EXISTS acme_eab_keys;
DROP TABLE IF EXISTS acme_redeemed_nonces;
DROP TABLE IF EXISTS acme_challenges;
DROP TABLE IF EXISTS acme_authorizations;
DROP TABLE IF EXISTS acme_orders;
DROP TABLE IF EXISTS acme_accounts;
DROP INDEX IF EXISTS managed_certificates_expiring;
DROP INDEX IF EXISTS managed_certificates_due;
CREATE INDEX IF NOT EXISTS managed_certificates_due ON managed_certificates (renew_at, id)
    WHERE status IN ('Active', 'Expiring', 'Pending', 'Failed') AND renew_at IS NOT NULL;
ALTER TABLE certificate_profiles DROP COLUMN IF EXISTS acme_issuer_id;
