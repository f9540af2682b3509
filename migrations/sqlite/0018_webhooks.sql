-- Webhooks: what happens to zones is told to servers of those who see them. What has to be sent is written down by the process that
-- gives sequences, in the transaction that moves its place in the log: all of it is sent, and nothing of it is lost.

CREATE TABLE webhooks (
    id               BLOB   NOT NULL PRIMARY KEY,
    -- Whose; NULL: the operator's.
    tenant           BIGINT REFERENCES tenants (number) ON DELETE CASCADE,
    url              TEXT   NOT NULL CHECK (length(url) BETWEEN 1 AND 2048),
    -- With commas between.
    topics           TEXT   NOT NULL,
    -- What deliveries are signed with, sealed; NULL: it was begun, and is none yet.
    secret           BLOB,
    created_at_us    BIGINT NOT NULL,
    -- It is told of changes behind this sequence.
    since_sequence   BIGINT NOT NULL,
    -- Since when it is told of nothing, and why.
    disabled_at_us   BIGINT,
    disabled_why     TEXT,
    -- Attempts that failed in a row, and since when they do.
    failures         BIGINT NOT NULL DEFAULT 0,
    failing_since_us BIGINT,
    -- When the next of its deliveries is sent; NULL: there is none.
    due_at_us        BIGINT
);
CREATE INDEX webhooks_by_tenant ON webhooks (tenant, id);
CREATE INDEX webhooks_by_due ON webhooks (due_at_us, id);
CREATE INDEX webhooks_enabled ON webhooks (id) WHERE disabled_at_us IS NULL AND secret IS NOT NULL;
CREATE INDEX webhooks_begun ON webhooks (created_at_us) WHERE secret IS NULL;

CREATE TABLE deliveries (
    -- In the order in which they are sent.
    id            BLOB   NOT NULL PRIMARY KEY,
    webhook_id    BLOB   NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    kind          TEXT   NOT NULL CHECK (kind IN ('change', 'resync', 'test')),
    -- The change, by its sequence.
    sequence      BIGINT,
    body          TEXT   NOT NULL,
    state         TEXT   NOT NULL CHECK (state IN ('waiting', 'done', 'failed')),
    attempts      BIGINT NOT NULL DEFAULT 0,
    -- What the last attempt was answered, or failed at.
    status        BIGINT,
    error         TEXT,
    created_at_us BIGINT NOT NULL,
    tried_at_us   BIGINT
);
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, id);
CREATE INDEX deliveries_waiting ON deliveries (webhook_id, id) WHERE state = 'waiting';
CREATE INDEX deliveries_by_age ON deliveries (created_at_us);

-- One row: up to which sequence it was looked what has to be told.
CREATE TABLE webhook_position (
    id       BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL
);
INSERT INTO webhook_position (id, sequence) SELECT 1, coalesce((SELECT sequence FROM relay WHERE id = 1), 0);

-- Claims and tokens that have ended are forgotten after a while.
CREATE INDEX claims_ended ON claims (created_at_us) WHERE state IN ('failed', 'expired');
CREATE INDEX tokens_by_revocation ON tokens (revoked_at_us) WHERE revoked_at_us IS NOT NULL AND account_id IS NOT NULL;
CREATE INDEX tokens_by_end ON tokens (expires_at_us) WHERE expires_at_us IS NOT NULL AND account_id IS NOT NULL;
