-- How many names are kept for a tenant below a suffix is asked for each that it takes.
CREATE INDEX quarantined_names_by_owner ON quarantined_names (owner_number, name_key);
