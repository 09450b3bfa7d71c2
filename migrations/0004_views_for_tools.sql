-- Views with what joins need, and full-text indexes that other tools find.
--
-- Derived state: ground state, its hashes and the digest stay as they are. Tools such as datasette and
-- sqlite-utils look for `content="table"` in the statement of a full-text index, spelled like this. They
-- compare with text, so computed numbers are cast: only then they have a type to convert it to.

PRAGMA user_version = 4;

DROP VIEW trajectory_text;
DROP VIEW trajectory_tree;
DROP VIEW iteration_summary;
DROP TABLE tree_search;
DROP TABLE task_search;
DROP VIEW tree_document;

-- One row per trajectory: the question, its text, its reward, and why it was kept or dropped. Figures
-- have six decimal places.
CREATE VIEW trajectory_text AS
SELECT
    j.id,                                    -- trajectory
    t.run,                                   -- run that sampled it
    t.iteration,                             -- iteration that sampled it
    t.purpose,                               -- rollout, evaluation, bootstrap
    t.task_id AS task,                       -- the task's name
    coalesce(t.variant_question, k.question) AS question, -- the question in the variant's words
    CASE t.strategy WHEN 'cot' THEN (
        SELECT group_concat(text, '') FROM (
            SELECT h.text FROM thoughts h WHERE h.tree_id = j.tree_id AND h.ordinal <= j.thought ORDER BY h.ordinal)
    ) ELSE (WITH RECURSIVE path (ordinal, parent, text) AS (
        SELECT h.ordinal, h.parent, h.text FROM thoughts h WHERE h.tree_id = j.tree_id AND h.ordinal = j.thought
        UNION ALL
        SELECT h.ordinal, h.parent, h.text FROM path p JOIN thoughts h ON h.tree_id = j.tree_id AND h.ordinal = p.parent
    ) SELECT group_concat(text, '') FROM (SELECT text FROM path ORDER BY ordinal)) END AS text, -- the text of the completion
    j.answer,                                -- the answer it claims
    k.answer AS gold,                        -- the task's gold answer
    (SELECT CAST(round(s.value, 6) AS REAL) FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'reward' ORDER BY s.scoring DESC LIMIT 1) AS reward, -- latest reward; NULL: none, as evaluations have none
    v.reason,                                -- latest verdict of selection; NULL: selection never saw it
    j.finish,                                -- why it ended
    j.tokens,                                -- its length
    j.tree_id,                               -- the tree it is a path of
    r.arm,                                   -- reward, random, oracle, easy-only
    k.split,                                 -- easy, anchor, train, gate, heldout
    k.level,                                 -- difficulty of the task
    t.policy_hash AS policy,                 -- weights that sampled it
    CAST(CASE
        WHEN k.answer IS NULL OR k.kind IN ('countdown', 'game24', 'code') THEN NULL
        WHEN j.answer IS NULL THEN 0
        WHEN j.answer = k.answer THEN 1
        WHEN k.kind = 'relations' THEN 0
        WHEN k.kind = 'number' AND k.answer = CAST(CAST(k.answer AS INTEGER) AS TEXT) THEN 0
    END AS INTEGER) AS "right",              -- 1: the answer equals the gold one; 0: it does not; NULL: only the program can compare them
    CAST(v.reason LIKE 'kept%' AS INTEGER) AS kept, -- 1: it trains; 0: it does not; NULL: selection never saw it
    v.rank                                   -- place within its task by reward, from 1
FROM trajectories j
JOIN trees t ON t.id = j.tree_id
JOIN tasks k ON k.id = t.task_id
JOIN runs r ON r.id = t.run
LEFT JOIN selections v ON v.id = (SELECT max(s.id) FROM selections s WHERE s.trajectory = j.id);

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

-- One row per thought, indented by depth: `SELECT line FROM trajectory_tree WHERE tree_id = 1`.
CREATE VIEW trajectory_tree AS
SELECT
    d.tree_id,                               -- tree
    d.ordinal,                               -- thought
    d.parent,                                -- the thought before it
    d.depth,                                 -- 0 for a first thought
    substr('                                                                ', 1, 2 * d.depth)
        || replace(replace(trim(d.text, char(10, 13)), char(13), ''), char(10), ' ⏎ ') AS line, -- the text on one line, indented
    CAST(round(d.value, 6) AS REAL) AS value, -- the critic's value during the search
    d.pruned,                                -- why the search gave it up
    (SELECT j.id FROM trajectories j WHERE j.tree_id = d.tree_id AND j.thought = d.ordinal) AS trajectory, -- the trajectory that ends here
    (SELECT j.answer FROM trajectories j WHERE j.tree_id = d.tree_id AND j.thought = d.ordinal) AS answer  -- and its answer
FROM (
    SELECT h.tree_id, h.ordinal, h.parent, h.text, h.value, h.pruned,
        CAST(CASE t.strategy WHEN 'cot' THEN h.ordinal ELSE (WITH RECURSIVE up (parent) AS (
            SELECT h.parent
            UNION ALL
            SELECT p.parent FROM up JOIN thoughts p ON p.tree_id = h.tree_id AND p.ordinal = up.parent
        ) SELECT count(parent) FROM up) END AS INTEGER) AS depth
    FROM thoughts h JOIN trees t ON t.id = h.tree_id
) d;

