-- Tokens of accounts, for what cannot sign: narrowed, with an end, and with when they were last used.

-- Whose it is; NULL: of nobody's account, as the one that the first start made.
ALTER TABLE tokens ADD COLUMN account_id UUID REFERENCES accounts (id) ON DELETE CASCADE;
ALTER TABLE tokens ADD COLUMN name TEXT NOT NULL DEFAULT '';
-- What it is narrowed to, as the claim `godwit` of a JWT.
ALTER TABLE tokens ADD COLUMN narrowed TEXT NOT NULL DEFAULT '{}';
ALTER TABLE tokens ADD COLUMN expires_at_us BIGINT;
-- Within a minute.
ALTER TABLE tokens ADD COLUMN used_at_us BIGINT;
CREATE INDEX tokens_by_account ON tokens (account_id, created_at_us);
