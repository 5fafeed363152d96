-- Never run automatically.
DROP TABLE IF EXISTS ocsp_responders;
DROP TABLE IF EXISTS crl_generation_events;
DROP TABLE IF EXISTS crl_cache;
DROP TABLE IF EXISTS revocation_status;
