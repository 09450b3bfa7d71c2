//! A loop in miniature: asks what is stored, writes what is missing. Every row follows from constants.

use super::*;

pub(super) const TREES: u32 = 12;
const UNIT: usize = 4;

/// Drives a run of one iteration to its end; `after` is told of every commit and may stop it with an error.
pub(super) async fn drive(
    store: &Store,
    root: &Path,
    mut after: impl AsyncFnMut(&Store) -> Result<()>,
) -> Result<i64> {
    let splits = [Split::Easy, Split::Train, Split::HeldOut];
    let tasks: Vec<_> = splits.into_iter().flat_map(|s| (0..4).map(move |n| task(n, s))).collect();
    store.put_tasks(&tasks).await?;
    after(store).await?;
    let run = match store.run_of_arm(Arm::Reward).await? {
        Some(run) => run.id,
        None => store.begin_run(&new_run(Arm::Reward)).await?,
    };
    after(store).await?;
    loop {
        let done = store.done_phases(run).await?;
        let progress = Progress { arm: Arm::Reward, iterations: 1, done };
        let Some((iteration, phase)) = next_phase(&progress) else { break };
        match phase {
            Phase::Bootstrap => bootstrap(store, run, iteration, &mut after).await?,
            Phase::Rollout => {
                rollout(store, run, iteration, Purpose::Rollout, "p0", &mut after).await?;
            }
            Phase::Critique => critique(store, run, iteration, &mut after).await?,
            Phase::Select => select(store, run, iteration).await?,
            Phase::Train => train(store, root, run, iteration, &mut after).await?,
            Phase::Evaluate => {
                let policy = if iteration == 0 { "p0" } else { "p1" };
                rollout(store, run, iteration, Purpose::Evaluation, policy, &mut after).await?;
                let rows = [None, Some(3)].map(|level| evaluation(policy, level));
                store.put_evaluations(run, iteration, &rows).await.or_else(already)?;
            }
            Phase::Promote => store.put_promotion(run, iteration, &promotion()).await.or_else(already)?,
        }
        after(store).await?;
        store.finish_phase(run, iteration, phase, 1.5, "done").await?;
        after(store).await?;
    }
    store.set_run_state(run, RunState::Done, None, NOW).await?;
    after(store).await?;
    Ok(run)
}

/// A crash between a phase's rows and its end: the rows are there already.
fn already(error: anyhow::Error) -> Result<()> {
    if error.to_string().contains("already stored") { Ok(()) } else { Err(error) }
}

async fn rollout(
    store: &Store,
    run: i64,
    iteration: u32,
    purpose: Purpose,
    policy: &str,
    after: &mut impl AsyncFnMut(&Store) -> Result<()>,
) -> Result<()> {
    let stored = store.tree_keys(run, iteration, purpose).await?;
    let all = (0..TREES).map(|n| match (n % 5, purpose) {
        (4, Purpose::Rollout) => bushy(iteration, n),
        _ => chain(purpose, iteration, n, 5),
    });
    let missing: Vec<_> = all.filter(|t| !stored.contains(&t.address.to_string())).collect();
    for unit in missing.chunks(UNIT) {
        store.put_trees(run, iteration, purpose, policy, unit).await?;
        after(store).await?;
    }
    Ok(())
}

async fn bootstrap(
    store: &Store,
    run: i64,
    iteration: u32,
    after: &mut impl AsyncFnMut(&Store) -> Result<()>,
) -> Result<()> {
    let tree = chain(Purpose::Bootstrap, iteration, 0, 3);
    if store.tree_keys(run, iteration, Purpose::Bootstrap).await?.is_empty() {
        store.put_trees(run, iteration, Purpose::Bootstrap, "p0", &[tree]).await?;
    }
    after(store).await?;
    store.put_critic(run, iteration, CriticStage::Bootstrap, &critic("h0")).await.or_else(already)
}

async fn critique(
    store: &Store,
    run: i64,
    iteration: u32,
    after: &mut impl AsyncFnMut(&Store) -> Result<()>,
) -> Result<()> {
    store.put_critic(run, iteration, CriticStage::Annotated, &critic("h1")).await.or_else(already)?;
    after(store).await?;
    let mut scores = Vec::new();
    for stored in store.trees(run, iteration, Purpose::Rollout).await? {
        for id in stored.trajectory_ids {
            let value = f64::from(stored.tree.address.branch[0]) / 16.0;
            scores.push((id, Score::new(ScorerName::HEAD, value)));
            scores.push((
                id,
                match id % 4 {
                    0 => Score::failed(ScorerName::REWARD, ScoreError::NoAnswer),
                    _ => Score::new(ScorerName::REWARD, value),
                },
            ));
        }
    }
    store.put_scores(run, iteration, "h1", &scores).await.or_else(already)
}

