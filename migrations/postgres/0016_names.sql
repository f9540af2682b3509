-- Which names tenants make zones of: one label below a suffix that the operator shares, or at and below a name that they have
-- proven to be theirs. What somebody released is not given to somebody else for a while.

-- Zones of the operator below which every tenant takes names.
CREATE TABLE suffixes (
    name_key      BYTEA  NOT NULL PRIMARY KEY REFERENCES zones (name_key) ON DELETE CASCADE,
    -- The most names of one tenant.
    per_tenant    BIGINT NOT NULL CHECK (per_tenant BETWEEN 0 AND 1000000),
    created_at_us BIGINT NOT NULL
);

-- The zones one label below each, with what their label looks like: no two look alike.
CREATE TABLE taken_names (
    name_key     BYTEA  NOT NULL PRIMARY KEY REFERENCES zones (name_key) ON DELETE CASCADE,
    suffix_key   BYTEA  NOT NULL REFERENCES suffixes (name_key) ON DELETE CASCADE,
    owner_number BIGINT NOT NULL CHECK (owner_number BETWEEN 0 AND 4294967295),
    skeleton     TEXT   NOT NULL
);
CREATE UNIQUE INDEX taken_names_by_look ON taken_names (suffix_key, skeleton);
CREATE INDEX taken_names_by_owner ON taken_names (suffix_key, owner_number);

-- Names that a tenant gave up, and until when nobody else gets them.
CREATE TABLE quarantined_names (
    name_key     BYTEA  NOT NULL PRIMARY KEY,
    owner_number BIGINT NOT NULL CHECK (owner_number BETWEEN 1 AND 4294967295),
    until_us     BIGINT NOT NULL
);
CREATE INDEX quarantined_names_by_end ON quarantined_names (until_us);

