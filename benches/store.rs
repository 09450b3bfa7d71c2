//! The store's speed, each figure next to a baseline of the same run.
//!
//! `cargo bench --bench store [-- --json FILE]` writes to a temporary folder (about 1 GB; `TMPDIR` moves
//! it). `STORE_TREES` sets the size of the store that is queried (default: 100,000 trajectories).

#[path = "measure/results.rs"]
mod results;
#[path = "trees/mod.rs"]
mod trees;

use std::time::{Duration, Instant};

use autodidact::domain::*;
use autodidact::store::*;
use results::{Results, figure};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use trees::{TOKENS, chain, open};

const TREES: u32 = 200;
const THOUGHTS: u32 = 15;
const HIDDEN: u32 = 192;

fn main() -> anyhow::Result<()> {
    let mut results = Results::of("store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        inserts(&mut results).await;
        queries(&mut results).await;
    });
    results.write_if_asked()
}

/// The user's own SQL, without a limit of time.
async fn ask(reader: &Reader, query: &str) -> anyhow::Result<Table> {
    reader.sql(query, TableLimits { rows: 50, bytes: 1 << 28 }, || false).await
}

fn rate(results: &mut Results, name: &str, rows: u32, spent: Duration, baseline: Option<f64>) -> f64 {
    let rate = f64::from(rows) / spent.as_secs_f64();
    let ratio = baseline.map_or_else(String::new, |b| format!("  {:8.1}x the baseline", rate / b));
    println!("{name:<58} {rate:>12.0} thought rows/s{ratio}");
    results.row(
        "Storing thoughts",
        &[
            ("how", json!(name)),
            ("rows/s", figure(rate)),
            ("of the baseline", baseline.map_or(json!(null), |b| figure(rate / b))),
        ],
    );
    rate
}

