-- The audit log: from where, with what, what came of it, before and after; chained, so that what is altered, taken out, exchanged or
-- cut off is found.

-- The address that the request came from; NULL: of no request.
ALTER TABLE audit ADD COLUMN client TEXT;
-- The session, key or token that came with it, as "key" and its id.
ALTER TABLE audit ADD COLUMN came_with TEXT;
ALTER TABLE audit ADD COLUMN outcome TEXT NOT NULL DEFAULT 'done' CHECK (outcome IN ('done', 'refused'));
-- Of the error, where it was refused.
ALTER TABLE audit ADD COLUMN code TEXT;
-- What it was, and what it became: JSON of the fields that changed. Of records that is in the change.
ALTER TABLE audit ADD COLUMN before TEXT;
ALTER TABLE audit ADD COLUMN after TEXT;
-- Of which tenant; NULL where that is not known.
ALTER TABLE audit ADD COLUMN tenant BIGINT;

-- Lists go by time.
DROP INDEX audit_by_time;
CREATE INDEX audit_by_time ON audit (at_us, id);
DROP INDEX audit_by_actor;
CREATE INDEX audit_by_actor ON audit (actor, at_us, id);

-- In which order the relay's leader found the rows, and the keyed hash of each and the one before it.
CREATE TABLE audit_chain (
    number   INTEGER PRIMARY KEY,
    audit_id BIGINT NOT NULL UNIQUE,
    hash     BLOB NOT NULL CHECK (length(hash) = 32)
);

-- One row: where the chain ends, and where it begins.
CREATE TABLE audit_head (
    id           BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    number       BIGINT NOT NULL,
    hash         BLOB NOT NULL CHECK (length(hash) = 32),
    -- The term in which it was last moved.
    epoch        BIGINT NOT NULL,
    -- Every row up to this one is chained; none with a lower id can still come.
    settled_id   BIGINT NOT NULL,
    -- The last that was deleted for its age, and what vouches for that; 0 and NULL: none was.
    start_number BIGINT NOT NULL,
    start_hash   BLOB NOT NULL CHECK (length(start_hash) = 32),
    start_proof  BLOB
);
INSERT INTO audit_head (id, number, hash, epoch, settled_id, start_number, start_hash) VALUES (1, 0, x'0000000000000000000000000000000000000000000000000000000000000000', 0, 0, 0, x'0000000000000000000000000000000000000000000000000000000000000000');

-- Nothing of it is ever changed, and only what is past its time deleted: once the start was moved behind it. Where there is no head
-- (a backup is about to take the place of everything) all may go.
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'rows of audit are never changed');
END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
WHEN EXISTS (SELECT 1 FROM audit_head) AND NOT EXISTS (SELECT 1 FROM audit_chain c, audit_head h WHERE c.audit_id = OLD.id AND c.number <= h.start_number)
BEGIN
    SELECT RAISE(ABORT, 'rows of audit are kept until the chain begins behind them');
END;
CREATE TRIGGER audit_chain_never_changes BEFORE UPDATE ON audit_chain BEGIN
    SELECT RAISE(ABORT, 'rows of audit_chain are never changed');
END;
CREATE TRIGGER audit_chain_is_kept BEFORE DELETE ON audit_chain
WHEN EXISTS (SELECT 1 FROM audit_head WHERE start_number < OLD.number)
BEGIN
    SELECT RAISE(ABORT, 'rows of audit_chain are kept until the chain begins behind them');
END;
