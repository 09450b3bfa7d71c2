//! Computes every hash again, and reads every stored name.

use std::collections::HashMap;
use std::str::FromStr;

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::rows::{CheckpointKind, CriticStage, NewRun, Provenance, StoredTree};
use crate::{canon, decode, read};
use autodidact_domain::{
    AlarmAction, AlarmRule, Arm, Decoding, FinishReason, LogprobKind, Phase, PruneReason, Purpose, RunState,
    ScoreError, ScorerName, SelectionReason, Split, Strategy, TaskKind, Tree,
};

pub(super) async fn runs(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let rows = sqlx::query(
        "SELECT r.*, o.key AS of_key FROM runs r LEFT JOIN runs o ON o.id = r.of_run ORDER BY r.id",
    )
    .fetch_all(db)
    .await?;
    let mut problems = Vec::new();
    for row in &rows {
        let id: i64 = row.try_get("id")?;
        match run_matches(row) {
            Ok(true) => {}
            Ok(false) => problems.push(format!("run {id} isn't what was written: its content hash differs")),
            Err(error) => problems.push(format!("run {id} can't be read: {error:#}")),
        }
    }
    Ok(problems)
}

fn run_matches(row: &SqliteRow) -> Result<bool> {
    let run = decode::run(row)?;
    let new = NewRun {
        arm: run.arm,
        of_run: run.of_run,
        seed: run.seed,
        iterations: run.iterations,
        config_json: run.config_json,
        config_hash: run.config_hash,
        tokenizer_hash: run.tokenizer_hash,
        base_policy_hash: run.base_policy_hash,
        engine_version: run.engine_version,
        started_at: run.started_at,
    };
    let hash = canon::run_hash(row.try_get("key")?, row.try_get("of_key")?, &new);
    Ok(row.try_get::<&[u8], _>("content_hash")? == hash)
}

pub(super) async fn tasks(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let rows = sqlx::query("SELECT * FROM tasks ORDER BY seq").fetch_all(db).await?;
    let mut problems = Vec::new();
    for row in &rows {
        let seq: i64 = row.try_get("seq")?;
        match decode::task(row) {
            Ok(task) if row.try_get::<&[u8], _>("content_hash")? == canon::task_hash(&task) => {}
            Ok(task) => {
                problems.push(format!("task `{}` isn't what was written: its content hash differs", task.id));
            }
            Err(error) => problems.push(format!("task {seq} can't be read: {error:#}")),
        }
    }
    Ok(problems)
}

/// Specs are what their hashes name, and what was written.
pub(super) async fn specs(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let rows = sqlx::query("SELECT * FROM specs ORDER BY hash").fetch_all(db).await?;
    let mut problems = Vec::new();
    for row in &rows {
        let hash: &str = row.try_get("hash")?;
        match decode::spec(row) {
            Ok(spec)
                if hash == blake3::hash(spec.json.as_bytes()).to_hex().as_str()
                    && row.try_get::<&[u8], _>("content_hash")? == canon::spec_hash(&spec) => {}
            Ok(_) => problems.push(format!("spec {hash} isn't what was written: its content hash differs")),
            Err(error) => problems.push(format!("spec {hash} can't be read: {error:#}")),
        }
    }
    Ok(problems)
}

pub(super) async fn alarms(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let rows = sqlx::query("SELECT a.*, r.key FROM alarms a JOIN runs r ON r.id = a.run ORDER BY a.id")
        .fetch_all(db)
        .await?;
    let mut problems = Vec::new();
    for row in &rows {
        let id: i64 = row.try_get("id")?;
        match decode::alarm(row) {
            Ok(alarm)
                if row.try_get::<&[u8], _>("content_hash")?
                    == canon::alarm_hash(row.try_get("key")?, &alarm) => {}
            Ok(_) => problems.push(format!("alarm {id} isn't what was written: its content hash differs")),
            Err(error) => problems.push(format!("alarm {id} can't be read: {error:#}")),
        }
    }
    Ok(problems)
}

/// The hash of each tree with its thoughts and leaves, and what the schema can't express about its
/// shape.
pub(super) async fn trees(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM trees ORDER BY id").fetch_all(&mut *db).await?;
    let mut problems = Vec::new();
    for page in ids.chunks(256) {
        if let Ok(found) = page_problems(db, page).await {
            problems.extend(found);
            continue;
        }
        // Something in this page can't be read. Reading its trees one by one finds it.
        for &id in page {
            match page_problems(db, &[id]).await {
                Ok(found) => problems.extend(found),
                Err(error) => problems.push(format!("tree {id} can't be read: {error:#}")),
            }
        }
    }
    Ok(problems)
}

