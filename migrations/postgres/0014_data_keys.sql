-- Secrets are sealed with data keys, and these with a master key that is not in the database. What is sealed begins with the
-- number of its data key, and is bound to table, column and row.

CREATE TABLE data_keys (
    -- The highest one seals; the others open what is not sealed anew yet.
    id            BIGINT NOT NULL PRIMARY KEY,
    created_at_us BIGINT NOT NULL
);

-- A data key, sealed with a master key: with several while these are changed.
CREATE TABLE wrapped_keys (
    data_key_id   BIGINT NOT NULL REFERENCES data_keys (id) ON DELETE CASCADE,
    -- Names the master key, and says nothing of it.
    master_id     TEXT   NOT NULL,
    sealed        BYTEA  NOT NULL,
    PRIMARY KEY (data_key_id, master_id)
);

-- Which master key a control plane that runs has, where several share the database.
CREATE TABLE key_holders (
    id            UUID   NOT NULL PRIMARY KEY,
    master_id     TEXT   NOT NULL,
    -- By the clock of the database.
    said_at_us    BIGINT NOT NULL
);

CREATE INDEX key_holders_by_time ON key_holders (said_at_us);

-- Those that have a secret.
CREATE INDEX accounts_with_totp ON accounts (id) WHERE totp IS NOT NULL;
