-- Tenants own zones; people are members of them, and other tenants are granted something of a zone. What somebody may is decided
-- by the program, and once more here: whoever asks in a tenant's name does so with a role that owns nothing and sees rows by
-- policies alone.

CREATE TABLE tenants (
    -- The owner number of its zones. None is given twice: what is kept of a zone is kept by it.
    number          BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (number BETWEEN 1 AND 4294967295),
    name            TEXT    NOT NULL,
    -- Since when its members change nothing.
    suspended_at_us BIGINT,
    created_at_us   BIGINT  NOT NULL
);

CREATE TABLE memberships (
    tenant        BIGINT NOT NULL REFERENCES tenants (number) ON DELETE CASCADE,
    account_id    UUID   NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    role          TEXT   NOT NULL CHECK (role IN ('viewer', 'editor', 'admin', 'owner')),
    created_at_us BIGINT NOT NULL,
    -- Since when the account is one; NULL: it was asked, and has not said yes.
    accepted_at_us BIGINT,
    PRIMARY KEY (tenant, account_id)
);
CREATE INDEX memberships_by_account ON memberships (account_id, tenant);

-- What members of another tenant may in a zone: no more than in their own.
CREATE TABLE grants (
    zone_id       BIGINT NOT NULL REFERENCES zones (id) ON DELETE CASCADE,
    tenant        BIGINT NOT NULL REFERENCES tenants (number) ON DELETE CASCADE,
    role          TEXT   NOT NULL CHECK (role IN ('viewer', 'editor', 'admin')),
    created_at_us BIGINT NOT NULL,
    PRIMARY KEY (zone_id, tenant)
);
CREATE INDEX grants_by_tenant ON grants (tenant, zone_id);

CREATE INDEX zones_by_owner ON zones (owner_number, name_key);
-- Whose the zone was in that version, and whose it was last.
ALTER TABLE history ADD COLUMN owner_number BIGINT NOT NULL DEFAULT 0 CHECK (owner_number BETWEEN 0 AND 4294967295);
ALTER TABLE departed_zones ADD COLUMN owner_number BIGINT NOT NULL DEFAULT 0 CHECK (owner_number BETWEEN 0 AND 4294967295);

-- The role: of the whole server, and the same for all databases of ours on it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'godwit_tenant') THEN
        CREATE ROLE godwit_tenant NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role godwit_tenant is missing, and % may not make it: have an administrator of the server run CREATE ROLE godwit_tenant NOLOGIN; GRANT godwit_tenant TO %', current_user, quote_ident(current_user);
END $$;
DO $$
BEGIN
    -- A superuser may become anybody.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        BEGIN
            SET LOCAL ROLE godwit_tenant;
            RESET ROLE;
        EXCEPTION WHEN insufficient_privilege THEN
            BEGIN
                EXECUTE format('GRANT godwit_tenant TO %I', current_user);
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE EXCEPTION '% may not become the role godwit_tenant: have an administrator of the server run GRANT godwit_tenant TO %', current_user, quote_ident(current_user);
            END;
        END;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO godwit_tenant', current_schema());
END $$;

-- Who asks.
CREATE FUNCTION godwit_account() RETURNS UUID STABLE LANGUAGE SQL AS
$$ SELECT nullif(current_setting('godwit.account', true), '')::UUID $$;

CREATE FUNCTION godwit_rank_of(role TEXT) RETURNS BIGINT IMMUTABLE LANGUAGE SQL AS
$$ SELECT CASE role WHEN 'owner' THEN 4 WHEN 'admin' THEN 3 WHEN 'editor' THEN 2 WHEN 'viewer' THEN 1 ELSE 0 END::BIGINT $$;

-- What they are in a tenant: 1 viewer, 2 editor, 3 admin, 4 owner; 0 nothing.
CREATE FUNCTION godwit_rank_in(asked BIGINT) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    SELECT coalesce((
        SELECT CASE WHEN tenants.suspended_at_us IS NULL THEN godwit_rank_of(memberships.role) ELSE 1 END
        FROM memberships JOIN tenants ON tenants.number = memberships.tenant
        WHERE memberships.tenant = asked AND memberships.account_id = godwit_account() AND memberships.accepted_at_us IS NOT NULL
    ), 0)
$$;

