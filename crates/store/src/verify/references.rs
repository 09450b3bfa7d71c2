//! References between rows and to the disk: lineage, the order of phases, promotions, checkpoints.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use anyhow::Result;
use sqlx::SqliteConnection;

use crate::digest::hash_path;
use autodidact_domain::{Arm, Phase};

/// What a violation means, and the query that returns a line for each.
const LINEAGE: &[(&str, &str)] = &[
    (
        "rows lie in another run or iteration than their unit",
        "SELECT 'tree ' || x.id FROM trees x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'scoring ' || x.id FROM scorings x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'selection ' || x.id FROM selections x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'step ' || x.step FROM steps x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'evaluation ' || x.id FROM evaluations x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'critic ' || x.hash FROM critics x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'checkpoint ' || x.id FROM checkpoints x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'parity' FROM parity x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'promotion' FROM promotions x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'phase ' || x.phase FROM phases x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration
         UNION ALL SELECT 'plan ' || x.iteration FROM plans x JOIN units u ON u.id = x.unit WHERE x.run <> u.run OR x.iteration <> u.iteration",
    ),
    (
        "trees have no trajectory",
        "SELECT 'tree ' || t.id FROM trees t WHERE NOT EXISTS (SELECT 1 FROM trajectories j WHERE j.tree_id = t.id)",
    ),
    (
        "trajectories trained without having been kept",
        "SELECT DISTINCT 'trajectory ' || x.trajectory || ' in run ' || x.run || ', iteration ' || x.iteration
         FROM step_examples x WHERE x.trajectory IS NOT NULL AND NOT EXISTS (
             SELECT 1 FROM selections s WHERE s.trajectory = x.trajectory AND s.run = x.run
             AND s.iteration <= x.iteration AND s.reason LIKE 'kept%')",
    ),
    (
        "selections pair trajectories of different tasks",
        "SELECT 'selection ' || s.id FROM selections s
         JOIN trajectories j ON j.id = s.trajectory JOIN trees t ON t.id = j.tree_id
         JOIN trajectories q ON q.id = s.pair_of JOIN trees p ON p.id = q.tree_id WHERE p.task_id <> t.task_id",
    ),
    (
        "no score names these specs",
        "SELECT 'spec ' || k.hash FROM specs k WHERE NOT EXISTS (SELECT 1 FROM scorings g WHERE g.spec = k.hash)",
    ),
    (
        "trees were sampled from a policy that the run doesn't know",
        "SELECT DISTINCT 'policy ' || t.policy_hash || ' in run ' || t.run || ', iteration ' || t.iteration
         FROM trees t JOIN runs r ON r.id = t.run WHERE t.policy_hash <> r.base_policy_hash AND t.policy_hash NOT IN (
             SELECT c.policy_hash FROM checkpoints c WHERE c.run = t.run)",
    ),
];

pub(super) async fn lineage(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (meaning, query) in LINEAGE {
        let rows: Vec<String> = sqlx::query_scalar(*query).fetch_all(&mut *db).await?;
        problems.extend(rows.into_iter().map(|row| format!("{meaning}: {row}")));
    }
    Ok(problems)
}

/// The rows that a finished phase must have left: their name, and a query that counts them for
/// (run, iteration).
fn remains(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Bootstrap => (
            "bootstrapped critic",
            "SELECT count(*) FROM critics WHERE run = ?1 AND iteration = ?2 AND stage = 'bootstrap'",
        ),
        Phase::Rollout => (
            "rollout tree",
            "SELECT count(*) FROM trees WHERE run = ?1 AND iteration = ?2 AND purpose = 'rollout'",
        ),
        Phase::Critique => ("score", "SELECT count(*) FROM scorings WHERE run = ?1 AND iteration = ?2"),
        Phase::Select => ("selection", "SELECT count(*) FROM selections WHERE run = ?1 AND iteration = ?2"),
        Phase::Train => (
            "candidate checkpoint",
            "SELECT count(*) FROM checkpoints WHERE run = ?1 AND iteration = ?2 AND kind = 'candidate'",
        ),
        Phase::Evaluate => {
            ("evaluation", "SELECT count(*) FROM evaluations WHERE run = ?1 AND iteration = ?2")
        }
        Phase::Promote => ("promotion", "SELECT count(*) FROM promotions WHERE run = ?1 AND iteration = ?2"),
    }
}

