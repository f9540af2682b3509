-- Which names tenants make zones of: one label below a suffix that the operator shares, or at and below a name that they have
-- proven to be theirs. What somebody released is not given to somebody else for a while.

-- Zones of the operator below which every tenant takes names.
CREATE TABLE suffixes (
    name_key      BLOB   NOT NULL PRIMARY KEY REFERENCES zones (name_key) ON DELETE CASCADE,
    -- The most names of one tenant.
    per_tenant    BIGINT NOT NULL CHECK (per_tenant BETWEEN 0 AND 1000000),
    created_at_us BIGINT NOT NULL
);

-- The zones one label below each, with what their label looks like: no two look alike.
CREATE TABLE taken_names (
    name_key     BLOB   NOT NULL PRIMARY KEY REFERENCES zones (name_key) ON DELETE CASCADE,
    suffix_key   BLOB   NOT NULL REFERENCES suffixes (name_key) ON DELETE CASCADE,
    owner_number BIGINT NOT NULL CHECK (owner_number BETWEEN 0 AND 4294967295),
    skeleton     TEXT   NOT NULL
);
CREATE UNIQUE INDEX taken_names_by_look ON taken_names (suffix_key, skeleton);
CREATE INDEX taken_names_by_owner ON taken_names (suffix_key, owner_number);

-- Names that a tenant gave up, and until when nobody else gets them.
CREATE TABLE quarantined_names (
    name_key     BLOB   NOT NULL PRIMARY KEY,
    owner_number BIGINT NOT NULL CHECK (owner_number BETWEEN 1 AND 4294967295),
    until_us     BIGINT NOT NULL
);
CREATE INDEX quarantined_names_by_end ON quarantined_names (until_us);

-- Names that tenants want to prove to be theirs, or have proven.
CREATE TABLE claims (
    id            BLOB   NOT NULL PRIMARY KEY,
    tenant        BIGINT NOT NULL REFERENCES tenants (number) ON DELETE CASCADE,
    name_key      BLOB   NOT NULL,
    state         TEXT   NOT NULL CHECK (state IN ('pending', 'verified', 'lapsed', 'failed', 'expired')),
    -- What has to stand in the DNS. It is of this claim alone.
    token         BLOB   NOT NULL CHECK (length(token) = 16),
    created_at_us BIGINT NOT NULL,
    -- Until then it has to be seen for the first time.
    expires_at_us BIGINT NOT NULL,
    -- When it was last seen.
    seen_at_us    BIGINT,
    -- When it was last looked for, and what was found.
    checked_at_us BIGINT,
    found         TEXT,
    -- When it is looked for again, if ever.
    check_at_us   BIGINT
);
-- The first that is verified wins.
CREATE UNIQUE INDEX claims_verified ON claims (name_key) WHERE state = 'verified';
-- A tenant proves a name once at a time.
CREATE UNIQUE INDEX claims_open ON claims (tenant, name_key) WHERE state IN ('pending', 'verified', 'lapsed');
CREATE INDEX claims_by_name ON claims (name_key);
CREATE INDEX claims_by_tenant ON claims (tenant, id);
CREATE INDEX claims_by_check ON claims (check_at_us);


-- What somebody released waits; inside of a tenant's zone that one decides.
CREATE TRIGGER keep_quarantined BEFORE INSERT ON zones WHEN NEW.owner_number > 0 AND EXISTS (
    SELECT 1 FROM quarantined_names WHERE name_key = NEW.name_key AND owner_number <> NEW.owner_number
        AND until_us > CAST(unixepoch('subsec') * 1000000 AS INTEGER)
) AND NOT EXISTS (
    WITH RECURSIVE ends (at) AS (
        SELECT 0
        UNION ALL
        SELECT at + instr(substr(NEW.name_key, at + 1), x'0000') + 1 FROM ends
        WHERE instr(substr(NEW.name_key, at + 1), x'0000') > 0
    )
    SELECT 1 FROM (
        SELECT z.owner_number FROM ends JOIN zones z ON z.name_key = CAST(substr(NEW.name_key, 1, ends.at) AS BLOB)
        WHERE ends.at < length(NEW.name_key) ORDER BY ends.at DESC LIMIT 1
    ) AS above
    WHERE above.owner_number > 0
)
BEGIN
    SELECT RAISE(ABORT, 'godwit: the name was released by somebody else a short time ago');
END;
