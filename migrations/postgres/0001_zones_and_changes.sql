-- Zones, their records, and what happened to them.

CREATE TABLE zones (
    id            BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Canonical key of the apex; see migrations/README.md.
    name_key      BYTEA   NOT NULL UNIQUE,
    -- Tenant; 0 is the operator.
    owner_number  BIGINT  NOT NULL CHECK (owner_number BETWEEN 0 AND 4294967295),
    -- Rises by one with every change that this zone sees.
    version       BIGINT  NOT NULL CHECK (version > 0),
    serial        BIGINT  NOT NULL CHECK (serial BETWEEN 0 AND 4294967295),
    -- 'bounded': TTLs within the limits of the API; 'keep': as they came (imports, transfers).
    ttl_policy    TEXT    NOT NULL CHECK (ttl_policy IN ('bounded', 'keep')),
    -- Signed elsewhere: records change only together with their signatures.
    presigned     BOOLEAN NOT NULL,
    created_at_us BIGINT  NOT NULL,
    updated_at_us BIGINT  NOT NULL
);

-- Zones that were deleted: one that comes back goes on above its old version and serial, so that no secondary
-- and no data plane ever sees them fall.
CREATE TABLE departed_zones (
    name_key      BYTEA   NOT NULL PRIMARY KEY,
    version       BIGINT  NOT NULL,
    serial        BIGINT  NOT NULL,
    departed_at_us BIGINT NOT NULL
);

CREATE TABLE rrsets (
    zone_id   BIGINT NOT NULL REFERENCES zones (id) ON DELETE CASCADE,
    owner_key BYTEA  NOT NULL,
    rtype     BIGINT NOT NULL CHECK (rtype BETWEEN 1 AND 65535),
    ttl       BIGINT NOT NULL CHECK (ttl BETWEEN 0 AND 2147483647),
    -- Each RDATA behind its length in two octets, in canonical order.
    rdata     BYTEA  NOT NULL CHECK (length(rdata) > 0),
    -- The same for the RRSIGs that cover this set; empty in unsigned zones.
    rrsigs    BYTEA  NOT NULL,
    PRIMARY KEY (zone_id, owner_key, rtype)
);

-- Every change that was committed, as the octets that data planes apply (wire::feed::ChangeSet).
CREATE TABLE changes (
    id              UUID   NOT NULL PRIMARY KEY,
    committed_at_us BIGINT NOT NULL,
    actor           TEXT   NOT NULL,
    request_id      TEXT   NOT NULL,
    -- Empty when the change left everything as it was: there is nothing to publish then.
    payload         BYTEA  NOT NULL
);
CREATE INDEX changes_by_time ON changes (committed_at_us);

-- What the relay has to publish, in the order of commits. The sequence is given after the commit.
CREATE TABLE outbox (
    commit_number   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    change_id       UUID   NOT NULL UNIQUE REFERENCES changes (id) ON DELETE CASCADE,
    sequence        BIGINT,
    published_at_us BIGINT
);
CREATE INDEX outbox_unpublished ON outbox (commit_number) WHERE sequence IS NULL;
CREATE INDEX outbox_by_sequence ON outbox (sequence);

-- One row per zone and version; what it did stands in the change.
CREATE TABLE history (
    zone_key        BYTEA  NOT NULL,
    version         BIGINT NOT NULL,
    serial          BIGINT NOT NULL,
    change_id       UUID   NOT NULL,
    committed_at_us BIGINT NOT NULL,
    kind            TEXT   NOT NULL CHECK (kind IN ('create', 'update', 'replace', 'remove')),
    rrsets_put      BIGINT NOT NULL,
    rrsets_deleted  BIGINT NOT NULL,
    PRIMARY KEY (zone_key, version)
);
CREATE INDEX history_by_time ON history (committed_at_us);

CREATE TABLE audit (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_us      BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    -- What it was done to: zone names, or the token's id.
    object     TEXT   NOT NULL,
    request_id TEXT   NOT NULL,
    change_id  UUID
);
CREATE INDEX audit_by_time ON audit (at_us);

CREATE TABLE tokens (
    id            UUID   NOT NULL PRIMARY KEY,
    -- SHA-256 of the token; the token itself is never stored.
    hash          BYTEA  NOT NULL UNIQUE CHECK (length(hash) = 32),
    scope         TEXT   NOT NULL,
    created_at_us BIGINT NOT NULL,
    revoked_at_us BIGINT
);

-- Answers to writes that carried an Idempotency-Key, for as long as the same key must give the same answer.
CREATE TABLE idempotency (
    caller        TEXT   NOT NULL,
    key           TEXT   NOT NULL,
    request_hash  BYTEA  NOT NULL,
    response      BYTEA  NOT NULL,
    created_at_us BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_by_time ON idempotency (created_at_us);

-- Where the feed stands. One row.
CREATE TABLE relay (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    -- One unbroken history. Starts at the time of creation, so that a database made anew is never taken for the old.
    generation BIGINT NOT NULL,
    epoch      BIGINT NOT NULL,
    sequence   BIGINT NOT NULL,
    chain      BYTEA  NOT NULL CHECK (length(chain) = 32),
    -- Sequences up to this one may have gone to a sending of everything, which leaves no rows in the outbox.
    reserved   BIGINT NOT NULL,
    -- A data plane was found ahead of this database (a restored copy): nothing is published in this generation.
    diverged   BOOLEAN NOT NULL
);