async fn inserts(results: &mut Results) {
    println!(
        "thoughts of {TOKENS} tokens with {HIDDEN} hidden values; units of {TREES} trees x {THOUGHTS} thoughts"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let trees: Vec<Tree> = (0..TREES).map(|n| chain(1, n, THOUGHTS, HIDDEN)).collect();
    let durable = one_by_one(&folder.path().join("a.db"), &trees[..20], true, SqliteSynchronous::Full).await;
    let baseline =
        rate(results, "row at a time, autocommit, synchronous FULL (baseline)", 20 * THOUGHTS, durable, None);
    let normal = one_by_one(&folder.path().join("n.db"), &trees[..20], true, SqliteSynchronous::Normal).await;
    rate(results, "row at a time, autocommit, synchronous NORMAL", 20 * THOUGHTS, normal, Some(baseline));
    let single = one_by_one(&folder.path().join("b.db"), &trees, false, SqliteSynchronous::Full).await;
    rate(results, "row at a time in one transaction", TREES * THOUGHTS, single, Some(baseline));

    let (store, run) = open(folder.path()).await;
    for (purpose, name) in
        [(Purpose::Evaluation, "a unit, not indexed"), (Purpose::Rollout, "a unit, with full-text index")]
    {
        let mut best = Duration::MAX;
        for iteration in 1..=10 {
            let trees: Vec<Tree> = trees
                .iter()
                .map(|t| Tree { address: Address { iteration, purpose, ..t.address.clone() }, ..t.clone() })
                .collect();
            let start = Instant::now();
            store
                .write(run, iteration, async |unit| unit.put_trees(purpose, "p", &trees).await)
                .await
                .expect("a unit");
            best = best.min(start.elapsed());
        }
        rate(results, name, TREES * THOUGHTS, best, Some(baseline));
    }
    store.close().await.expect("closed");
    let bytes = folder.path().join("run.db").metadata().expect("a file").len();
    let blobs = TOKENS * 8 + HIDDEN * 2;
    println!(
        "{:.0} bytes on disk per thought, of which {blobs} are ids, log-probabilities and hidden state\n",
        bytes as f64 / f64::from(20 * TREES * THOUGHTS)
    );
}

/// The plainest way: one INSERT per thought, no hash, no index but the primary key.
async fn one_by_one(
    path: &std::path::Path,
    trees: &[Tree],
    autocommit: bool,
    sync: SqliteSynchronous,
) -> Duration {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(sync);
    let mut db = SqliteConnection::connect_with(&options).await.expect("a file");
    sqlx::query("CREATE TABLE thoughts (tree_id INTEGER, ordinal INTEGER, parent INTEGER, token_ids BLOB, logprobs BLOB, text TEXT, hidden_f16 BLOB, PRIMARY KEY (tree_id, ordinal))")
        .execute(&mut db).await.expect("a table");
    let start = Instant::now();
    if !autocommit {
        sqlx::query("BEGIN").execute(&mut db).await.expect("begun");
    }
    for (id, tree) in (1_i64..).zip(trees) {
        for (ordinal, thought) in (0_i64..).zip(&tree.thoughts) {
            sqlx::query("INSERT INTO thoughts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
                .bind(id)
                .bind(ordinal)
                .bind(thought.parent)
                .bind(thought.token_ids.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
                .bind(thought.logprobs.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
                .bind(&thought.text)
                .bind(thought.hidden_f16.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
                .execute(&mut db)
                .await
                .expect("a row");
        }
    }
    if !autocommit {
        sqlx::query("COMMIT").execute(&mut db).await.expect("committed");
    }
    let spent = start.elapsed();
    db.close().await.expect("closed");
    spent
}

/// Median of `times` runs in ms.
async fn median<T>(
    results: &mut Results,
    name: &str,
    times: usize,
    mut query: impl AsyncFnMut() -> anyhow::Result<T>,
) -> f64 {
    let mut spent = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        query().await.expect(name);
        spent.push(start.elapsed().as_secs_f64() * 1e3);
    }
    spent.sort_by(f64::total_cmp);
    let ms = spent[times / 2];
    println!("{name:<58} {ms:>12.2} ms");
    results.row("Reading", &[("what", json!(name.trim())), ("ms", figure(ms))]);
    ms
}

/// Stores `count` trajectories with scores and selections.
async fn fill(store: &Store, run: i64, count: u32) {
    for unit in 0..count.div_ceil(1000) {
        let iteration = 1 + unit % 10;
        let trees: Vec<Tree> = (0..1000).map(|n| chain(iteration, unit * 1000 + n, 5, 16)).collect();
        let ids = store
            .write(run, iteration, async |unit| unit.put_trees(Purpose::Rollout, "p", &trees).await)
            .await
            .expect("trees")
            .concat();
        let scores: Vec<(i64, Score)> = ids
            .iter()
            .flat_map(|&id| {
                [ScorerName::HEAD, ScorerName::VOTE, ScorerName::REWARD]
                    .map(|k| (id, Score::new(k, id as f64 / 1e6)))
            })
            .collect();
        let critic = format!("h{unit}");
        store
            .write(run, iteration, async |unit| unit.put_scores(&critic, &scores).await)
            .await
            .expect("scores");
        let reason = |id: i64| if id % 8 == 0 { SelectionReason::Kept } else { SelectionReason::BelowKeep };
        let selections: Vec<Selection> =
            ids.iter().map(|&id| Selection::new(id, Some(1), reason(id))).collect();
        store
            .write(run, iteration, async |unit| unit.put_selections(&selections).await)
            .await
            .expect("selections");
    }
}

async fn queries(results: &mut Results) {
    let count: u32 = std::env::var("STORE_TREES").ok().and_then(|s| s.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().expect("a folder");
    let (store, run) = open(folder.path()).await;
    let start = Instant::now();
    fill(&store, run, count).await;
    println!(
        "{count} trajectories of 5 thoughts with scores and selections: {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let reader = store.reader();
    let middle = i64::from(count) / 2;
    median(results, "list of runs", 21, async || reader.runs().await).await;
    median(results, "summary of every iteration", 5, async || reader.iteration_summaries(run).await).await;
    let one =
        median(results, "one trajectory, everything", 21, async || reader.trajectory(middle).await).await;
    let scan = format!("SELECT text FROM trajectory_text WHERE id + 0 = {middle}");
    let slow =
        median(results, "  the same text by a scan (baseline)", 1, async || ask(reader, &scan).await).await;
    println!("  {:.0}x faster than the scan", slow / one);
    let page = TrajectoryFilter { run: Some(run), iteration: Some(5), ..Default::default() };
    let first = Window::first(50);
    median(results, "a page of 50 of an iteration", 21, async || reader.trajectories(&page, first).await)
        .await;
    let kept = TrajectoryFilter { kept: Some(true), ..page.clone() };
    median(results, "a page of 50 kept ones", 21, async || reader.trajectories(&kept, first).await).await;
    let before =
        "SELECT max(j.id) - 50 FROM trajectories j JOIN trees t ON t.id = j.tree_id WHERE t.iteration = 5";
    let before = ask(reader, before).await.expect("the last page");
    let Value::Integer(before) = before.rows[0][0] else { panic!("no trajectory in iteration 5") };
    let after = Some(before);
    let last = Window { after, limit: 50 };
    median(results, "the last page of an iteration", 5, async || reader.trajectories(&page, last).await)
        .await;
    for words in ["Olaf 16 Pia", "zebra", "Question 777", "Anna"] {
        let filter = TrajectoryFilter { search: Some(words.into()), ..Default::default() };
        median(results, &format!("search `{words}`, 50 hits"), 11, async || {
            reader.trajectories(&filter, first).await
        })
        .await;
    }
    let like = "SELECT id FROM tree_document WHERE text LIKE '%zebra%'";
    median(results, "  `zebra` by LIKE (baseline)", 1, async || ask(reader, like).await).await;
    median(results, "scores of an iteration", 3, async || reader.scores(run, 5).await).await;
    median(results, "trees of an iteration, whole", 3, async || reader.trees(run, 5, Purpose::Rollout).await)
        .await;
    median(results, "digest", 1, async || reader.digest().await).await;
    let path = reader.path().to_owned();
    median(results, "verify", 1, async || verify(&path, folder.path()).await).await;
    let bytes = path.metadata().expect("a file").len();
    println!("{:.1} MB on disk", bytes as f64 / 1e6);
}
