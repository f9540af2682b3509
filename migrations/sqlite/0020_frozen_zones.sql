-- Zones of names whose proof is gone are served as before and changed by operators alone, until it is back or they are released.

-- Since when.
ALTER TABLE zones ADD COLUMN frozen_at_us BIGINT;
CREATE INDEX zones_frozen ON zones (frozen_at_us, name_key) WHERE frozen_at_us IS NOT NULL;
