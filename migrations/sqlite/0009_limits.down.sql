DROP TABLE IF EXISTS rate_limit_tokens;
DROP TABLE IF EXISTS rate_limit_buckets;