-- What they are in a zone of an owner.
CREATE FUNCTION godwit_rank(owner BIGINT, zone BIGINT) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    SELECT least(
        greatest(
            godwit_rank_in(owner),
            coalesce((
                SELECT max(CASE WHEN tenants.suspended_at_us IS NULL THEN least(godwit_rank_of(grants.role), godwit_rank_of(memberships.role)) ELSE 1 END)
                FROM memberships
                JOIN grants ON grants.tenant = memberships.tenant AND grants.zone_id = zone
                JOIN tenants ON tenants.number = memberships.tenant
                WHERE memberships.account_id = godwit_account() AND memberships.accepted_at_us IS NOT NULL
            ), 0)
        ),
        CASE WHEN EXISTS (SELECT FROM tenants WHERE number = owner AND suspended_at_us IS NOT NULL) THEN 1 ELSE 4 END
    )
$$;

-- What they are in a zone, by its row, and by its name and owner; and what they are in the tenant that owns it.
CREATE FUNCTION godwit_look_up_rank(zone BIGINT) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT coalesce((SELECT godwit_rank(owner_number, id) FROM zones WHERE id = zone), 0) $$;
-- The same for who asks it of each record: looked up once for all of a zone that a statement reads or writes.
CREATE FUNCTION godwit_rank_at(zone BIGINT) RETURNS BIGINT VOLATILE LANGUAGE plpgsql AS
$$
DECLARE
    asked TEXT := zone || ' ' || current_setting('godwit.account', true) || ' ' || statement_timestamp() || ' ';
    known TEXT := current_setting('godwit.rank', true);
    rank BIGINT;
BEGIN
    IF starts_with(known, asked) THEN
        RETURN right(known, 1)::BIGINT;
    END IF;
    rank := godwit_look_up_rank(zone);
    PERFORM set_config('godwit.rank', asked || rank, true);
    RETURN rank;
END
$$;
CREATE FUNCTION godwit_home_rank_at(zone BIGINT) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT coalesce((SELECT godwit_rank_in(owner_number) FROM zones WHERE id = zone), 0) $$;
-- Whose a zone is, whoever asks; NULL where there is none.
CREATE FUNCTION godwit_owner_named(key BYTEA) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT owner_number FROM zones WHERE name_key = key $$;
CREATE FUNCTION godwit_rank_named(key BYTEA, owner BIGINT) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    SELECT greatest(
        godwit_rank_in(owner),
        coalesce((SELECT godwit_rank(owner_number, id) FROM zones WHERE name_key = key AND owner_number = owner), 0)
    )
$$;

-- The longest of these keys that is that of a zone, whoever may see it: another tenant's zone holds its names all the same.
CREATE FUNCTION godwit_longest(keys TEXT) RETURNS BYTEA STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    SELECT name_key FROM zones
    WHERE name_key IN (SELECT decode(substr(key, 2), 'hex') FROM unnest(string_to_array(keys, ',')) AS key)
    ORDER BY length(name_key) DESC LIMIT 1
$$;

-- Where the label behind an octet of a key ends; 0 where there is none. See migrations/README.md.
CREATE FUNCTION godwit_label_end(key BYTEA, at BIGINT) RETURNS BIGINT IMMUTABLE LANGUAGE SQL AS
$$
    SELECT CASE found WHEN 0 THEN 0 ELSE at + found + 1 END
    FROM (SELECT position('\x0000'::BYTEA IN substr(key, at::INT + 1))) AS searched (found)
$$;

-- Claims of names that could overlap come one behind the other: those at and below the same two labels, with those above them.
-- Who claims several does so in one order.
CREATE FUNCTION godwit_claim(keys TEXT) RETURNS BIGINT VOLATILE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE plpgsql AS
$$
DECLARE
    claimed BYTEA;
    one BIGINT;
    two BIGINT;
    claims BIGINT := 0;
