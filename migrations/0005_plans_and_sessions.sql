-- The plans of a run with hours, the sessions of a run, and the score `chance` in the view of scores.
--
-- No stored row changes.

PRAGMA user_version = 5;

-- What a run with hours decided about an iteration before it began. Ground state.
CREATE TABLE plans (
    run           INTEGER NOT NULL REFERENCES runs (id), -- run
    iteration     INTEGER NOT NULL CHECK (iteration > 0), -- iteration
    unit          INTEGER NOT NULL REFERENCES units (id), -- transaction that wrote it
    tasks         INTEGER NOT NULL CHECK (tasks > 0), -- train tasks that it rolls out
    steps         INTEGER NOT NULL CHECK (steps >= 0), -- most updates that it trains
    seconds       REAL NOT NULL,       -- how long it was expected to take
    left_seconds  REAL NOT NULL,       -- time that the run had left
    PRIMARY KEY (run, iteration)
) STRICT;
CREATE INDEX plans_by_unit ON plans (unit);

-- One process's work on a run. Not ground state: nothing but a run's remaining hours is computed from it.
CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY,      -- order
    run        INTEGER NOT NULL REFERENCES runs (id), -- run
    started_at TEXT NOT NULL,            -- RFC 3339
    seconds    REAL NOT NULL             -- how long it worked, up to its last unit; changes
) STRICT;
CREATE INDEX sessions_by_run ON sessions (run);

DROP VIEW trajectory_scores;

-- One row per scored trajectory, one column per built-in scorer, with its latest score: NULL if there is
-- none, or if it failed. Figures have six decimal places.
CREATE VIEW trajectory_scores AS
SELECT
    j.id,                                    -- trajectory
    t.run,                                   -- run that sampled it
    t.iteration,                             -- iteration that sampled it
    t.task_id AS task,                       -- the task's name
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'reward' ORDER BY s.scoring DESC LIMIT 1) AS reward, -- the formula that selection ranks by
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'head' ORDER BY s.scoring DESC LIMIT 1) AS head, -- the critique head: probability of good
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'coherence' ORDER BY s.scoring DESC LIMIT 1) AS coherence, -- the head's criterion: each thought follows
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'accuracy' ORDER BY s.scoring DESC LIMIT 1) AS accuracy, -- the head's criterion: each statement is true
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'completeness' ORDER BY s.scoring DESC LIMIT 1) AS completeness, -- the head's criterion: it reaches the answer
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'vote' ORDER BY s.scoring DESC LIMIT 1) AS vote, -- share of the task's trajectories with the same answer
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'chance' ORDER BY s.scoring DESC LIMIT 1) AS chance, -- probability that such a vote arises by chance
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'logprob_mean' ORDER BY s.scoring DESC LIMIT 1) AS logprob_mean, -- mean log-probability of its tokens, in nats
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'logprob_min' ORDER BY s.scoring DESC LIMIT 1) AS logprob_min, -- lowest log-probability of its tokens, in nats
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'reread' ORDER BY s.scoring DESC LIMIT 1) AS reread, -- mean log-probability under other variants' prompts, in nats
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'judge' ORDER BY s.scoring DESC LIMIT 1) AS judge, -- the judge's verdict on the whole
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'judge_coherence' ORDER BY s.scoring DESC LIMIT 1) AS judge_coherence, -- the judge: each thought follows
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'judge_accuracy' ORDER BY s.scoring DESC LIMIT 1) AS judge_accuracy, -- the judge: each statement is true
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'judge_completeness' ORDER BY s.scoring DESC LIMIT 1) AS judge_completeness, -- the judge: the question is answered
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'judge_disagreement' ORDER BY s.scoring DESC LIMIT 1) AS judge_disagreement, -- standard deviation of the judge's repeated verdicts
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'reference' ORDER BY s.scoring DESC LIMIT 1) AS reference -- mean log-probability under the reference model, in nats
FROM trajectories j
JOIN trees t ON t.id = j.tree_id
WHERE EXISTS (SELECT 1 FROM scores s WHERE s.trajectory = j.id);
