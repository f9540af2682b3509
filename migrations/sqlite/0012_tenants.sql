-- Tenants own zones; people are members of them, and other tenants are granted something of a zone.

CREATE TABLE tenants (
    -- The owner number of its zones. None is given twice: what is kept of a zone is kept by it.
    number          INTEGER PRIMARY KEY AUTOINCREMENT CHECK (number BETWEEN 1 AND 4294967295),
    name            TEXT    NOT NULL,
    -- Since when its members change nothing.
    suspended_at_us BIGINT,
    created_at_us   BIGINT  NOT NULL
);

CREATE TABLE memberships (
    tenant        BIGINT NOT NULL REFERENCES tenants (number) ON DELETE CASCADE,
    account_id    BLOB   NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    role          TEXT   NOT NULL CHECK (role IN ('viewer', 'editor', 'admin', 'owner')),
    created_at_us BIGINT NOT NULL,
    -- Since when the account is one; NULL: it was asked, and has not said yes.
    accepted_at_us BIGINT,
    PRIMARY KEY (tenant, account_id)
) WITHOUT ROWID;
CREATE INDEX memberships_by_account ON memberships (account_id, tenant);

-- What members of another tenant may in a zone: no more than in their own.
CREATE TABLE grants (
    zone_id       BIGINT NOT NULL REFERENCES zones (id) ON DELETE CASCADE,
    tenant        BIGINT NOT NULL REFERENCES tenants (number) ON DELETE CASCADE,
    role          TEXT   NOT NULL CHECK (role IN ('viewer', 'editor', 'admin')),
    created_at_us BIGINT NOT NULL,
    PRIMARY KEY (zone_id, tenant)
) WITHOUT ROWID;
CREATE INDEX grants_by_tenant ON grants (tenant, zone_id);

CREATE INDEX zones_by_owner ON zones (owner_number, name_key);
-- Whose the zone was in that version, and whose it was last.
ALTER TABLE history ADD COLUMN owner_number BIGINT NOT NULL DEFAULT 0 CHECK (owner_number BETWEEN 0 AND 4294967295);
ALTER TABLE departed_zones ADD COLUMN owner_number BIGINT NOT NULL DEFAULT 0 CHECK (owner_number BETWEEN 0 AND 4294967295);

-- No tenant has a zone right below or anywhere above that of somebody else, but where the owner above has granted it: whatever
-- program asks. What begins with a key is everything below its name; see migrations/README.md. Below the operator's an operator
-- makes zones for others: who does is for the program to know.
CREATE TRIGGER keep_apart_tenant BEFORE INSERT ON zones WHEN NEW.owner_number > 0 AND NOT EXISTS (
    SELECT 1 FROM tenants WHERE number = NEW.owner_number
)
BEGIN
    SELECT RAISE(ABORT, 'godwit: there is no such tenant');
END;
CREATE TRIGGER keep_apart_above BEFORE INSERT ON zones WHEN NEW.owner_number > 0 AND EXISTS (
    WITH RECURSIVE ends (at) AS (
        SELECT 0
        UNION ALL
        SELECT at + instr(substr(NEW.name_key, at + 1), x'0000') + 1 FROM ends
        WHERE instr(substr(NEW.name_key, at + 1), x'0000') > 0
    )
    SELECT 1 FROM (
        SELECT z.id, z.owner_number FROM ends JOIN zones z ON z.name_key = CAST(substr(NEW.name_key, 1, ends.at) AS BLOB)
        WHERE ends.at < length(NEW.name_key) ORDER BY ends.at DESC LIMIT 1
    ) AS above
    WHERE above.owner_number NOT IN (0, NEW.owner_number) AND NOT EXISTS (
        SELECT 1 FROM grants WHERE zone_id = above.id AND tenant = NEW.owner_number AND role = 'admin'
    )
)
BEGIN
    SELECT RAISE(ABORT, 'godwit: a zone above is somebody else''s');
END;
CREATE TRIGGER keep_apart_below BEFORE INSERT ON zones WHEN NEW.owner_number > 0 AND EXISTS (
    SELECT 1 FROM zones
    WHERE name_key > NEW.name_key AND name_key < CAST(NEW.name_key || x'FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF' AS BLOB)
        AND substr(name_key, 1, length(NEW.name_key)) = NEW.name_key
        AND owner_number <> NEW.owner_number
)
BEGIN
    SELECT RAISE(ABORT, 'godwit: a zone below is somebody else''s');
END;

-- What is told about a tenant concerns all that act for it.
CREATE TABLE revocations_of_more_kinds (
    id            BLOB   NOT NULL PRIMARY KEY,
    kind          TEXT   NOT NULL CHECK (kind IN ('token', 'key', 'account', 'tenant')),
    -- Of a token the account and its `jti`; else an id, or a number.
    subject       TEXT   NOT NULL,
    at_us         BIGINT NOT NULL,
    -- Nobody remembers what it is about any more.
    expires_at_us BIGINT NOT NULL
);
INSERT INTO revocations_of_more_kinds SELECT id, kind, subject, at_us, expires_at_us FROM revocations;
DROP TABLE revocations;
ALTER TABLE revocations_of_more_kinds RENAME TO revocations;
CREATE INDEX revocations_by_time ON revocations (at_us);
CREATE INDEX revocations_by_end ON revocations (expires_at_us);
