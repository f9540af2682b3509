-- Whom admins of a tenant have invited to be a member, by an address of mail: the account that has it, now or later, may say yes. That
-- one is there, nobody learns who invites.
CREATE TABLE invitations (
    id            BLOB   NOT NULL PRIMARY KEY,
    tenant        BIGINT NOT NULL REFERENCES tenants (number) ON DELETE CASCADE,
    -- As it was given, and what is compared.
    email         TEXT   NOT NULL,
    email_key     TEXT   NOT NULL,
    role          TEXT   NOT NULL CHECK (role IN ('viewer', 'editor', 'admin', 'owner')),
    -- It counts as long as they may still invite. NULL: an operator.
    invited_by    BLOB   REFERENCES accounts (id) ON DELETE CASCADE,
    created_at_us BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL,
    UNIQUE (tenant, email_key)
) WITHOUT ROWID;
CREATE INDEX invitations_by_email ON invitations (email_key);
CREATE INDEX invitations_by_inviter ON invitations (invited_by);
CREATE INDEX invitations_by_time ON invitations (expires_at_us);
