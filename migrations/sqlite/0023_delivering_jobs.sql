-- What webhooks are sent is sent by jobs, of which those of a webhook are one at a time.
ALTER TABLE jobs ADD COLUMN tenant BIGINT;
CREATE INDEX jobs_of_tenant ON jobs (tenant) WHERE tenant IS NOT NULL AND state = 'waiting';

INSERT INTO jobs (id, kind, tenant, payload, once, state, run_at_us, attempts, max_attempts, created_at_us)
    SELECT id, 'webhook.deliver', tenant, '{"webhook":"' || text || '"}', 'webhook.deliver ' || text, 'waiting', due_at_us, 0, 1000, due_at_us
    FROM (
        SELECT id, tenant, due_at_us, substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-' || substr(hex, 13, 4) || '-' || substr(hex, 17, 4)
            || '-' || substr(hex, 21) AS text
        FROM (SELECT id, tenant, due_at_us, lower(hex(id)) AS hex FROM webhooks WHERE due_at_us IS NOT NULL)
    );
DROP INDEX webhooks_by_due;
ALTER TABLE webhooks DROP COLUMN due_at_us;
