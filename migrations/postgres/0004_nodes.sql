-- Data planes on other machines, and the keys that the control planes of one database share.

CREATE TABLE secrets (
    name          TEXT   NOT NULL PRIMARY KEY,
    -- Encrypted with the key of a file that is never in the database; the name is what it is bound to.
    sealed        BYTEA  NOT NULL,
    created_at_us BIGINT NOT NULL
);

CREATE TABLE nodes (
    id             UUID   NOT NULL PRIMARY KEY,
    name           TEXT   NOT NULL,
    -- SHA-256 of the token; the token itself is never stored.
    token_hash     BYTEA  NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    -- The later of the two feed keys that it was given: it knows no key that was made afterwards.
    last_key       BYTEA  NOT NULL CHECK (length(last_key) = 32),
    created_at_us  BIGINT NOT NULL,
    removed_at_us  BIGINT,
    -- What it last said of itself, to whom and when, by the clock of the database. Only where several control planes share
    -- one: any of them may be asked about it.
    report         BYTEA,
    reported_to    UUID,
    reported_at_us BIGINT
);
-- A name can be given again once its node is removed.
CREATE UNIQUE INDEX nodes_by_name ON nodes (name) WHERE removed_at_us IS NULL;
