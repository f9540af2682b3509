-- Change sets at which the code of data planes failed before they were published: they have their sequence, and what is
-- published under it names no zone. Nothing is withheld here, as nothing is published before it is committed with its
-- sequence; a backup of a server may bring it.
ALTER TABLE outbox ADD COLUMN withheld BOOLEAN NOT NULL DEFAULT FALSE;
-- The zones that they name are given to nobody until a later change of them passes.
CREATE TABLE withheld_zones (
    zone_key BLOB    NOT NULL PRIMARY KEY,
    -- What the last change set that was withheld led to.
    version  INTEGER NOT NULL,
    since_us INTEGER NOT NULL,
    reason   TEXT    NOT NULL
) WITHOUT ROWID;
