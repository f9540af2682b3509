-- The feed as a log: which batches there are, and what a data plane that has applied them holds.

-- The sum of the digests of its RRsets (wire::feed::digest), kept with every change. NULL until the first start that
-- knows of it.
ALTER TABLE zones ADD COLUMN digest BLOB CHECK (length(digest) = 32);

-- What the change set adds to the digest of everything (a number modulo 2^256). NULL in rows from before.
ALTER TABLE outbox ADD COLUMN root_change BLOB CHECK (length(root_change) = 32);

-- The digest of everything at the last sequence. NULL until it was counted.
ALTER TABLE relay ADD COLUMN root BLOB CHECK (length(root) = 32);
-- What digests are keyed with; never in the feed itself.
ALTER TABLE relay ADD COLUMN digest_key BLOB CHECK (length(digest_key) = 32);
-- The highest sequence that a data plane was found to have and this database never knew (a restored copy): while it is
-- above the last sequence, nothing is published in this generation.
ALTER TABLE relay ADD COLUMN ahead BIGINT NOT NULL DEFAULT 0;
UPDATE relay SET ahead = sequence + 1 WHERE diverged;
ALTER TABLE relay DROP COLUMN diverged;
ALTER TABLE relay DROP COLUMN reserved;
-- Which process gives sequences and publishes, and until when, by the clock of the database.
ALTER TABLE relay ADD COLUMN holder BLOB;
ALTER TABLE relay ADD COLUMN lease_until_us BIGINT NOT NULL DEFAULT 0;

-- Batches, as they are and will be in this generation; their change sets are those with these sequences. The first row
-- may have none: it is where the batch after it goes on from.
CREATE TABLE batches (
    last_sequence  BIGINT NOT NULL PRIMARY KEY,
    first_sequence BIGINT NOT NULL CHECK (first_sequence <= last_sequence + 1),
    epoch          BIGINT NOT NULL,
    previous_chain BLOB NOT NULL CHECK (length(previous_chain) = 32),
    chain          BLOB NOT NULL CHECK (length(chain) = 32),
    made_at_us     BIGINT NOT NULL
);
INSERT INTO batches (last_sequence, first_sequence, epoch, previous_chain, chain, made_at_us)
SELECT sequence, sequence + 1, epoch, chain, chain, 0 FROM relay WHERE sequence > 0;
