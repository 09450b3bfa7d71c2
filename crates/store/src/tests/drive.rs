//! A loop in miniature: it asks what is stored and writes what is missing. Every row follows from
//! constants.

use super::*;

pub(super) const TREES: u32 = 12;
const UNIT: usize = 4;

/// Which columns the run sets.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Columns {
    /// Those of schema version 2.
    OfSchema2,
    All,
}

/// Drives a run of one iteration to its end; `after` is called after every commit and may stop it
/// with an error.
pub(super) async fn drive(
    store: &Store,
    root: &Path,
    columns: Columns,
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
    if columns == Columns::All {
        store.put_alarm(run, None, None, &alarm(AlarmRule::Memory, None), NOW).await?;
        after(store).await?;
    }
    loop {
        let done = store.done_phases(run).await?;
        let progress = Progress { arm: Arm::Reward, iterations: 1, done };
        let Some((iteration, phase)) = next_phase(&progress) else { break };
        if columns == Columns::All && phase == Phase::Bootstrap {
            let put = store.write(run, iteration, async |unit| unit.put_plan(&PLAN).await).await;
            put.or_else(already)?;
            after(store).await?;
        }
        match phase {
            Phase::Bootstrap => bootstrap(store, run, iteration, &mut after).await?,
            Phase::Rollout => {
                rollout(store, (run, iteration), Purpose::Rollout, columns, &mut after).await?;
            }
            Phase::Critique => critique(store, run, iteration, columns, &mut after).await?,
            Phase::Select => select(store, run, iteration, columns).await?,
            Phase::Train => train(store, root, (run, iteration), columns, &mut after).await?,
            Phase::Evaluate => {
                rollout(store, (run, iteration), Purpose::Evaluation, columns, &mut after).await?;
                let policy = if iteration == 0 { "p0" } else { "p1" };
                let rows = [None, Some(3)].map(|level| evaluation(policy, level));
                store
                    .write(run, iteration, async |unit| unit.put_evaluations(&rows).await)
                    .await
                    .or_else(already)?;
            }
            Phase::Promote => store
                .write(run, iteration, async |unit| unit.put_promotion(&promotion()).await)
                .await
                .or_else(already)?,
        }
        after(store).await?;
        store.write(run, iteration, async |unit| unit.finish_phase(phase, 1.5, "done").await).await?;
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
    (run, iteration): (i64, u32),
    purpose: Purpose,
    columns: Columns,
    after: &mut impl AsyncFnMut(&Store) -> Result<()>,
) -> Result<()> {
    let stored = store.tree_keys(run, iteration, purpose).await?;
    let all = (0..TREES).map(|n| match (n % 5, purpose) {
        (4, Purpose::Rollout) => bushy(iteration, n),
        _ => chain(purpose, iteration, n, 5),
    });
    let mut missing: Vec<_> = all.filter(|t| !stored.contains(&t.address.to_string())).collect();
    let policy = if (purpose, iteration) == (Purpose::Evaluation, 1) { "p1" } else { "p0" };
    let mut provenance = Provenance::from(policy);
    if columns == Columns::All {
        provenance.replayable = purpose == Purpose::Rollout;
        provenance.logprobs =
            if purpose == Purpose::Rollout { LogprobKind::Raw } else { LogprobKind::Processed };
        let searched = missing.iter_mut().filter(|t| t.strategy == Strategy::Tot);
        for (visits, thought) in searched.flat_map(|t| &mut t.thoughts).zip(0..).map(|(t, i)| (i % 3, t)) {
            thought.visits = Some(visits);
        }
    }
    for trees in missing.chunks(UNIT) {
        store.write(run, iteration, async |unit| unit.put_trees(purpose, provenance, trees).await).await?;
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
        store
            .write(run, iteration, async |unit| unit.put_trees(Purpose::Bootstrap, "p0", &[tree]).await)
            .await?;
    }
    after(store).await?;
    store
        .write(run, iteration, async |unit| unit.put_critic(CriticStage::Bootstrap, &critic("h0")).await)
        .await
        .or_else(already)
}

async fn critique(
    store: &Store,
    run: i64,
    iteration: u32,
    columns: Columns,
    after: &mut impl AsyncFnMut(&Store) -> Result<()>,
) -> Result<()> {
    store
        .write(run, iteration, async |unit| unit.put_critic(CriticStage::Annotated, &critic("h1")).await)
        .await
        .or_else(already)?;
    after(store).await?;
    let (mut heads, mut rewards) = (Vec::new(), Vec::new());
    for stored in store.trees(run, iteration, Purpose::Rollout).await? {
        for id in stored.trajectory_ids {
            let value = f64::from(stored.tree.address.branch[0]) / 16.0;
            heads.push((id, Score::new(ScorerName::HEAD, value)));
            rewards.push((
                id,
                match id % 4 {
                    0 => Score::failed(ScorerName::REWARD, ScoreError::NoAnswer),
                    _ => Score::new(ScorerName::REWARD, value),
                },
            ));
        }
    }
    if columns == Columns::OfSchema2 {
        return store
            .write(run, iteration, async |unit| unit.put_scores("h1", &[heads, rewards].concat()).await)
            .await
            .or_else(already);
    }
    store.write(run, iteration, async |unit| unit.put_scores("h1", &heads).await).await.or_else(already)?;
    after(store).await?;
    let spec = spec("vote");
    let scoring = Scoring { spec: Some(&spec), ..Scoring::from("h1") };
    store
        .write(run, iteration, async |unit| unit.put_scores(scoring, &rewards).await)
        .await
        .or_else(already)?;
    after(store).await?;
    let regrade = Scoring { regrade: Some(1), ..scoring };
    store
        .write(run, iteration, async |unit| unit.put_scores(regrade, &rewards[..5]).await)
        .await
        .or_else(already)?;
    after(store).await?;
    let (iteration, phase) = (Some(iteration), Some(Phase::Critique));
    store.put_alarm(run, iteration, phase, &alarm(AlarmRule::HeadAuc, Some(0.5)), NOW).await.map(drop)
}

/// A spec whose scores depend on `settings`.
pub(super) fn spec(settings: &str) -> ScorerSpec {
    ScorerSpec::new(ScorerName::REWARD, "a test's reward", &settings.into())
}

pub(super) fn alarm(rule: AlarmRule, threshold: Option<f64>) -> Alarm {
    let message = format!("{rule} is low");
    Alarm { rule, value: Some(0.25), threshold, action: AlarmAction::Warned, message }
}

async fn select(store: &Store, run: i64, iteration: u32, columns: Columns) -> Result<()> {
    let mut selections = Vec::new();
    for stored in store.trees(run, iteration, Purpose::Rollout).await? {
        for &trajectory in &stored.trajectory_ids {
            let reason = match trajectory % 4 {
                0 => SelectionReason::Unscorable,
                1 => SelectionReason::BelowKeep,
                _ => SelectionReason::Kept,
            };
            let rank = (trajectory % 4 != 0).then_some(trajectory as u32);
            let mut selection = Selection::new(trajectory, rank, reason);
            if columns == Columns::All {
                let first = stored.trajectory_ids[0];
                selection.pair_of = Some(first).filter(|&first| first != trajectory);
                selection.advantage = Some(f64::from(trajectory as u32) / 8.0 - 1.0);
                selection.weight = reason.is_kept().then_some(0.75);
            }
            selections.push(selection);
        }
    }
    store.write(run, iteration, async |unit| unit.put_selections(&selections).await).await.or_else(already)
}

async fn train(
    store: &Store,
    root: &Path,
    (run, iteration): (i64, u32),
    columns: Columns,
    after: &mut impl AsyncFnMut(&Store) -> Result<()>,
) -> Result<()> {
    store
        .write(run, iteration, async |unit| {
            unit.put_parity(&ParityRow { max_abs_diff: 1e-6, tokens: 99 }).await
        })
        .await
        .or_else(already)?;
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
            losses: match columns {
                Columns::OfSchema2 => vec![],
                Columns::All => vec![("kl".into(), 0.125), ("sft".into(), 1.0 / f64::from(step) - 0.125)],
            },
            tokens: 100,
            target_tokens: 50,
            grad_norm: 0.5,
            learning_rate: 1e-3,
            examples: kept.clone(),
            replayed: vec![task(0, Split::Easy).id],
        };
        let checkpoint = checkpoint(root, kind, step);
        let put = async |unit: &mut Unit| {
            unit.put_steps(&[row]).await?;
            unit.put_checkpoint(&checkpoint).await
        };
        store.write(run, iteration, put).await?;
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

/// What the driven run decided about its iteration.
pub(super) const PLAN: PlanRow = PlanRow { tasks: 4, steps: 9, seconds: 60.0, left_seconds: 200.0 };

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

/// A finished run in its own folder.
pub(super) async fn finished() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.db");
    let store = Store::open(&path).await.unwrap();
    drive(&store, dir.path(), Columns::All, async |_| Ok(())).await.unwrap();
    store.close().await.unwrap();
    (dir, path)
}
