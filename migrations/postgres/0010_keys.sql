-- Keys with which users sign their own tokens, and tokens that are good no more before their time.

CREATE TABLE keys (
    -- The `kid` of tokens.
    id              UUID    NOT NULL PRIMARY KEY,
    account_id      UUID    NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name            TEXT    NOT NULL,
    algorithm       TEXT    NOT NULL CHECK (algorithm IN ('RS256', 'ES256', 'EdDSA')),
    -- What verifies: RSAPublicKey (RFC 8017 A.1.1), a point of P-256, or 32 octets of Ed25519.
    public_key      BYTEA   NOT NULL,
    -- The most that its tokens may; what their account may not, they may not either.
    scope           TEXT    NOT NULL,
    -- A token of it is taken once.
    single_use      BOOLEAN NOT NULL,
    created_at_us   BIGINT  NOT NULL,
    expires_at_us   BIGINT
);
CREATE INDEX keys_by_account ON keys (account_id, created_at_us);

-- What every control plane has to hear of within a second. Read by time, not by number: what is committed late is not passed by.
CREATE TABLE revocations (
    id            UUID   NOT NULL PRIMARY KEY,
    kind          TEXT   NOT NULL CHECK (kind IN ('token', 'key', 'account')),
    -- Of a token the account and its `jti`; else an id.
    subject       TEXT   NOT NULL,
    at_us         BIGINT NOT NULL,
    -- Nobody remembers what it is about any more.
    expires_at_us BIGINT NOT NULL
);
CREATE INDEX revocations_by_time ON revocations (at_us);
CREATE INDEX revocations_by_end ON revocations (expires_at_us);

-- Tokens of keys whose tokens are taken once.
CREATE TABLE spent_tokens (
    key_id        UUID   NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    jti           TEXT   NOT NULL,
    expires_at_us BIGINT NOT NULL,
    PRIMARY KEY (key_id, jti)
);
CREATE INDEX spent_tokens_by_end ON spent_tokens (expires_at_us);
