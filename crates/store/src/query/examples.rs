//! Queries to begin with: each works on any store, and has rows on one whose run is complete.

/// A query and what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// A short name of letters, digits and underscores.
    pub name: &'static str,
    /// What it answers.
    pub about: &'static str,
    /// The query, on one line.
    pub sql: &'static str,
}

/// A full-text search, with the parameter `:words`.
pub const SEARCH: Example = Example {
    name: "search",
    about: "trajectories whose tree has all these words, in its thoughts or answers",
    sql: "SELECT id, task, iteration, answer, gold, reward, reason, text FROM trajectory_text WHERE tree_id IN (SELECT rowid FROM tree_search WHERE tree_search MATCH :words) LIMIT 100",
};

/// Queries to begin with.
pub const EXAMPLES: &[Example] = &[
    Example {
        name: "kept",
        about: "the kept trajectories with the highest rewards",
        sql: "SELECT id, task, iteration, answer, gold, reward FROM trajectory_text WHERE kept ORDER BY reward DESC LIMIT 10",
    },
    Example {
        name: "kept_and_wrong",
        about: "kept, although the answer is not the gold one",
        sql: "SELECT id, task, iteration, answer, gold, reward FROM trajectory_text WHERE kept AND NOT \"right\" LIMIT 10",
    },
    Example {
        name: "right_and_dropped",
        about: "dropped, although the answer is the gold one",
        sql: "SELECT id, task, iteration, answer, reward, reason FROM trajectory_text WHERE NOT kept AND \"right\" LIMIT 10",
    },
    Example {
        name: "iterations",
        about: "what each iteration sampled, kept and gained",
        sql: "SELECT run, iteration, trajectories, kept, reward_mean, gate_pass1, heldout_pass1, promoted FROM iteration_summary",
    },
    Example {
        name: "reasons",
        about: "why trajectories were kept or dropped",
        sql: "SELECT run, iteration, reason, count(*) AS trajectories FROM selections GROUP BY 1, 2, 3 ORDER BY 1, 2, 4 DESC",
    },
    Example {
        name: "scores",
        about: "the scores of the best-rewarded trajectories, next to each other",
        sql: "SELECT id, reward, head, vote, chance, reread, logprob_mean FROM trajectory_scores ORDER BY reward DESC LIMIT 10",
    },
    Example {
        name: "hard_tasks",
        about: "the practice tasks with the fewest right answers",
        sql: "SELECT task, count(*) AS attempts, sum(\"right\") AS \"right\" FROM trajectory_text WHERE purpose = 'rollout' GROUP BY task ORDER BY sum(\"right\") * 1.0 / count(*), task LIMIT 10",
    },
    Example {
        name: "levels",
        about: "held-out accuracy by difficulty",
        sql: "SELECT run, iteration, level, n, round(100 * value, 1) AS percent FROM evaluations WHERE split = 'heldout' AND metric = 'pass@1' AND decoding = 'greedy' AND level IS NOT NULL",
    },
    Example {
        name: "updates",
        about: "the loss of every tenth update",
        sql: "SELECT run, iteration, step, loss, grad_norm, learning_rate, target_tokens FROM steps WHERE step % 10 = 1",
    },
    Example {
        name: "time",
        about: "where the time went",
        sql: "SELECT phase, round(sum(seconds), 1) AS seconds FROM phases GROUP BY phase ORDER BY 2 DESC",
    },
    Example {
        name: "a_tree",
        about: "the thoughts of a kept trajectory",
        sql: "SELECT ordinal, depth, line FROM trajectory_tree WHERE tree_id = (SELECT min(tree_id) FROM trajectory_text WHERE kept) ORDER BY ordinal",
    },
    Example {
        name: "alarms",
        about: "rules that watched a figure and acted",
        sql: "SELECT run, iteration, phase, rule, value, threshold, action, message FROM alarms",
    },
];
