-- How much a tenant may have: zones, RRsets in all of them, and changes of them in a day. What is not said of a tenant is as
-- configured; 0 is any number.
ALTER TABLE tenants ADD COLUMN most_zones BIGINT CHECK (most_zones >= 0);
ALTER TABLE tenants ADD COLUMN most_rrsets BIGINT CHECK (most_rrsets >= 0);
ALTER TABLE tenants ADD COLUMN most_changes BIGINT CHECK (most_changes >= 0);

-- How many it has.
ALTER TABLE zones ADD COLUMN rrsets BIGINT NOT NULL DEFAULT 0;
UPDATE zones SET rrsets = (SELECT count(*) FROM rrsets WHERE zone_id = zones.id);

-- Changes of the zones of a tenant on a day (days since the epoch, UTC): one for each version of a zone, whoever makes it.
CREATE TABLE tenant_changes (
    day     BIGINT NOT NULL,
    tenant  BIGINT NOT NULL,
    -- Who counts: no two that write at the same time wait for each other.
    slot    BIGINT NOT NULL,
    changes BIGINT NOT NULL,
    PRIMARY KEY (day, tenant, slot)
) WITHOUT ROWID;
CREATE TRIGGER count_changes AFTER INSERT ON history WHEN NEW.owner_number > 0
BEGIN
    INSERT INTO tenant_changes (day, tenant, slot, changes) VALUES (NEW.committed_at_us / 86400000000, NEW.owner_number, 0, 1)
    ON CONFLICT (day, tenant, slot) DO UPDATE SET changes = changes + 1;
END;
