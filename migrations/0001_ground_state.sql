-- The trajectory store: everything a run made, and why.
--
-- Ground state is appended and never changed; the few columns that change say so. Every appended row belongs
-- to a unit (one transaction) whose content hash covers it, so `autodidact verify` notices a changed byte.
-- Names equal the engine's own: columns are fields, text values are the enums' stable names.
-- Token ids are little-endian u32, log-probabilities little-endian f32, hidden states little-endian f16.
-- Only features of SQLite 3.37 are used outside the FTS5 tables, so that older tools can open the file.

PRAGMA application_id = 1635087465; -- 'auti': says which program's file this is
PRAGMA user_version = 1;            -- the schema's version: how many migrations have run

-- One run of the loop, or of a control arm beside it.
CREATE TABLE runs (
    id               INTEGER PRIMARY KEY, -- order of beginning
    key              TEXT NOT NULL UNIQUE, -- natural key: the arm and its how-manieth run, e.g. 'reward/1'
    arm              TEXT NOT NULL,       -- reward, random, oracle, easy-only
    of_run           INTEGER REFERENCES runs (id), -- the run that a control arm accompanies
    seed             TEXT NOT NULL,       -- the run's seed, an unsigned 64-bit number in decimal
    iterations       INTEGER NOT NULL CHECK (iterations >= 0), -- planned iterations, 0 not counted; changes when a run is extended
    config_json      TEXT NOT NULL CHECK (json_valid(config_json)), -- the configuration as the run began
    config_hash      TEXT NOT NULL,       -- hash of the part of the configuration that results hang on
    tokenizer_hash   TEXT NOT NULL,       -- hash of tokenizer and prompt template
    base_policy_hash TEXT NOT NULL,       -- hash of the weights that the run began with
    engine_version   TEXT NOT NULL,       -- version of the program that began the run
    content_hash     BLOB NOT NULL CHECK (length(content_hash) = 32), -- blake3 over the row's constant columns
    state            TEXT NOT NULL,       -- running, done, stopped; changes
    state_reason     TEXT,                -- why the run stopped; changes
    started_at       TEXT NOT NULL,       -- RFC 3339
    changed_at       TEXT NOT NULL        -- when state last changed, RFC 3339; changes
) STRICT;

-- Reference problems, shared by every run in the file.
CREATE TABLE tasks (
    seq          INTEGER PRIMARY KEY,  -- order of insertion
    id           TEXT NOT NULL UNIQUE, -- stable name, e.g. 'relations/train/000012'
    kind         TEXT NOT NULL,        -- relations, countdown, text
    split        TEXT NOT NULL,        -- easy, anchor, train, gate, heldout
    level        INTEGER NOT NULL,     -- difficulty
    question     TEXT NOT NULL,        -- the question before any prompt template
    answer       TEXT,                 -- gold answer, normalised; the split says who may read it
    solution     TEXT,                 -- gold chain of thought; labelled easy tasks only
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32) -- blake3 over the row
) STRICT;
CREATE INDEX tasks_by_split ON tasks (split, seq);

-- One committed transaction: all of it is here or none of it.
CREATE TABLE units (
    id           INTEGER PRIMARY KEY,  -- order of commit
    run          INTEGER NOT NULL REFERENCES runs (id), -- the run it belongs to
    iteration    INTEGER NOT NULL CHECK (iteration >= 0), -- the iteration it belongs to
    content_hash BLOB CHECK (length(content_hash) = 32) -- blake3 over the hashes of its rows; set just before the commit
) STRICT;
CREATE INDEX units_by_iteration ON units (run, iteration);

