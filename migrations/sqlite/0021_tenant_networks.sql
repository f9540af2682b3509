-- From which networks who acts for a tenant is let in: lists with commas between, empty for none. Allowed none: from any that is not
-- denied. The program alone looks at them: the database does not know where a request comes from.
ALTER TABLE tenants ADD COLUMN allowed_networks TEXT NOT NULL DEFAULT '';
ALTER TABLE tenants ADD COLUMN denied_networks TEXT NOT NULL DEFAULT '';