-- Names that tenants want to prove to be theirs, or have proven.
CREATE TABLE claims (
    id            UUID   NOT NULL PRIMARY KEY,
    tenant        BIGINT NOT NULL REFERENCES tenants (number) ON DELETE CASCADE,
    name_key      BYTEA  NOT NULL,
    state         TEXT   NOT NULL CHECK (state IN ('pending', 'verified', 'lapsed', 'failed', 'expired')),
    -- What has to stand in the DNS. It is of this claim alone.
    token         BYTEA  NOT NULL CHECK (length(token) = 16),
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

-- Who has proven a name to be theirs; 0 nobody.
CREATE FUNCTION godwit_claimant(key BYTEA) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT coalesce((SELECT tenant FROM claims WHERE name_key = key AND state = 'verified'), 0) $$;

-- Whose a name below a suffix is that looks like another one; -1 nobody's.
CREATE FUNCTION godwit_looks_like(suffix BYTEA, look TEXT) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT coalesce((SELECT owner_number FROM taken_names WHERE suffix_key = suffix AND skeleton = look), -1) $$;

-- Whether a zone has records at or below a name.
CREATE FUNCTION godwit_uses(zone BYTEA, key BYTEA) RETURNS BOOLEAN STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    SELECT EXISTS (
        SELECT FROM rrsets WHERE zone_id = (SELECT id FROM zones WHERE name_key = zone)
            AND owner_key >= key AND owner_key < key || decode(repeat('ff', 64), 'hex')
            AND substr(owner_key, 1, octet_length(key)) = key
    )
$$;

-- As in 0012; and below a suffix, whoever asks makes a zone one label below it, and what somebody released waits.
CREATE OR REPLACE FUNCTION godwit_keep_apart() RETURNS TRIGGER SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE plpgsql AS
$$
DECLARE
    above RECORD;
    is_shared BOOLEAN := FALSE;
BEGIN
    PERFORM godwit_claim('x' || encode(NEW.name_key, 'hex'));
    IF NEW.owner_number = 0 THEN
        RETURN NEW;
    END IF;
    PERFORM 1 FROM tenants
    WHERE number = NEW.owner_number AND (suspended_at_us IS NULL OR godwit_account() IS NULL) FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such tenant, or it is suspended' USING ERRCODE = 'GW002';
    END IF;
    SELECT * INTO above FROM godwit_closest_above(NEW.name_key);
    IF FOUND THEN
        is_shared := above.owner = 0 AND EXISTS (
            SELECT FROM zones JOIN suffixes ON suffixes.name_key = zones.name_key
            WHERE zones.id = above.zone
                AND godwit_label_end(NEW.name_key, octet_length(zones.name_key)) = octet_length(NEW.name_key)
        );
        -- Below the operator's an operator makes zones for others, who asks for no account.
        IF above.owner <> NEW.owner_number AND NOT is_shared AND NOT (above.owner = 0 AND godwit_account() IS NULL) AND NOT EXISTS (
            SELECT FROM grants WHERE zone_id = above.zone AND tenant = NEW.owner_number AND role = 'admin'
        ) THEN
            RAISE EXCEPTION 'a zone above is somebody else''s' USING ERRCODE = 'GW001';
        END IF;
    END IF;
    -- Inside of a tenant's zone that one decides.
    IF coalesce(above.owner, 0) = 0 AND EXISTS (
        SELECT FROM quarantined_names WHERE name_key = NEW.name_key AND owner_number <> NEW.owner_number
            AND until_us > (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT
    ) THEN
        RAISE EXCEPTION 'the name was released by somebody else a short time ago' USING ERRCODE = 'GW003';
    END IF;
    IF EXISTS (
        SELECT FROM zones
        WHERE name_key > NEW.name_key AND name_key < NEW.name_key || decode(repeat('ff', 64), 'hex')
            AND substr(name_key, 1, octet_length(NEW.name_key)) = NEW.name_key
            AND owner_number <> NEW.owner_number
    ) THEN
        RAISE EXCEPTION 'a zone below is somebody else''s' USING ERRCODE = 'GW001';
    END IF;
    -- It goes on above what it was.
    DELETE FROM departed_zones WHERE name_key = NEW.name_key;
    RETURN NEW;
END
$$;

ALTER TABLE suffixes ENABLE ROW LEVEL SECURITY;
-- What is on offer is no secret.
GRANT SELECT ON suffixes TO godwit_tenant;
CREATE POLICY seen ON suffixes FOR SELECT TO godwit_tenant USING (true);

ALTER TABLE taken_names ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON taken_names TO godwit_tenant;
CREATE POLICY seen ON taken_names FOR SELECT TO godwit_tenant USING (godwit_rank_in(owner_number) >= 1);
CREATE POLICY made ON taken_names FOR INSERT TO godwit_tenant WITH CHECK (owner_number > 0 AND godwit_rank_in(owner_number) >= 3);

ALTER TABLE quarantined_names ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON quarantined_names TO godwit_tenant;
-- Whoever wants the name is told; whoever released it takes it back.
CREATE POLICY seen ON quarantined_names FOR SELECT TO godwit_tenant USING (true);
CREATE POLICY made ON quarantined_names FOR INSERT TO godwit_tenant
    WITH CHECK (owner_number = godwit_owner_named(name_key) AND godwit_rank_in(owner_number) >= 3);
CREATE POLICY changed ON quarantined_names FOR UPDATE TO godwit_tenant
    USING (godwit_rank_in(godwit_owner_named(name_key)) >= 3)
    WITH CHECK (owner_number = godwit_owner_named(name_key) AND godwit_rank_in(owner_number) >= 3);
CREATE POLICY deleted ON quarantined_names FOR DELETE TO godwit_tenant USING (godwit_rank_in(owner_number) >= 3);

ALTER TABLE claims ENABLE ROW LEVEL SECURITY;
-- What comes of one is decided by who has looked, and not in a tenant's name.
GRANT SELECT, INSERT, DELETE, UPDATE (check_at_us) ON claims TO godwit_tenant;
CREATE POLICY seen ON claims FOR SELECT TO godwit_tenant USING (godwit_rank_in(tenant) >= 1);
CREATE POLICY made ON claims FOR INSERT TO godwit_tenant WITH CHECK (godwit_rank_in(tenant) >= 3 AND state = 'pending' AND seen_at_us IS NULL);
CREATE POLICY changed ON claims FOR UPDATE TO godwit_tenant USING (godwit_rank_in(tenant) >= 1) WITH CHECK (godwit_rank_in(tenant) >= 3);
CREATE POLICY deleted ON claims FOR DELETE TO godwit_tenant USING (godwit_rank_in(tenant) >= 3);

-- Nobody else on the server has to do with them.
DO $$
DECLARE
    one REGPROCEDURE;
BEGIN
    FOR one IN SELECT oid FROM pg_proc WHERE proname LIKE 'godwit\_%' AND pronamespace = current_schema()::REGNAMESPACE LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO godwit_tenant', one);
    END LOOP;
END $$;