BEGIN
    FOR claimed IN
        SELECT decode(substr(key, 2), 'hex') FROM unnest(string_to_array(keys, ',')) AS key ORDER BY 1
    LOOP
        one := godwit_label_end(claimed, 0);
        two := CASE one WHEN 0 THEN 0 ELSE godwit_label_end(claimed, one) END;
        IF one = 0 THEN
            PERFORM pg_advisory_xact_lock(hashtext('godwit claim'), hashtext(''));
        ELSIF two = 0 THEN
            PERFORM pg_advisory_xact_lock_shared(hashtext('godwit claim'), hashtext(''));
            PERFORM pg_advisory_xact_lock(hashtext('godwit claim'), hashtext(encode(claimed, 'hex')));
        ELSE
            PERFORM pg_advisory_xact_lock_shared(hashtext('godwit claim'), hashtext(''));
            PERFORM pg_advisory_xact_lock_shared(hashtext('godwit claim'), hashtext(encode(substr(claimed, 1, one::INT), 'hex')));
            PERFORM pg_advisory_xact_lock(hashtext('godwit claim'), hashtext(encode(substr(claimed, 1, two::INT), 'hex')));
        END IF;
        claims := claims + 1;
    END LOOP;
    RETURN claims;
END
$$;

-- Who owns the zone closest above a name, if any, and whether a tenant may make zones below it.
CREATE FUNCTION godwit_closest_above(key BYTEA) RETURNS TABLE (zone BIGINT, owner BIGINT) STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE plpgsql AS
$$
DECLARE
    at BIGINT := 0;
    ancestors BYTEA[] := ARRAY[]::BYTEA[];
BEGIN
    WHILE at < octet_length(key) LOOP
        ancestors := ancestors || substr(key, 1, at::INT);
        at := godwit_label_end(key, at);
        EXIT WHEN at = 0;
    END LOOP;
    RETURN QUERY SELECT id, owner_number FROM zones WHERE name_key = ANY (ancestors) ORDER BY length(name_key) DESC LIMIT 1;
END
$$;

-- No tenant has a zone right below or anywhere above that of somebody else, but where the owner above has granted it: whatever
-- program asks. What begins with a key is everything below its name.
CREATE FUNCTION godwit_keep_apart() RETURNS TRIGGER SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE plpgsql AS
$$
DECLARE
    above RECORD;
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
    -- Below the operator's an operator makes zones for others, who asks for no account.
    IF FOUND AND above.owner <> NEW.owner_number AND NOT (above.owner = 0 AND godwit_account() IS NULL) AND NOT EXISTS (
        SELECT FROM grants WHERE zone_id = above.zone AND tenant = NEW.owner_number AND role = 'admin'
    ) THEN
        RAISE EXCEPTION 'a zone above is somebody else''s' USING ERRCODE = 'GW001';
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
CREATE TRIGGER keep_apart BEFORE INSERT ON zones FOR EACH ROW EXECUTE FUNCTION godwit_keep_apart();

-- Whether there is an account, and a tenant, that somebody names, and no more: by an id or a number that they were told.
CREATE FUNCTION godwit_is_account(asked UUID) RETURNS BOOLEAN STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT EXISTS (SELECT FROM accounts WHERE id = asked) $$;
CREATE FUNCTION godwit_is_tenant(asked BIGINT) RETURNS BOOLEAN STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT EXISTS (SELECT FROM tenants WHERE number = asked) $$;
-- How many there are, whoever sees them: what is bounded is bounded for all who ask.
CREATE FUNCTION godwit_count_tenants(asked UUID) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT count(*) FROM memberships WHERE account_id = asked $$;
CREATE FUNCTION godwit_count_granted(asked BIGINT) RETURNS BIGINT STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT count(*) FROM grants WHERE tenant = asked $$;

ALTER TABLE grants ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON grants TO godwit_tenant;
CREATE POLICY seen ON grants FOR SELECT TO godwit_tenant USING (godwit_rank_in(tenant) >= 1 OR godwit_rank_at(zone_id) >= 3);
-- Who is granted something grants nothing; and nobody has to keep what they were granted.
CREATE POLICY made ON grants FOR INSERT TO godwit_tenant WITH CHECK (godwit_home_rank_at(zone_id) >= 3);
CREATE POLICY changed ON grants FOR UPDATE TO godwit_tenant USING (godwit_home_rank_at(zone_id) >= 3) WITH CHECK (godwit_home_rank_at(zone_id) >= 3);
CREATE POLICY deleted ON grants FOR DELETE TO godwit_tenant USING (godwit_home_rank_at(zone_id) >= 3 OR godwit_rank_in(tenant) >= 3);

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
-- Only an operator suspends.
GRANT SELECT, DELETE, UPDATE (name) ON tenants TO godwit_tenant;
CREATE POLICY seen ON tenants FOR SELECT TO godwit_tenant USING (
    godwit_rank_in(number) >= 1
    OR EXISTS (SELECT FROM memberships WHERE memberships.tenant = tenants.number AND memberships.account_id = godwit_account())
);
CREATE POLICY changed ON tenants FOR UPDATE TO godwit_tenant USING (godwit_rank_in(number) >= 1) WITH CHECK (godwit_rank_in(number) >= 3);
CREATE POLICY deleted ON tenants FOR DELETE TO godwit_tenant USING (godwit_rank_in(number) >= 4);

