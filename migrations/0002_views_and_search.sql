-- Views for people and tools, and full-text search. Derived state: everything here can be rebuilt.

PRAGMA user_version = 2;

-- One row per trajectory: what was asked, what was said, what it earned, and why it was kept or dropped.
CREATE VIEW trajectory_text AS
SELECT
    j.id,                                    -- trajectory
    t.run,                                   -- run that drew it
    t.iteration,                             -- iteration that drew it
    t.purpose,                               -- rollout, evaluation, bootstrap
    t.task_id AS task,                       -- the task's name
    coalesce(t.variant_question, k.question) AS question, -- the words it was asked in
    (WITH RECURSIVE path (ordinal, parent, text) AS (
        SELECT h.ordinal, h.parent, h.text FROM thoughts h WHERE h.tree_id = j.tree_id AND h.ordinal = j.thought
        UNION ALL
        SELECT h.ordinal, h.parent, h.text FROM path p JOIN thoughts h ON h.tree_id = j.tree_id AND h.ordinal = p.parent
    ) SELECT group_concat(text, '') FROM (SELECT text FROM path ORDER BY ordinal)) AS text, -- everything it said
    j.answer,                                -- the answer it claims
    k.answer AS gold,                        -- the task's gold answer
    (SELECT s.value FROM scores s WHERE s.trajectory = j.id AND s.scorer = 'reward' ORDER BY s.scoring DESC LIMIT 1) AS reward, -- latest reward
    (SELECT s.reason FROM selections s WHERE s.trajectory = j.id ORDER BY s.id DESC LIMIT 1) AS reason, -- latest verdict of selection
    j.finish,                                -- why it ended
    j.tokens                                 -- its length
FROM trajectories j
JOIN trees t ON t.id = j.tree_id
JOIN tasks k ON k.id = t.task_id;

-- One row per thought, indented by depth: `SELECT line FROM trajectory_tree WHERE tree_id = 1`.
CREATE VIEW trajectory_tree AS
SELECT
    d.tree_id,                               -- tree
    d.ordinal,                               -- thought
    d.parent,                                -- the thought before it
    d.depth,                                 -- 0 for a first thought
    substr('                                                                ', 1, 2 * d.depth) || d.text AS line, -- the text, indented
    d.value,                                 -- the critic's value during the search
    d.pruned,                                -- why the search gave it up
    (SELECT j.id FROM trajectories j WHERE j.tree_id = d.tree_id AND j.thought = d.ordinal) AS trajectory, -- the trajectory that ends here
    (SELECT j.answer FROM trajectories j WHERE j.tree_id = d.tree_id AND j.thought = d.ordinal) AS answer  -- and its answer
FROM (
    SELECT h.tree_id, h.ordinal, h.parent, h.text, h.value, h.pruned,
        (WITH RECURSIVE up (parent) AS (
            SELECT h.parent
            UNION ALL
            SELECT p.parent FROM up JOIN thoughts p ON p.tree_id = h.tree_id AND p.ordinal = up.parent
        ) SELECT count(parent) FROM up) AS depth
    FROM thoughts h
) d;

-- One row per iteration of a run: what it drew, kept, trained and gained.
CREATE VIEW iteration_summary AS
SELECT
    i.run,                                   -- run
    i.iteration,                             -- iteration
    (SELECT count(*) FROM trees t WHERE t.run = i.run AND t.iteration = i.iteration AND t.purpose = 'rollout') AS trees, -- rollout units
    (SELECT count(*) FROM trees t JOIN trajectories j ON j.tree_id = t.id
      WHERE t.run = i.run AND t.iteration = i.iteration AND t.purpose = 'rollout') AS trajectories, -- rollout trajectories
    (SELECT total(t.drawn_tokens) FROM trees t WHERE t.run = i.run AND t.iteration = i.iteration) AS drawn_tokens, -- tokens drawn for every purpose
    (SELECT count(*) FROM selections s WHERE s.run = i.run AND s.iteration = i.iteration AND s.reason LIKE 'kept%') AS kept, -- trajectories that train
    (SELECT avg(s.value) FROM scorings g JOIN scores s ON s.scoring = g.id
      WHERE g.run = i.run AND g.iteration = i.iteration AND s.scorer = 'reward') AS reward_mean, -- over scorable trajectories
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

-- What full-text search reads: one document per tree, its thoughts in order of discovery and its answers.
CREATE VIEW tree_document AS
SELECT
    t.id,                                    -- tree
    (SELECT group_concat(text, '') FROM (SELECT h.text FROM thoughts h WHERE h.tree_id = t.id ORDER BY h.ordinal)) AS text, -- every thought
    (SELECT group_concat(answer, ' ') FROM (SELECT j.answer FROM trajectories j WHERE j.tree_id = t.id ORDER BY j.leaf)) AS answers -- every answer
FROM trees t;

-- The indexes keep no copy of the text: they point into `tree_document` and `tasks`.
CREATE VIRTUAL TABLE tree_search USING fts5 (text, answers, content = 'tree_document', content_rowid = 'id');
CREATE VIRTUAL TABLE task_search USING fts5 (question, content = 'tasks', content_rowid = 'seq');
