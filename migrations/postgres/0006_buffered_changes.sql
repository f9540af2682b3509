-- Changes that were accepted while the database was away, and that are not in `changes`: each could not be made when the
-- database was back, or only repeated another.
CREATE TABLE buffered_changes (
    change_id      UUID   NOT NULL PRIMARY KEY,
    accepted_at_us BIGINT NOT NULL,
    settled_at_us  BIGINT NOT NULL,
    actor          TEXT   NOT NULL,
    request_id     TEXT   NOT NULL,
    -- Method and the beginning of the target.
    request        TEXT   NOT NULL,
    -- The change that an earlier request with the same key had made.
    repeats        UUID,
    -- Why it could not be made, as the API says it.
    code           TEXT,
    message        TEXT,
    CHECK ((repeats IS NULL) = (code IS NOT NULL)),
    CHECK ((code IS NULL) = (message IS NULL))
);
CREATE INDEX buffered_changes_by_time ON buffered_changes (settled_at_us);