async fn select(store: &Store, run: i64, iteration: u32) -> Result<()> {
    let trees = store.trees(run, iteration, Purpose::Rollout).await?;
    let selections = trees.iter().flat_map(|t| &t.trajectory_ids).map(|&trajectory| Selection {
        trajectory,
        rank: (trajectory % 4 != 0).then_some(trajectory as u32),
        reason: match trajectory % 4 {
            0 => SelectionReason::Unscorable,
            1 => SelectionReason::BelowKeep,
            _ => SelectionReason::Kept,
        },
    });
    store.put_selections(run, iteration, &selections.collect::<Vec<_>>()).await.or_else(already)
}

async fn train(
    store: &Store,
    root: &Path,
    run: i64,
    iteration: u32,
    after: &mut impl AsyncFnMut(&Store) -> Result<()>,
) -> Result<()> {
    store.put_parity(run, iteration, &ParityRow { max_abs_diff: 1e-6, tokens: 99 }).await.or_else(already)?;
    after(store).await?;
    let selections = store.selections(run, iteration).await?;
    let kept: Vec<i64> = selections.iter().filter(|s| s.reason.is_kept()).map(|s| s.trajectory).collect();
    for (step, kind) in [(1, CheckpointKind::State), (2, CheckpointKind::Candidate)] {
        if store.checkpoints(run).await?.iter().any(|c| c.row.step == Some(step)) {
            continue;
        }
        let row = StepRow {
            step,
            loss: 1.0 / f64::from(step),
            tokens: 100,
            target_tokens: 50,
            grad_norm: 0.5,
            learning_rate: 1e-3,
            examples: kept.clone(),
            replayed: vec![task(0, Split::Easy).id],
        };
        let checkpoint = checkpoint(root, kind, step);
        store.put_training(run, iteration, &[row], &checkpoint).await?;
        after(store).await?;
    }
    Ok(())
}

/// Puts the files in place, as the loop does before it commits the row.
pub(super) fn checkpoint(root: &Path, kind: CheckpointKind, step: u32) -> CheckpointRow {
    let path = format!("checkpoints/{kind}-{step}");
    std::fs::create_dir_all(root.join(&path)).unwrap();
    std::fs::write(root.join(&path).join("model.safetensors"), vec![step as u8; 100]).unwrap();
    std::fs::write(root.join(&path).join("config.json"), "{}").unwrap();
    let (file_hash, bytes) = hash_path(&root.join(&path)).unwrap();
    let policy_hash = if kind == CheckpointKind::Candidate { "p1" } else { "p0.5" }.to_owned();
    CheckpointRow {
        kind,
        step: Some(step),
        policy_hash,
        parent_hash: Some("p0".into()),
        path,
        bytes,
        file_hash,
    }
}

pub(super) fn critic(hash: &str) -> CriticRow {
    CriticRow {
        hash: hash.into(),
        bytes: hash.bytes().cycle().take(500).collect(),
        auc: Some(0.875),
        ece: None,
        brier: Some(0.1),
        anchor_n: 40,
        annotated: 7,
        voting: true,
    }
}

pub(super) fn evaluation(policy: &str, level: Option<u32>) -> EvaluationRow {
    EvaluationRow {
        policy_hash: policy.into(),
        split: Split::HeldOut,
        decoding: Decoding::Greedy,
        metric: "pass@1".into(),
        level,
        n: 200,
        value: if policy == "p0" { 0.25 } else { 0.5 },
        lo: 0.2,
        hi: 0.3,
    }
}

pub(super) fn promotion() -> PromotionRow {
    PromotionRow {
        candidate_hash: "p1".into(),
        incumbent_hash: "p0".into(),
        promoted: true,
        gain_points: 25.0,
        lo: 10.0,
        hi: 40.0,
        p_value: Some(0.001),
        reason: "better on the gate".into(),
    }
}

/// A finished run in a folder of its own.
pub(super) async fn finished() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let store = Store::open(&path).await.unwrap();
    drive(&store, dir.path(), async |_| Ok(())).await.unwrap();
    store.close().await.unwrap();
    (dir, path)
}