ALTER TABLE memberships ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE, UPDATE (role, accepted_at_us) ON memberships TO godwit_tenant;
-- About owners owners decide; everybody may leave, and says yes for themselves.
CREATE POLICY seen ON memberships FOR SELECT TO godwit_tenant USING (account_id = godwit_account() OR godwit_rank_in(tenant) >= 1);
CREATE POLICY made ON memberships FOR INSERT TO godwit_tenant
    WITH CHECK (accepted_at_us IS NULL AND godwit_rank_in(tenant) >= CASE role WHEN 'owner' THEN 4 ELSE 3 END);
CREATE POLICY changed ON memberships FOR UPDATE TO godwit_tenant
    USING (godwit_rank_in(tenant) >= CASE role WHEN 'owner' THEN 4 ELSE 3 END)
    WITH CHECK (godwit_rank_in(tenant) >= CASE role WHEN 'owner' THEN 4 ELSE 3 END);
-- What they were asked to be, they may become.
CREATE FUNCTION godwit_accept(asked BIGINT, at BIGINT) RETURNS BIGINT VOLATILE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    WITH accepted AS (
        UPDATE memberships SET accepted_at_us = at
        WHERE tenant = asked AND account_id = godwit_account() AND accepted_at_us IS NULL RETURNING 1
    )
    SELECT count(*) FROM accepted
$$;
CREATE POLICY deleted ON memberships FOR DELETE TO godwit_tenant
    USING (account_id = godwit_account() OR godwit_rank_in(tenant) >= CASE role WHEN 'owner' THEN 4 ELSE 3 END);

-- Of other members how they are called, and no more.
ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
GRANT SELECT (id, email, name) ON accounts TO godwit_tenant;
CREATE POLICY seen ON accounts FOR SELECT TO godwit_tenant
    USING (id = godwit_account() OR EXISTS (
        SELECT FROM memberships WHERE memberships.account_id = accounts.id AND memberships.accepted_at_us IS NOT NULL
    ));

-- What is told about a tenant concerns all that act for it.
ALTER TABLE revocations DROP CONSTRAINT revocations_kind_check;
ALTER TABLE revocations ADD CONSTRAINT revocations_kind_check CHECK (kind IN ('token', 'key', 'account', 'tenant'));
ALTER TABLE revocations ENABLE ROW LEVEL SECURITY;
GRANT INSERT ON revocations TO godwit_tenant;
CREATE POLICY told ON revocations FOR INSERT TO godwit_tenant WITH CHECK (kind IN ('account', 'tenant'));

ALTER TABLE zones ENABLE ROW LEVEL SECURITY;
-- Neither whose a zone is nor how it is called ever changes in a tenant's name.
GRANT SELECT, INSERT, DELETE, UPDATE (version, serial, ttl_policy, presigned, updated_at_us, digest) ON zones TO godwit_tenant;
CREATE POLICY seen ON zones FOR SELECT TO godwit_tenant USING (godwit_rank(owner_number, id) >= 1);
CREATE POLICY made ON zones FOR INSERT TO godwit_tenant WITH CHECK (owner_number > 0 AND godwit_rank_in(owner_number) >= 3);
-- Who may only look is refused with an error, and not by a change of no rows.
CREATE POLICY changed ON zones FOR UPDATE TO godwit_tenant USING (godwit_rank(owner_number, id) >= 1) WITH CHECK (godwit_rank(owner_number, id) >= 2);
-- It takes more than what was granted: whoever deletes a zone could make it their own.
CREATE POLICY deleted ON zones FOR DELETE TO godwit_tenant USING (godwit_rank_in(owner_number) >= 3);

