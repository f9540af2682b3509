-- People who may ask, and how they prove who they are. What proves it is stored as a hash, or encrypted with a key that is not
-- in the database.

CREATE TABLE accounts (
    id              UUID   NOT NULL PRIMARY KEY,
    -- As it was given, and what is compared: addresses that differ in case only are one. It was proven to be theirs, or an
    -- operator vouched for it.
    email           TEXT    NOT NULL,
    email_key       TEXT    NOT NULL UNIQUE,
    -- What it shall be once that is proven, too.
    wanted_email    TEXT,
    name            TEXT    NOT NULL,
    -- Argon2id as a PHC string; NULL until one was chosen.
    password        TEXT,
    is_operator     BOOLEAN NOT NULL,
    suspended_at_us BIGINT,
    -- The secret of one-time passwords, sealed and bound to this row. It counts once a code of it was seen.
    totp            BYTEA,
    totp_since_us   BIGINT,
    -- The last time step a code of which was taken: a code works once.
    totp_step       BIGINT  NOT NULL,
    created_at_us   BIGINT  NOT NULL
);
-- The last of them stays one.
CREATE INDEX accounts_operators ON accounts (id) WHERE is_operator AND suspended_at_us IS NULL;

-- What replaces a one-time password once, where the device is lost.
CREATE TABLE recovery_codes (
    account_id UUID  NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- SHA-256.
    hash       BYTEA NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (account_id, hash)
);

-- Who wants an account and has not proven the address yet. One address may have several: each proof makes an account with
-- the password of the registration that it belongs to, whoever else registered the same address meanwhile.
CREATE TABLE registrations (
    id            UUID  NOT NULL PRIMARY KEY,
    email         TEXT   NOT NULL,
    email_key     TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    password      TEXT   NOT NULL,
    created_at_us BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL
);
CREATE INDEX registrations_by_email ON registrations (email_key, created_at_us);
CREATE INDEX registrations_by_time ON registrations (expires_at_us);

-- What went out by mail, or was handed to an operator, and is taken once.
CREATE TABLE links (
    -- SHA-256 of what stands in it.
    hash            BYTEA NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    purpose         TEXT   NOT NULL CHECK (purpose IN ('verify', 'password', 'email')),
    registration_id UUID  REFERENCES registrations (id) ON DELETE CASCADE,
    account_id      UUID  REFERENCES accounts (id) ON DELETE CASCADE,
    -- The address that it proves.
    email           TEXT   NOT NULL,
    expires_at_us   BIGINT NOT NULL,
    CHECK ((purpose = 'verify') = (registration_id IS NOT NULL)),
    CHECK ((purpose = 'verify') = (account_id IS NULL))
);
CREATE INDEX links_by_account ON links (account_id, purpose);
CREATE INDEX links_by_registration ON links (registration_id);
CREATE INDEX links_by_time ON links (expires_at_us);

CREATE TABLE sessions (
    id            UUID  NOT NULL PRIMARY KEY,
    account_id    UUID  NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- How often its refresh token was exchanged: the number inside the one that counts.
    exchanges     BIGINT NOT NULL,
    -- Where it was last used from, and what the program there called itself.
    address       TEXT   NOT NULL,
    agent         TEXT   NOT NULL,
    created_at_us BIGINT NOT NULL,
    used_at_us    BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL,
    ended_at_us   BIGINT
);
CREATE INDEX sessions_by_account ON sessions (account_id, created_at_us);
CREATE INDEX sessions_by_time ON sessions (expires_at_us);
CREATE INDEX sessions_by_end ON sessions (ended_at_us) WHERE ended_at_us IS NOT NULL;

-- What somebody did.
CREATE INDEX audit_by_actor ON audit (actor, id);
