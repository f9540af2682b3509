-- Whom admins of a tenant have invited to be a member, by an address of mail: the account that has it, now or later, may say yes. That
-- one is there, nobody learns who invites.
CREATE TABLE invitations (
    id            UUID   NOT NULL PRIMARY KEY,
    tenant        BIGINT NOT NULL REFERENCES tenants (number) ON DELETE CASCADE,
    -- As it was given, and what is compared.
    email         TEXT   NOT NULL,
    email_key     TEXT   NOT NULL,
    role          TEXT   NOT NULL CHECK (role IN ('viewer', 'editor', 'admin', 'owner')),
    -- It counts as long as they may still invite. NULL: an operator.
    invited_by    UUID   REFERENCES accounts (id) ON DELETE CASCADE,
    created_at_us BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL,
    UNIQUE (tenant, email_key)
);
CREATE INDEX invitations_by_email ON invitations (email_key);
CREATE INDEX invitations_by_inviter ON invitations (invited_by);
CREATE INDEX invitations_by_time ON invitations (expires_at_us);

-- Their admins see them; about owners owners decide.
ALTER TABLE invitations ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE, UPDATE (email, role, invited_by, created_at_us, expires_at_us) ON invitations TO godwit_tenant;
CREATE POLICY seen ON invitations FOR SELECT TO godwit_tenant USING (godwit_rank_in(tenant) >= 3);
CREATE POLICY made ON invitations FOR INSERT TO godwit_tenant
    WITH CHECK (invited_by = godwit_account() AND godwit_rank_in(tenant) >= CASE role WHEN 'owner' THEN 4 ELSE 3 END);
CREATE POLICY changed ON invitations FOR UPDATE TO godwit_tenant
    USING (godwit_rank_in(tenant) >= CASE role WHEN 'owner' THEN 4 ELSE 3 END)
    WITH CHECK (invited_by = godwit_account() AND godwit_rank_in(tenant) >= CASE role WHEN 'owner' THEN 4 ELSE 3 END);
CREATE POLICY deleted ON invitations FOR DELETE TO godwit_tenant
    USING (godwit_rank_in(tenant) >= CASE role WHEN 'owner' THEN 4 ELSE 3 END);

-- Those of whoever asks that count.
CREATE FUNCTION godwit_invited() RETURNS SETOF invitations STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    SELECT invitations.* FROM invitations JOIN accounts ON accounts.email_key = invitations.email_key
    WHERE accounts.id = godwit_account()
        AND invitations.expires_at_us > (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT
        AND (
            invitations.invited_by IS NULL
            OR EXISTS (
                SELECT FROM memberships WHERE memberships.tenant = invitations.tenant AND memberships.account_id = invitations.invited_by
                    AND memberships.accepted_at_us IS NOT NULL
                    AND (memberships.role = 'owner' OR (memberships.role = 'admin' AND invitations.role <> 'owner'))
            )
        )
$$;
-- What they are in there is shown to them.
CREATE FUNCTION godwit_invited_to() RETURNS TABLE (number BIGINT, name TEXT, suspended_at_us BIGINT, created_at_us BIGINT, allowed_networks TEXT, denied_networks TEXT, role TEXT) STABLE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    SELECT tenants.number, tenants.name, tenants.suspended_at_us, tenants.created_at_us, tenants.allowed_networks, tenants.denied_networks, invited.role
    FROM godwit_invited() AS invited JOIN tenants ON tenants.number = invited.tenant
    WHERE NOT EXISTS (
        SELECT FROM memberships WHERE memberships.tenant = invited.tenant AND memberships.account_id = godwit_account()
    )
$$;
-- They become what they were asked or invited to be, unless they are something already.
CREATE OR REPLACE FUNCTION godwit_accept(asked BIGINT, at BIGINT) RETURNS BIGINT VOLATILE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    WITH accepted AS (
        UPDATE memberships SET accepted_at_us = at
        WHERE tenant = asked AND account_id = godwit_account() AND accepted_at_us IS NULL RETURNING 1
    ), taken AS (
        DELETE FROM invitations WHERE id IN (SELECT invited.id FROM godwit_invited() AS invited WHERE invited.tenant = asked)
        RETURNING role, created_at_us
    ), made AS (
        INSERT INTO memberships (tenant, account_id, role, created_at_us, accepted_at_us)
        SELECT asked, godwit_account(), role, created_at_us, at FROM taken
        ON CONFLICT (tenant, account_id) DO NOTHING
    )
    SELECT (SELECT count(*) FROM accepted) + (SELECT count(*) FROM taken)
$$;
-- Or they do not want it.
CREATE FUNCTION godwit_decline(asked BIGINT) RETURNS BIGINT VOLATILE SECURITY DEFINER SET search_path FROM CURRENT LANGUAGE SQL AS
$$
    WITH declined AS (
        DELETE FROM invitations USING accounts
        WHERE tenant = asked AND accounts.id = godwit_account() AND accounts.email_key = invitations.email_key RETURNING 1
    )
    SELECT count(*) FROM declined
$$;

-- Nobody else on the server has to do with them.
REVOKE ALL ON FUNCTION godwit_invited(), godwit_invited_to(), godwit_decline(BIGINT) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION godwit_invited_to(), godwit_decline(BIGINT) TO godwit_tenant;