ALTER TABLE rrsets ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON rrsets TO godwit_tenant;
CREATE POLICY seen ON rrsets FOR SELECT TO godwit_tenant USING (godwit_rank_at(zone_id) >= 1);
CREATE POLICY made ON rrsets FOR INSERT TO godwit_tenant WITH CHECK (godwit_rank_at(zone_id) >= 2);
CREATE POLICY changed ON rrsets FOR UPDATE TO godwit_tenant USING (godwit_rank_at(zone_id) >= 2) WITH CHECK (godwit_rank_at(zone_id) >= 2);
CREATE POLICY deleted ON rrsets FOR DELETE TO godwit_tenant USING (godwit_rank_at(zone_id) >= 2);

-- What a zone was belongs to whom the zone belonged to.
ALTER TABLE history ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON history TO godwit_tenant;
CREATE POLICY seen ON history FOR SELECT TO godwit_tenant USING (godwit_rank_named(zone_key, owner_number) >= 1);
CREATE POLICY made ON history FOR INSERT TO godwit_tenant
    WITH CHECK (
        owner_number = godwit_owner_named(zone_key)
        AND CASE WHEN kind IN ('create', 'remove') THEN godwit_rank_in(owner_number) >= 3 ELSE godwit_rank_named(zone_key, owner_number) >= 2 END
    );

ALTER TABLE undo_parts ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON undo_parts TO godwit_tenant;
CREATE POLICY seen ON undo_parts FOR SELECT TO godwit_tenant
    USING (EXISTS (SELECT FROM history WHERE history.zone_key = undo_parts.zone_key AND history.version = undo_parts.version));
CREATE POLICY made ON undo_parts FOR INSERT TO godwit_tenant
    WITH CHECK (EXISTS (SELECT FROM zones WHERE zones.name_key = zone_key AND godwit_rank(zones.owner_number, zones.id) >= 2));

ALTER TABLE departed_zones ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE ON departed_zones TO godwit_tenant;
-- A zone that comes back, whoever makes it, goes on above what it was.
CREATE POLICY seen ON departed_zones FOR SELECT TO godwit_tenant USING (true);
CREATE POLICY made ON departed_zones FOR INSERT TO godwit_tenant
    WITH CHECK (owner_number = godwit_owner_named(name_key) AND godwit_rank_in(owner_number) >= 3);
CREATE POLICY changed ON departed_zones FOR UPDATE TO godwit_tenant USING (godwit_rank_in(godwit_owner_named(name_key)) >= 3)
    WITH CHECK (owner_number = godwit_owner_named(name_key) AND godwit_rank_in(owner_number) >= 3);

-- A change is seen by who made it, and by who sees a zone that it is about.
ALTER TABLE changes ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON changes TO godwit_tenant;
CREATE POLICY seen ON changes FOR SELECT TO godwit_tenant
    USING (actor = godwit_account()::TEXT OR EXISTS (SELECT FROM history WHERE history.change_id = changes.id));
CREATE POLICY made ON changes FOR INSERT TO godwit_tenant WITH CHECK (actor = godwit_account()::TEXT);

ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON outbox TO godwit_tenant;
CREATE POLICY seen ON outbox FOR SELECT TO godwit_tenant USING (EXISTS (SELECT FROM changes WHERE changes.id = change_id));
-- Written in one statement with its change, which it cannot see yet.
CREATE POLICY made ON outbox FOR INSERT TO godwit_tenant WITH CHECK (true);

ALTER TABLE buffered_changes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON buffered_changes TO godwit_tenant;
CREATE POLICY seen ON buffered_changes FOR SELECT TO godwit_tenant USING (actor = godwit_account()::TEXT);

ALTER TABLE idempotency ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency TO godwit_tenant;
CREATE POLICY own ON idempotency FOR ALL TO godwit_tenant USING (caller = godwit_account()::TEXT) WITH CHECK (caller = godwit_account()::TEXT);

ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
GRANT INSERT ON audit TO godwit_tenant;
CREATE POLICY made ON audit FOR INSERT TO godwit_tenant WITH CHECK (actor = godwit_account()::TEXT);

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