/// Finished phases form a beginning of the arm's plan, and each left its rows.
pub(super) async fn phases(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let runs: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, arm FROM runs ORDER BY id").fetch_all(&mut *db).await?;
    let mut problems = Vec::new();
    for (run, arm) in runs {
        // An unknown name is reported with the names.
        let Ok(arm) = arm.parse::<Arm>() else { continue };
        let rows: Vec<(u32, String)> = sqlx::query_as("SELECT iteration, phase FROM phases WHERE run = ?1")
            .bind(run)
            .fetch_all(&mut *db)
            .await?;
        let done: BTreeSet<(u32, Phase)> =
            rows.iter().filter_map(|(iteration, phase)| Some((*iteration, phase.parse().ok()?))).collect();
        let last = done.iter().next_back().map_or(0, |(iteration, _)| *iteration);
        let plan = (0..=last).flat_map(|i| Phase::plan(arm, i).iter().map(move |&phase| (i, phase)));
        let plan: Vec<_> = plan.collect();
        let prefix = plan.iter().take_while(|step| done.contains(step)).count();
        for (iteration, phase) in done.iter().filter(|step| !plan[..prefix].contains(step)) {
            problems.push(format!(
                "run {run}: phase {phase} of iteration {iteration} is finished, but a phase before it isn't"
            ));
        }
        for (iteration, phase) in done {
            let (what, query) = remains(phase);
            let count: i64 = sqlx::query_scalar(query).bind(run).bind(iteration).fetch_one(&mut *db).await?;
            if count == 0 {
                problems.push(format!(
                    "run {run}: phase {phase} of iteration {iteration} is finished, but left no {what}"
                ));
            }
        }
    }
    Ok(problems)
}

/// Each decision starts from the policy the earlier ones left, and a promoted policy can still be
/// loaded.
pub(super) async fn promotions(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let rows: Vec<(i64, u32, String, String, bool, String)> = sqlx::query_as(
        "SELECT p.run, p.iteration, p.candidate_hash, p.incumbent_hash, p.promoted, r.base_policy_hash
         FROM promotions p JOIN runs r ON r.id = p.run ORDER BY p.run, p.iteration",
    )
    .fetch_all(&mut *db)
    .await?;
    let checkpoints: HashSet<(i64, String)> =
        sqlx::query_as("SELECT run, policy_hash FROM checkpoints WHERE kind = 'candidate'")
            .fetch_all(&mut *db)
            .await?
            .into_iter()
            .collect();
    let present: HashSet<(i64, String)> = sqlx::query_as(
        "SELECT run, policy_hash FROM checkpoints WHERE kind = 'candidate' AND removed_reason IS NULL",
    )
    .fetch_all(db)
    .await?
    .into_iter()
    .collect();
    let mut problems = Vec::new();
    let mut policy: Option<(i64, String)> = None;
    for (i, (run, iteration, candidate, incumbent, promoted, base)) in rows.iter().enumerate() {
        let place = format!("run {run}, iteration {iteration}");
        let current = match &policy {
            Some((r, hash)) if r == run => hash,
            _ => base,
        };
        if incumbent != current {
            problems
                .push(format!("{place}: the incumbent {incumbent} isn't the policy of that time, {current}"));
        }
        if !checkpoints.contains(&(*run, candidate.clone())) {
            problems.push(format!("{place}: the candidate {candidate} has no checkpoint"));
        }
        let next = if *promoted { candidate.clone() } else { current.clone() };
        let last = rows.get(i + 1).is_none_or(|(r, ..)| r != run);
        if last && next != *base && !present.contains(&(*run, next.clone())) {
            problems.push(format!(
                "{place}: the checkpoint of the promoted policy {next} was removed; the run can't be resumed"
            ));
        }
        policy = Some((*run, next));
    }
    Ok(problems)
}

/// Checkpoints that aren't marked as removed are on disk, with the bytes that were committed.
pub(super) async fn checkpoints(db: &mut SqliteConnection, root: &Path) -> Result<Vec<String>> {
    let rows: Vec<(i64, String, i64, String)> = sqlx::query_as(
        "SELECT id, path, bytes, file_hash FROM checkpoints WHERE removed_reason IS NULL ORDER BY id",
    )
    .fetch_all(db)
    .await?;
    let mut problems = Vec::new();
    for (id, path, bytes, file_hash) in rows {
        let full = root.join(&path);
        match hash_path(&full) {
            Ok((hash, size)) if hash == file_hash && size as i64 == bytes => {}
            Ok((hash, size)) => problems.push(format!(
                "checkpoint {id} at `{}` isn't what was committed: {size} bytes with hash {hash}, not {bytes} with {file_hash}",
                full.display()
            )),
            Err(error) => problems.push(format!("checkpoint {id}: {error:#}")),
        }
    }
    Ok(problems)
}
