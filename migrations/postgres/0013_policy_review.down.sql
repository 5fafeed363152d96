DROP TABLE IF EXISTS policy_review;
