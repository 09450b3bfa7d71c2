//! Parity: the trainer's forward must give the log-probabilities that the sampler stored.
//!
//! It proves, in every iteration, that training changes the policy that was sampled.

use anyhow::{Result, ensure};

use crate::domain::Tree;
use crate::improve::run::Session;
use crate::model::Body;
use crate::policy::Policy;
use crate::store::{ParityRow, StoredTree};
use crate::train;

/// Stored trajectories whose log-probabilities the trainer recomputes in every iteration.
const TRAJECTORIES: usize = 8;

/// Compares a few of the iteration's trajectories, and stores the largest difference.
///
/// # Errors
/// The difference is above `checkpoints.logprob_tolerance`.
pub(super) async fn check(
    session: &Session<'_>,
    iteration: u32,
    policy: &Policy,
    trees: &[StoredTree],
) -> Result<()> {
    let Policy::Model(model) = policy else { return Ok(()) };
    let run = &session.run;
    let (worst, tokens) = measure(&model.body, trees.iter().take(TRAJECTORIES).map(|stored| &stored.tree))?;
    let tolerance = run.config.checkpoints.logprob_tolerance;
    ensure!(
        worst <= tolerance,
        "the sampler's and the trainer's log-probabilities differ by {worst:e} on {tokens} stored tokens, more than \
         checkpoints.logprob_tolerance = {tolerance:e}: training would not train the policy that was sampled"
    );
    if tokens > 0 && run.store.parity(run.id).await?.iter().all(|(i, _)| *i != iteration) {
        let row = ParityRow { max_abs_diff: f64::from(worst), tokens };
        run.store.write(run.id, iteration, async |unit| unit.put_parity(&row).await).await?;
    }
    Ok(())
}

/// The largest difference over each tree's first trajectory, infinite where one is not finite; and
/// the tokens compared.
fn measure<'t>(body: &Body, trees: impl Iterator<Item = &'t Tree>) -> Result<(f32, i64)> {
    let (mut worst, mut tokens) = (0.0_f32, 0);
    for tree in trees {
        let Some(leaf) = tree.leaves.first() else { continue };
        let sampled = tree.completion_logprobs(leaf);
        let trained = train::logprobs(body.parameters(), &tree.prompt_ids, &tree.completion_ids(leaf))?;
        ensure!(
            sampled.len() == trained.len(),
            "{} log-probabilities are stored, {} were read",
            sampled.len(),
            trained.len()
        );
        for (sampled, trained) in sampled.iter().zip(&trained) {
            let difference = (sampled - trained).abs();
            worst = if difference.is_finite() { worst.max(difference) } else { f32::INFINITY };
            tokens += 1;
        }
    }
    Ok((worst, tokens))
}