-- One rollout unit: everything drawn for one variant of a task. A chain of thought is a tree with one branch.
CREATE TABLE trees (
    id               INTEGER PRIMARY KEY, -- order of insertion
    unit             INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    run              INTEGER NOT NULL REFERENCES runs (id), -- run that drew it
    iteration        INTEGER NOT NULL,    -- iteration that drew it
    purpose          TEXT NOT NULL,       -- rollout, evaluation, bootstrap
    address          TEXT NOT NULL,       -- names the random stream: seed/purpose/iteration/branch/task
    strategy         TEXT NOT NULL,       -- cot (chain of thought), tot (tree of thoughts)
    task_id          TEXT NOT NULL REFERENCES tasks (id), -- the task that was attempted
    variant_address  TEXT,                -- where the task's variant was drawn; NULL: the task's own words
    variant_question TEXT,                -- the variant's question; NULL: the task's own words
    prompt_ids       BLOB NOT NULL CHECK (length(prompt_ids) % 4 = 0), -- token ids of the prompt as read, u32
    drawn_tokens     INTEGER NOT NULL,    -- tokens drawn for the whole tree, pruned thoughts included
    policy_hash      TEXT NOT NULL,       -- weights that drew it
    content_hash     BLOB NOT NULL CHECK (length(content_hash) = 32), -- blake3 over the tree, its thoughts and its leaves
    UNIQUE (run, address),
    CHECK ((variant_address IS NULL) = (variant_question IS NULL))
) STRICT;
CREATE INDEX trees_by_iteration ON trees (run, iteration, purpose, drawn_tokens);
CREATE INDEX trees_by_task ON trees (task_id);
CREATE INDEX trees_by_unit ON trees (unit);

-- Reasoning units: the tokens drawn between two thought boundaries.
CREATE TABLE thoughts (
    tree_id    INTEGER NOT NULL REFERENCES trees (id), -- the tree it grew in
    ordinal    INTEGER NOT NULL CHECK (ordinal >= 0), -- position in the tree; parents come before children
    parent     INTEGER CHECK (parent >= 0 AND parent < ordinal), -- ordinal of the thought before it; NULL: a first thought
    token_ids  BLOB NOT NULL CHECK (length(token_ids) % 4 = 0), -- tokens as drawn, u32
    logprobs   BLOB NOT NULL CHECK (length(logprobs) = length(token_ids)), -- natural log-probability of each, f32, at temperature 1
    text       TEXT NOT NULL,          -- the tokens decoded
    hidden_f16 BLOB NOT NULL CHECK (length(hidden_f16) % 2 = 0), -- hidden state that drew the last token, f16; empty: none
    value      REAL,                   -- the critic's value during a tree search, in [0, 1]
    pruned     TEXT,                   -- why the search gave it up: beam, duplicate, value; NULL: it did not
    PRIMARY KEY (tree_id, ordinal)
) STRICT;

-- Attempts: the path from a tree's root to one leaf.
CREATE TABLE trajectories (
    id        INTEGER PRIMARY KEY,    -- what scores, selections and steps refer to
    tree_id   INTEGER NOT NULL REFERENCES trees (id), -- the tree it is a path of
    leaf      INTEGER NOT NULL CHECK (leaf >= 0), -- which leaf of the tree, in order of discovery
    thought   INTEGER NOT NULL,       -- ordinal of its last thought
    finish    TEXT NOT NULL,          -- eos, stop_string, boundary, tokens_max, thoughts_max, context_full
    answer    TEXT,                   -- the answer it claims, normalised; NULL: none could be read
    tokens    INTEGER NOT NULL,       -- its length in tokens, prompt not counted
    text_hash BLOB NOT NULL CHECK (length(text_hash) = 32), -- blake3 of its text: equal texts, equal hashes
    UNIQUE (tree_id, leaf),
    FOREIGN KEY (tree_id, thought) REFERENCES thoughts (tree_id, ordinal)
) STRICT;

-- One act of scoring: who scored, and when.
CREATE TABLE scorings (
    id          INTEGER PRIMARY KEY, -- order of scoring: the last one counts
    unit        INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    run         INTEGER NOT NULL REFERENCES runs (id), -- run that scored
    iteration   INTEGER NOT NULL,    -- iteration that scored
    scorer_hash TEXT NOT NULL        -- hash of the critic (and formula) that scored
) STRICT;
CREATE INDEX scorings_by_iteration ON scorings (run, iteration);
CREATE INDEX scorings_by_unit ON scorings (unit);

