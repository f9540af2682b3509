-- What takes a version of a zone back: a kept version can be read, and made the present one again.

-- What the zone was before the change. NULL where there was no zone, and in rows from before this step.
ALTER TABLE history ADD COLUMN before_owner_number BIGINT CHECK (before_owner_number BETWEEN 0 AND 4294967295);
ALTER TABLE history ADD COLUMN before_serial BIGINT CHECK (before_serial BETWEEN 0 AND 4294967295);
ALTER TABLE history ADD COLUMN before_ttl_policy TEXT CHECK (before_ttl_policy IN ('bounded', 'keep'));
ALTER TABLE history ADD COLUMN before_presigned BOOLEAN;
ALTER TABLE history ADD COLUMN before_created_at_us BIGINT;
ALTER TABLE history ADD COLUMN before_updated_at_us BIGINT;
ALTER TABLE history ADD COLUMN before_digest BYTEA CHECK (length(before_digest) = 32);
-- The first of the change sets (wire::feed::ChangeSet) that lead back; empty where there was no zone. NULL in rows from
-- before this step.
ALTER TABLE history ADD COLUMN undo BYTEA;
-- What the audit calls it. NULL in rows from before this step.
ALTER TABLE history ADD COLUMN action TEXT;
CREATE INDEX history_by_change ON history (change_id);

-- The others, where one is not enough: a zone has any number of records.
CREATE TABLE undo_parts (
    zone_key BYTEA  NOT NULL,
    version  BIGINT NOT NULL,
    part     BIGINT NOT NULL CHECK (part > 0),
    undo     BYTEA  NOT NULL,
    PRIMARY KEY (zone_key, version, part),
    FOREIGN KEY (zone_key, version) REFERENCES history (zone_key, version) ON DELETE CASCADE
);
