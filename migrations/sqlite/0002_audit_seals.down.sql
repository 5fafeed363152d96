-- Never run automatically.
DROP TRIGGER IF EXISTS note_unsealed;
DROP TABLE IF EXISTS audit_marks;
DROP TABLE IF EXISTS audit_positions;
DROP TABLE IF EXISTS audit_batches;
DROP TABLE IF EXISTS audit_keys;
DROP TABLE IF EXISTS audit_unsealed;