-- One scorer's number for one trajectory. Unscorable is not zero: a failure has an error class and no number.
CREATE TABLE scores (
    trajectory INTEGER NOT NULL REFERENCES trajectories (id), -- what was scored
    scorer     TEXT NOT NULL,       -- head, coherence, accuracy, completeness, vote, logprob_mean, logprob_min, reward
    scoring    INTEGER NOT NULL REFERENCES scorings (id), -- the act of scoring it belongs to
    value      REAL,                -- the number; NULL: it could not be computed
    error      TEXT,                -- truncated, no_answer, missing_input, non_finite; NULL: there is a number
    PRIMARY KEY (trajectory, scorer, scoring),
    CHECK ((value IS NULL) <> (error IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX scores_by_scoring ON scores (scoring);
CREATE INDEX rewards ON scores (scoring, value) WHERE scorer = 'reward';

-- Selection's verdict on each trajectory it looked at.
CREATE TABLE selections (
    id         INTEGER PRIMARY KEY,  -- order of insertion
    unit       INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    run        INTEGER NOT NULL REFERENCES runs (id), -- run that selected
    iteration  INTEGER NOT NULL,     -- iteration that selected
    trajectory INTEGER NOT NULL REFERENCES trajectories (id), -- what was judged
    rank       INTEGER CHECK (rank >= 1), -- place within its task by reward, from 1; NULL: no reward to rank by
    reason     TEXT NOT NULL,        -- kept…: it trains; anything else says why it does not
    UNIQUE (run, iteration, trajectory)
) STRICT;
CREATE INDEX selections_by_trajectory ON selections (trajectory);
CREATE INDEX selections_by_unit ON selections (unit);

-- Optimizer updates.
CREATE TABLE steps (
    run           INTEGER NOT NULL REFERENCES runs (id), -- run that trained
    iteration     INTEGER NOT NULL,  -- iteration that trained
    step          INTEGER NOT NULL,  -- number of the update within the iteration
    unit          INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    loss          REAL NOT NULL,     -- mean over target tokens, in nats
    tokens        INTEGER NOT NULL,  -- tokens read, prompts included
    target_tokens INTEGER NOT NULL,  -- tokens trained on
    grad_norm     REAL NOT NULL,     -- before clipping
    learning_rate REAL NOT NULL,     -- of this update
    PRIMARY KEY (run, iteration, step)
) STRICT;
CREATE INDEX steps_by_unit ON steps (unit);

-- Which rows trained in which update: a kept trajectory, or a labelled task that was replayed.
CREATE TABLE step_examples (
    run        INTEGER NOT NULL,     -- the update's run
    iteration  INTEGER NOT NULL,     -- the update's iteration
    step       INTEGER NOT NULL,     -- the update's number
    ordinal    INTEGER NOT NULL,     -- place in the batch
    trajectory INTEGER REFERENCES trajectories (id), -- a trajectory that trained; NULL: a task did
    task_id    TEXT REFERENCES tasks (id), -- a labelled task that was replayed; NULL: a trajectory trained
    PRIMARY KEY (run, iteration, step, ordinal),
    FOREIGN KEY (run, iteration, step) REFERENCES steps (run, iteration, step),
    CHECK ((trajectory IS NULL) <> (task_id IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX step_examples_by_trajectory ON step_examples (trajectory) WHERE trajectory IS NOT NULL;

-- A policy measured on a split.
CREATE TABLE evaluations (
    id          INTEGER PRIMARY KEY, -- order of insertion
    unit        INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    run         INTEGER NOT NULL REFERENCES runs (id), -- run that measured
    iteration   INTEGER NOT NULL,    -- iteration that measured
    policy_hash TEXT NOT NULL,       -- weights that were measured
    split       TEXT NOT NULL,       -- gate, heldout, …
    decoding    TEXT NOT NULL,       -- greedy, sampled
    metric      TEXT NOT NULL,       -- pass@1, pass@4, maj@4, …
    level       INTEGER,             -- difficulty; NULL: every level together
    n           INTEGER NOT NULL,    -- tasks measured
    value       REAL NOT NULL,       -- the metric, a share in [0, 1]
    lo          REAL NOT NULL,       -- lower end of its interval
    hi          REAL NOT NULL        -- upper end of its interval
) STRICT;
CREATE UNIQUE INDEX evaluations_once ON evaluations (run, iteration, policy_hash, split, decoding, metric, coalesce(level, -1));
CREATE INDEX evaluations_by_unit ON evaluations (unit);

-- Critique heads and how well they did on known answers.
CREATE TABLE critics (
    run       INTEGER NOT NULL REFERENCES runs (id), -- run that trained it
    iteration INTEGER NOT NULL,      -- iteration that trained it
    stage     TEXT NOT NULL,         -- bootstrap: graded labels alone; annotated: with its own confident labels
    unit      INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    hash      TEXT NOT NULL,         -- identity of the head, as scorings name it
    bytes     BLOB NOT NULL,         -- the head's parameters, safetensors
    auc       REAL,                  -- area under the ROC curve on the anchor split; NULL: not measurable
    ece       REAL,                  -- expected calibration error; NULL: not measurable
    brier     REAL,                  -- Brier score; NULL: not measurable
    anchor_n  INTEGER NOT NULL,      -- trajectories it was measured on
    annotated INTEGER NOT NULL,      -- trajectories it labelled for itself with enough confidence
    voting    INTEGER NOT NULL CHECK (voting IN (0, 1)), -- 1: it has a vote in the reward
    PRIMARY KEY (run, iteration, stage)
) STRICT;
CREATE INDEX critics_by_unit ON critics (unit);

-- Files of weights that were complete when their row was written.
CREATE TABLE checkpoints (
    id             INTEGER PRIMARY KEY, -- order of insertion
    unit           INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    run            INTEGER NOT NULL REFERENCES runs (id), -- run that made it
    iteration      INTEGER NOT NULL,    -- iteration that made it
    kind           TEXT NOT NULL,       -- base, candidate, state (a trainer in the middle of a phase)
    step           INTEGER,             -- updates done within the iteration; NULL: not in training
    policy_hash    TEXT NOT NULL,       -- the weights
    parent_hash    TEXT,                -- the weights they were trained from; NULL: none known
    path           TEXT NOT NULL,       -- file or folder, relative to the checkpoints' root
    bytes          INTEGER NOT NULL CHECK (bytes >= 0), -- size on disk
    file_hash      TEXT NOT NULL,       -- blake3 of the file, or of the folder's names and files
    removed_reason TEXT                 -- why the file was deleted; NULL: it is there; changes
) STRICT;
CREATE INDEX checkpoints_by_run ON checkpoints (run);
CREATE INDEX checkpoints_by_unit ON checkpoints (unit);

-- How far apart the sampler's and the trainer's log-probabilities were, recomputed for stored trajectories.
CREATE TABLE parity (
    run          INTEGER NOT NULL REFERENCES runs (id), -- run that compared
    iteration    INTEGER NOT NULL,   -- iteration that compared
    unit         INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    max_abs_diff REAL NOT NULL,      -- largest absolute difference, in nats
    tokens       INTEGER NOT NULL,   -- tokens compared
    PRIMARY KEY (run, iteration)
) STRICT;
CREATE INDEX parity_by_unit ON parity (unit);

-- Whether an iteration's candidate became the policy, and the test that decided.
CREATE TABLE promotions (
    run            INTEGER NOT NULL REFERENCES runs (id), -- run that decided
    iteration      INTEGER NOT NULL,  -- iteration whose candidate was judged
    unit           INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    candidate_hash TEXT NOT NULL,     -- weights that were judged
    incumbent_hash TEXT NOT NULL,     -- weights they were compared with
    promoted       INTEGER NOT NULL CHECK (promoted IN (0, 1)), -- 1: the candidate is the policy from here on
    gain_points    REAL NOT NULL,     -- candidate minus incumbent on the gate split, in percentage points
    lo             REAL NOT NULL,     -- lower end of the gain's interval
    hi             REAL NOT NULL,     -- upper end of the gain's interval
    p_value        REAL,              -- of the paired test; NULL: none was made
    reason         TEXT NOT NULL,     -- the decision in words
    PRIMARY KEY (run, iteration)
) STRICT;
CREATE INDEX promotions_by_unit ON promotions (unit);

-- What is complete. A phase's row is its last write: it makes the phase exist.
CREATE TABLE phases (
    run         INTEGER NOT NULL REFERENCES runs (id), -- run
    iteration   INTEGER NOT NULL,    -- iteration
    phase       TEXT NOT NULL,       -- bootstrap, rollout, critique, select, train, evaluate, promote
    unit        INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    seconds     REAL NOT NULL,       -- wall clock, of the session that finished it
    detail      TEXT NOT NULL,       -- what the phase came to, in words or JSON
    PRIMARY KEY (run, iteration, phase)
) STRICT;
CREATE INDEX phases_by_unit ON phases (unit);

-- What the program told its user. Not ground state: nothing is computed from it.
CREATE TABLE events (
    id      INTEGER PRIMARY KEY,     -- order
    run     INTEGER REFERENCES runs (id), -- run; NULL: about the program
    level   TEXT NOT NULL,           -- info, warning, error, alarm
    message TEXT NOT NULL,           -- the text
    at      TEXT NOT NULL            -- RFC 3339
) STRICT;
CREATE INDEX events_by_run ON events (run, id);