-- One row per iteration of a run: what it sampled, kept, trained and gained. Of repeated rewards
-- the last counts. Shares have six decimal places, a loss nine.
CREATE VIEW iteration_summary AS
SELECT
    i.run,                                   -- run
    i.iteration,                             -- iteration
    (SELECT count(*) FROM trees t WHERE t.run = i.run AND t.iteration = i.iteration AND t.purpose = 'rollout') AS trees, -- rollout units
    (SELECT count(*) FROM trees t JOIN trajectories j ON j.tree_id = t.id
      WHERE t.run = i.run AND t.iteration = i.iteration AND t.purpose = 'rollout') AS trajectories, -- rollout trajectories
    (SELECT coalesce(sum(t.drawn_tokens), 0) FROM trees t WHERE t.run = i.run AND t.iteration = i.iteration) AS drawn_tokens, -- tokens sampled for every purpose
    (SELECT count(*) FROM selections s WHERE s.run = i.run AND s.iteration = i.iteration AND s.reason LIKE 'kept%') AS kept, -- trajectories that train
    (SELECT CAST(round(avg(s.value), 6) AS REAL) FROM scorings g JOIN scores s ON s.scoring = g.id
      WHERE g.run = i.run AND g.iteration = i.iteration AND s.scorer = 'reward' AND NOT EXISTS (
          SELECT 1 FROM scores n JOIN scorings m ON m.id = n.scoring
          WHERE n.trajectory = s.trajectory AND n.scorer = 'reward' AND n.scoring > s.scoring
            AND m.run = i.run AND m.iteration = i.iteration)) AS reward_mean, -- over scorable trajectories
    (SELECT count(*) FROM steps s WHERE s.run = i.run AND s.iteration = i.iteration) AS steps, -- optimizer updates
    (SELECT CAST(round(s.loss, 9) AS REAL) FROM steps s WHERE s.run = i.run AND s.iteration = i.iteration ORDER BY s.step DESC LIMIT 1) AS loss_last, -- loss of the last one
    (SELECT CAST(round(c.auc, 6) AS REAL) FROM critics c WHERE c.run = i.run AND c.iteration = i.iteration ORDER BY c.stage LIMIT 1) AS critic_auc, -- of the annotated head, else of the bootstrap head
    (SELECT CAST(round(e.value, 6) AS REAL) FROM evaluations e WHERE e.run = i.run AND e.iteration = i.iteration AND e.split = 'gate'
      AND e.decoding = 'greedy' AND e.metric = 'pass@1' AND e.level IS NULL ORDER BY e.id DESC LIMIT 1) AS gate_pass1, -- greedy accuracy on the gate split
    (SELECT CAST(round(e.value, 6) AS REAL) FROM evaluations e WHERE e.run = i.run AND e.iteration = i.iteration AND e.split = 'heldout'
      AND e.decoding = 'greedy' AND e.metric = 'pass@1' AND e.level IS NULL ORDER BY e.id DESC LIMIT 1) AS heldout_pass1, -- greedy accuracy on held-out tasks
    (SELECT p.promoted FROM promotions p WHERE p.run = i.run AND p.iteration = i.iteration) AS promoted, -- 1: the candidate became the policy
    (SELECT CAST(round(p.gain_points, 2) AS REAL) FROM promotions p WHERE p.run = i.run AND p.iteration = i.iteration) AS gain_points, -- measured by the gate
    (SELECT CAST(round(total(p.seconds), 1) AS REAL) FROM phases p WHERE p.run = i.run AND p.iteration = i.iteration) AS seconds -- of finished phases
FROM (SELECT DISTINCT run, iteration FROM units) i;

-- What full-text search reads: one document per tree, its thoughts in order of discovery and its answers.
CREATE VIEW tree_document AS
SELECT
    t.id AS rowid,                           -- tree; by this name tools join a search with its rows
    t.id,                                    -- tree
    t.run,                                   -- run that sampled it
    t.iteration,                             -- iteration that sampled it
    t.purpose,                               -- rollout, evaluation, bootstrap
    t.task_id AS task,                       -- the task's name
    (SELECT group_concat(text, '') FROM (SELECT h.text FROM thoughts h WHERE h.tree_id = t.id ORDER BY h.ordinal)) AS text, -- every thought
    (SELECT group_concat(answer, ' ') FROM (SELECT j.answer FROM trajectories j WHERE j.tree_id = t.id ORDER BY j.leaf)) AS answers -- every answer
FROM trees t;

-- The indexes keep no copy of the text: they point into `tree_document` and `tasks`.
CREATE VIRTUAL TABLE tree_search USING fts5 (text, answers, content="tree_document", content_rowid="id");
CREATE VIRTUAL TABLE task_search USING fts5 (question, content="tasks", content_rowid="seq");
INSERT INTO tree_search (tree_search) VALUES ('rebuild');
INSERT INTO task_search (task_search) VALUES ('rebuild');
