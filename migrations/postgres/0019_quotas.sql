-- How much a tenant may have: zones, RRsets in all of them, and changes of them in a day. What is not said of a tenant is as
-- configured; 0 is any number.
ALTER TABLE tenants ADD COLUMN most_zones BIGINT CHECK (most_zones >= 0);
ALTER TABLE tenants ADD COLUMN most_rrsets BIGINT CHECK (most_rrsets >= 0);
ALTER TABLE tenants ADD COLUMN most_changes BIGINT CHECK (most_changes >= 0);

-- How many it has.
ALTER TABLE zones ADD COLUMN rrsets BIGINT NOT NULL DEFAULT 0;
UPDATE zones SET rrsets = (SELECT count(*) FROM rrsets WHERE zone_id = zones.id);
GRANT UPDATE (rrsets) ON zones TO godwit_tenant;

-- Changes of the zones of a tenant on a day (days since the epoch, UTC): one for each version of a zone, whoever makes it.
CREATE TABLE tenant_changes (
    day     BIGINT NOT NULL,
    tenant  BIGINT NOT NULL,
    -- Who counts: no two that write at the same time wait for each other.
    slot    BIGINT NOT NULL,
    changes BIGINT NOT NULL,
    PRIMARY KEY (day, tenant, slot)
);
-- Nobody counts but this.
ALTER TABLE tenant_changes ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION godwit_count_changes() RETURNS TRIGGER SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE plpgsql AS
$$
BEGIN
    INSERT INTO tenant_changes (day, tenant, slot, changes)
    VALUES (NEW.committed_at_us / 86400000000, NEW.owner_number, pg_backend_pid(), 1)
    ON CONFLICT (day, tenant, slot) DO UPDATE SET changes = tenant_changes.changes + 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_changes AFTER INSERT ON history FOR EACH ROW WHEN (NEW.owner_number > 0) EXECUTE FUNCTION godwit_count_changes();

-- What a tenant may have and how often its zones were changed on a day, and what it has: asked by who changes a zone of somebody
-- else's, too.
CREATE FUNCTION godwit_quota(asked BIGINT, today BIGINT) RETURNS TABLE (most_zones BIGINT, most_rrsets BIGINT, most_changes BIGINT, changes BIGINT) STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    SELECT most_zones, most_rrsets, most_changes,
        (SELECT coalesce(sum(changes), 0)::BIGINT FROM tenant_changes WHERE day = today AND tenant = asked)
    FROM tenants WHERE number = asked
$$;
CREATE FUNCTION godwit_held(asked BIGINT) RETURNS TABLE (zones BIGINT, rrsets BIGINT) STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$ SELECT count(*), coalesce(sum(zones.rrsets), 0)::BIGINT FROM zones WHERE owner_number = asked $$;

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