/// What a tree's rows claim about it.
struct Claims {
    purpose: Purpose,
    drawn_tokens: i64,
    content_hash: Vec<u8>,
    leaves: Vec<LeafClaims>,
}

struct LeafClaims {
    trajectory: i64,
    leaf: i64,
    tokens: i64,
    text_hash: Vec<u8>,
}

async fn page_problems(db: &mut SqliteConnection, ids: &[i64]) -> Result<Vec<String>> {
    let mut claims = claims(db, ids).await?;
    let mut problems = Vec::new();
    for stored in read::trees_by_id(db, ids).await? {
        let claims = claims.remove(&stored.tree_row).context("a tree without a row")?;
        problems.extend(tree_problems(&stored, &claims));
    }
    Ok(problems)
}

async fn claims(db: &mut SqliteConnection, ids: &[i64]) -> Result<HashMap<i64, Claims>> {
    let list = serde_json::to_string(ids)?;
    let rows = sqlx::query(
        "SELECT id, purpose, drawn_tokens, content_hash FROM trees WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(&list)
    .fetch_all(&mut *db)
    .await?;
    let mut claims = HashMap::with_capacity(rows.len());
    for row in &rows {
        let claim = Claims {
            purpose: decode::named(row, "purpose")?,
            drawn_tokens: row.try_get("drawn_tokens")?,
            content_hash: row.try_get("content_hash")?,
            leaves: Vec::new(),
        };
        claims.insert(row.try_get("id")?, claim);
    }
    let leaves: Vec<(i64, i64, i64, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT tree_id, id, leaf, tokens, text_hash FROM trajectories
         WHERE tree_id IN (SELECT value FROM json_each(?1)) ORDER BY tree_id, leaf",
    )
    .bind(&list)
    .fetch_all(db)
    .await?;
    for (tree, trajectory, leaf, tokens, text_hash) in leaves {
        let tree = claims.get_mut(&tree).context("a trajectory without its tree")?;
        tree.leaves.push(LeafClaims { trajectory, leaf, tokens, text_hash });
    }
    Ok(claims)
}

fn tree_problems(stored: &StoredTree, claims: &Claims) -> Vec<String> {
    let tree = &stored.tree;
    let place = format!("{} in tree {} ({})", trajectories(&claims.leaves), stored.tree_row, tree.address);
    let mut problems: Vec<String> =
        shape(tree).into_iter().map(|problem| format!("{place}: {problem}")).collect();
    let StoredTree { policy_hash, replayable, logprobs, .. } = stored;
    let provenance = Provenance { policy_hash, replayable: *replayable, logprobs: *logprobs };
    let hash = canon::tree_hash(claims.purpose, provenance, tree);
    if claims.content_hash != hash || claims.drawn_tokens != tree.drawn_tokens() as i64 {
        problems.push(format!("{place} isn't what was written: its content hash differs"));
    }
    // Paths can be followed only if the shape is sound.
    if problems.is_empty() {
        problems.extend(leaf_problems(tree, &claims.leaves));
    }
    problems
}

/// `trajectory 5`, `trajectories 5 to 8`; what `inspect trajectory` is asked for.
fn trajectories(leaves: &[LeafClaims]) -> String {
    match leaves {
        [] => "no trajectory".to_owned(),
        [one] => format!("trajectory {}", one.trajectory),
        [first, .., last] => format!("trajectories {} to {}", first.trajectory, last.trajectory),
    }
}

fn leaf_problems(tree: &Tree, claims: &[LeafClaims]) -> Vec<String> {
    let mut problems = Vec::new();
    for ((place, leaf), claim) in tree.leaves.iter().enumerate().zip(claims) {
        let id = claim.trajectory;
        if claim.leaf != place as i64 {
            problems.push(format!("trajectory {id} is leaf {}, but its place is {place}", claim.leaf));
        }
        if claim.tokens != tree.completion_ids(leaf).len() as i64 {
            problems.push(format!(
                "trajectory {id} doesn't have the {} tokens that its row states",
                claim.tokens
            ));
        }
        if claim.text_hash != canon::text_hash(&tree.completion_text(leaf)) {
            problems.push(format!("trajectory {id}: the hash of its text differs"));
        }
    }
    problems
}

fn shape(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    if tree.leaves.is_empty() {
        problems.push("it has no leaf".to_owned());
    }
    for (i, thought) in tree.thoughts.iter().enumerate() {
        let (ids, logprobs) = (thought.token_ids.len(), thought.logprobs.len());
        if ids != logprobs {
            problems.push(format!("thought {i} has {ids} token ids but {logprobs} log-probabilities"));
        }
        if let Some(parent) = thought.parent.filter(|&p| p as usize >= i) {
            problems.push(format!("thought {i} has parent {parent}, which doesn't come before it"));
        }
    }
    for (i, leaf) in tree.leaves.iter().enumerate() {
        if leaf.thought as usize >= tree.thoughts.len() {
            problems.push(format!("leaf {i} ends at thought {} of {}", leaf.thought, tree.thoughts.len()));
        }
    }
    problems
}

/// Every committed transaction's hash, from its rows as they are now. `hashes` gets the hashes of
/// all rows.
pub(super) async fn units(db: &mut SqliteConnection, hashes: &mut Vec<canon::Hash>) -> Result<Vec<String>> {
    let units: Vec<(i64, i64, i64, Option<Vec<u8>>)> =
        sqlx::query_as("SELECT id, run, iteration, content_hash FROM units ORDER BY id")
            .fetch_all(&mut *db)
            .await?;
    let mut problems = Vec::new();
    for (id, run, iteration, hash) in units {
        let place = format!("unit {id} (run {run}, iteration {iteration})");
        match canon::unit_tables(db, id).await {
            Err(error) => problems.push(format!("{place} can't be read: {error:#}")),
            Ok((rows, tables)) => {
                if hash.as_deref() != Some(canon::combined(&rows).as_slice()) {
                    let tables = if tables.is_empty() { "any table".to_owned() } else { tables.join(", ") };
                    problems.push(format!(
                        "the rows of {place} in {tables} aren't what was written: their hash differs"
                    ));
                }
                hashes.extend(rows);
            }
        }
    }
    Ok(problems)
}

type Known = fn(&str) -> bool;

fn known<T: FromStr>(name: &str) -> bool {
    name.parse::<T>().is_ok()
}

/// Every column that holds an enum's name.
const NAMES: &[(&str, &str, Known)] = &[
    ("runs.arm", "SELECT DISTINCT arm FROM runs", known::<Arm>),
    ("runs.state", "SELECT DISTINCT state FROM runs", known::<RunState>),
    ("tasks.kind", "SELECT DISTINCT kind FROM tasks", known::<TaskKind>),
    ("tasks.split", "SELECT DISTINCT split FROM tasks", known::<Split>),
    ("trees.purpose", "SELECT DISTINCT purpose FROM trees", known::<Purpose>),
    ("trees.strategy", "SELECT DISTINCT strategy FROM trees", known::<Strategy>),
    (
        "trees.logprob_kind",
        "SELECT DISTINCT logprob_kind FROM trees WHERE logprob_kind IS NOT NULL",
        known::<LogprobKind>,
    ),
    (
        "thoughts.pruned",
        "SELECT DISTINCT pruned FROM thoughts WHERE pruned IS NOT NULL",
        known::<PruneReason>,
    ),
    ("trajectories.finish", "SELECT DISTINCT finish FROM trajectories", known::<FinishReason>),
    ("scores.scorer", "SELECT DISTINCT scorer FROM scores", known::<ScorerName>),
    ("scores.error", "SELECT DISTINCT error FROM scores WHERE error IS NOT NULL", known::<ScoreError>),
    ("selections.reason", "SELECT DISTINCT reason FROM selections", known::<SelectionReason>),
    ("evaluations.split", "SELECT DISTINCT split FROM evaluations", known::<Split>),
    ("evaluations.decoding", "SELECT DISTINCT decoding FROM evaluations", known::<Decoding>),
    ("critics.stage", "SELECT DISTINCT stage FROM critics", known::<CriticStage>),
    ("checkpoints.kind", "SELECT DISTINCT kind FROM checkpoints", known::<CheckpointKind>),
    ("phases.phase", "SELECT DISTINCT phase FROM phases", known::<Phase>),
    ("alarms.phase", "SELECT DISTINCT phase FROM alarms WHERE phase IS NOT NULL", known::<Phase>),
    ("alarms.rule", "SELECT DISTINCT rule FROM alarms", known::<AlarmRule>),
    ("alarms.action", "SELECT DISTINCT action FROM alarms", known::<AlarmAction>),
];

pub(super) async fn names(db: &mut SqliteConnection) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (column, query, known) in NAMES {
        let names: Vec<String> = sqlx::query_scalar(*query)
            .fetch_all(&mut *db)
            .await
            .with_context(|| format!("the names in {column}"))?;
        let unknown = names.into_iter().filter(|name| !known(name));
        problems
            .extend(unknown.map(|name| format!("{column} holds `{name}`, which this program doesn't know")));
    }
    Ok(problems)
}
