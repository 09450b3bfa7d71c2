-- What scores were made by, the parts of a loss, alarms, and columns for searches, pairs and other
-- engines.
--
-- Forward only: rows that are stored stay as they are, and their hashes too. A column that is added
-- here counts in a hash only where it is set (`canon.rs`), so a store that doesn't use it keeps its
-- digest.

PRAGMA user_version = 3;

-- How scorers were set up. Equal specs give equal scores, so a score that names its spec can be
-- made again.
CREATE TABLE specs (
    hash         TEXT NOT NULL PRIMARY KEY, -- blake3 of the JSON, in hexadecimal
    name         TEXT NOT NULL,        -- the scorer's name
    json         TEXT NOT NULL CHECK (json_valid(json)), -- everything its scores depend on but the trajectory
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32) -- blake3 over the row
) STRICT;

ALTER TABLE scorings ADD COLUMN
    spec TEXT REFERENCES specs (hash) /* how the scorer was set up; NULL: not recorded */;
ALTER TABLE scorings ADD COLUMN
    regrade INTEGER CHECK (regrade >= 1) /* number of the later scoring; NULL: the run's own */;

-- The parts that an update's loss was made of. `steps.loss` is their total.
CREATE TABLE step_losses (
    run       INTEGER NOT NULL,      -- the update's run
    iteration INTEGER NOT NULL,      -- the update's iteration
    step      INTEGER NOT NULL,      -- the update's number
    name      TEXT NOT NULL,         -- the part's name, e.g. 'sft', 'kl', 'entropy'
    value     REAL NOT NULL,         -- its value, weighted as it entered the total
    PRIMARY KEY (run, iteration, step, name),
    FOREIGN KEY (run, iteration, step) REFERENCES steps (run, iteration, step)
) STRICT, WITHOUT ROWID;

-- Rules that watched a figure and acted. Not ground state: what an action changed is in the other
-- tables.
CREATE TABLE alarms (
    id           INTEGER PRIMARY KEY, -- order of insertion
    run          INTEGER NOT NULL REFERENCES runs (id), -- run that it watched
    iteration    INTEGER CHECK (iteration >= 0), -- iteration that it watched; NULL: the run as a whole
    phase        TEXT,                -- phase that raised it; NULL: outside the phases
    rule         TEXT NOT NULL,       -- the rule's name, e.g. 'head_auc', 'memory'
    value        REAL,                -- the figure, in the rule's unit; NULL: it could not be measured
    threshold    REAL,                -- the limit that the figure broke; NULL: the rule has none
    action       TEXT NOT NULL,       -- what the rule did, e.g. 'warned', 'head_muted', 'rolled_back'
    message      TEXT NOT NULL,       -- one or two sentences for the user
    at           TEXT NOT NULL,       -- when, RFC 3339
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32) -- blake3 over the row
) STRICT;
CREATE INDEX alarms_by_run ON alarms (run, id);

ALTER TABLE thoughts ADD COLUMN
    visits INTEGER CHECK (visits >= 0) /* how often a search visited it; NULL: not counted */;

ALTER TABLE trees ADD COLUMN
    replayable INTEGER NOT NULL DEFAULT 1 CHECK (replayable IN (0, 1)) /* 0: the same address may give another tree */;
ALTER TABLE trees ADD COLUMN
    logprob_kind TEXT /* what its log-probabilities are of: processed; NULL: raw, as `thoughts` states */;

ALTER TABLE selections ADD COLUMN
    pair_of INTEGER REFERENCES trajectories (id) /* the trajectory preferred to this one; NULL: no pair */;
ALTER TABLE selections ADD COLUMN
    advantage REAL /* its reward relative to its group; NULL: the objective uses none */;
ALTER TABLE selections ADD COLUMN
    weight REAL /* its weight in training; NULL: 1 */;

DROP VIEW iteration_summary;

-- One row per iteration of a run: what it sampled, kept, trained and gained. Of repeated rewards
-- the last counts.
CREATE VIEW iteration_summary AS
SELECT
    i.run,                                   -- run
    i.iteration,                             -- iteration
    (SELECT count(*) FROM trees t WHERE t.run = i.run AND t.iteration = i.iteration AND t.purpose = 'rollout') AS trees, -- rollout units
    (SELECT count(*) FROM trees t JOIN trajectories j ON j.tree_id = t.id
      WHERE t.run = i.run AND t.iteration = i.iteration AND t.purpose = 'rollout') AS trajectories, -- rollout trajectories
    (SELECT total(t.drawn_tokens) FROM trees t WHERE t.run = i.run AND t.iteration = i.iteration) AS drawn_tokens, -- tokens sampled for every purpose
    (SELECT count(*) FROM selections s WHERE s.run = i.run AND s.iteration = i.iteration AND s.reason LIKE 'kept%') AS kept, -- trajectories that train
    (SELECT avg(s.value) FROM scorings g JOIN scores s ON s.scoring = g.id
      WHERE g.run = i.run AND g.iteration = i.iteration AND s.scorer = 'reward' AND NOT EXISTS (
          SELECT 1 FROM scores n JOIN scorings m ON m.id = n.scoring
          WHERE n.trajectory = s.trajectory AND n.scorer = 'reward' AND n.scoring > s.scoring
            AND m.run = i.run AND m.iteration = i.iteration)) AS reward_mean, -- over scorable trajectories
    (SELECT count(*) FROM steps s WHERE s.run = i.run AND s.iteration = i.iteration) AS steps, -- optimizer updates
    (SELECT s.loss FROM steps s WHERE s.run = i.run AND s.iteration = i.iteration ORDER BY s.step DESC LIMIT 1) AS loss_last, -- loss of the last one
    (SELECT c.auc FROM critics c WHERE c.run = i.run AND c.iteration = i.iteration ORDER BY c.stage LIMIT 1) AS critic_auc, -- of the annotated head, else of the bootstrap head
    (SELECT e.value FROM evaluations e WHERE e.run = i.run AND e.iteration = i.iteration AND e.split = 'gate'
      AND e.decoding = 'greedy' AND e.metric = 'pass@1' AND e.level IS NULL ORDER BY e.id DESC LIMIT 1) AS gate_pass1, -- greedy accuracy on the gate split
    (SELECT e.value FROM evaluations e WHERE e.run = i.run AND e.iteration = i.iteration AND e.split = 'heldout'
      AND e.decoding = 'greedy' AND e.metric = 'pass@1' AND e.level IS NULL ORDER BY e.id DESC LIMIT 1) AS heldout_pass1, -- greedy accuracy on held-out tasks
    (SELECT p.promoted FROM promotions p WHERE p.run = i.run AND p.iteration = i.iteration) AS promoted, -- 1: the candidate became the policy
    (SELECT p.gain_points FROM promotions p WHERE p.run = i.run AND p.iteration = i.iteration) AS gain_points, -- measured by the gate
    (SELECT total(p.seconds) FROM phases p WHERE p.run = i.run AND p.iteration = i.iteration) AS seconds -- of finished phases
FROM (SELECT DISTINCT run, iteration FROM units) i;
