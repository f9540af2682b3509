-- What webhooks are sent is sent by jobs, of which those of a webhook are one at a time.
ALTER TABLE jobs ADD COLUMN tenant BIGINT;
CREATE INDEX jobs_of_tenant ON jobs (tenant) WHERE tenant IS NOT NULL AND state = 'waiting';

INSERT INTO jobs (id, kind, tenant, payload, once, state, run_at_us, attempts, max_attempts, created_at_us)
    SELECT id, 'webhook.deliver', tenant, '{"webhook":"' || id || '"}', 'webhook.deliver ' || id, 'waiting', due_at_us, 0, 1000, due_at_us
    FROM webhooks WHERE due_at_us IS NOT NULL;
DROP INDEX webhooks_by_due;
ALTER TABLE webhooks DROP COLUMN due_at_us;

-- Of all jobs, tenants have to do with those that send what their own webhooks are to be sent.
ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
GRANT SELECT (kind, tenant, once, state, run_at_us), UPDATE (run_at_us),
    INSERT (id, kind, account_id, tenant, payload, once, schedule, state, run_at_us, attempts, max_attempts, created_at_us)
    ON jobs TO godwit_tenant;
CREATE POLICY seen ON jobs FOR SELECT TO godwit_tenant
    USING (kind = 'webhook.deliver' AND EXISTS (SELECT FROM webhooks WHERE once = 'webhook.deliver ' || webhooks.id));
CREATE POLICY hurried ON jobs FOR UPDATE TO godwit_tenant
    USING (kind = 'webhook.deliver' AND EXISTS (SELECT FROM webhooks WHERE once = 'webhook.deliver ' || webhooks.id));
CREATE POLICY made ON jobs FOR INSERT TO godwit_tenant
    WITH CHECK (kind = 'webhook.deliver' AND account_id IS NULL AND schedule IS NULL AND state = 'waiting' AND attempts = 0
        AND EXISTS (SELECT FROM webhooks WHERE once = 'webhook.deliver ' || webhooks.id
            AND payload = '{"webhook":"' || webhooks.id || '"}' AND jobs.tenant = webhooks.tenant));
