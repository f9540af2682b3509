-- Zones of names whose proof is gone are served as before and changed by operators alone, until it is back or they are released.

-- Since when.
ALTER TABLE zones ADD COLUMN frozen_at_us BIGINT;
CREATE INDEX zones_frozen ON zones (frozen_at_us, name_key) WHERE frozen_at_us IS NOT NULL;

-- Besides what 0012 says. Since when one is frozen is not for a tenant to say: the column is not among those that it may change.
CREATE POLICY frozen ON zones AS RESTRICTIVE FOR UPDATE TO godwit_tenant USING (true) WITH CHECK (frozen_at_us IS NULL);
