-- Work that is done outside of the request that causes it: written down in that request's transaction, done by any control
-- plane of the database, again after a failure.
CREATE TABLE jobs (
    id             BLOB   NOT NULL PRIMARY KEY,
    kind           TEXT   NOT NULL,
    -- For whom it is.
    account_id     BLOB,
    -- JSON. Never a secret: whoever sees the list of jobs sees it.
    payload        TEXT   NOT NULL CHECK (length(payload) <= 65536),
    -- Of the jobs that are not ended, one has it at most.
    once           TEXT,
    -- When it ended it waits again, for the next time of this pattern.
    schedule       TEXT,
    -- failed: given up, until somebody has it tried again.
    state          TEXT   NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    -- By the clock of the database, as all that is compared with it.
    run_at_us      BIGINT NOT NULL,
    attempts       BIGINT NOT NULL CHECK (attempts >= 0),
    max_attempts   BIGINT NOT NULL CHECK (max_attempts > 0),
    -- Who has it, new with each claim, and until when without saying so again.
    holder         BLOB,
    lease_until_us BIGINT,
    last_error     TEXT,
    created_at_us  BIGINT NOT NULL,
    finished_at_us BIGINT,
    CHECK ((state = 'running') = (holder IS NOT NULL AND lease_until_us IS NOT NULL)),
    CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished_at_us IS NOT NULL))
);
CREATE UNIQUE INDEX jobs_once ON jobs (once) WHERE once IS NOT NULL AND state IN ('waiting', 'running');
CREATE INDEX jobs_waiting ON jobs (run_at_us, id) WHERE state = 'waiting';
CREATE INDEX jobs_running ON jobs (lease_until_us, id) WHERE state = 'running';
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_finished ON jobs (finished_at_us) WHERE finished_at_us IS NOT NULL;
