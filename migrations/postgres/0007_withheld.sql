-- Change sets at which the code of data planes failed before they were published: they have their sequence, and what is
-- published under it names no zone.
ALTER TABLE outbox ADD COLUMN withheld BOOLEAN NOT NULL DEFAULT FALSE;
-- The zones that they name are given to nobody until a later change of them passes.
CREATE TABLE withheld_zones (
    zone_key BYTEA  NOT NULL PRIMARY KEY,
    -- What the last change set that was withheld led to.
    version  BIGINT NOT NULL,
    since_us BIGINT NOT NULL,
    reason   TEXT   NOT NULL
);
