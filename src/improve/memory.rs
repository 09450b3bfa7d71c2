//! What memory a run will need: estimated before it starts, from shapes alone.

use anyhow::Result;

use super::adapter;
use super::policy::{ModelPolicy, Policy};
use crate::config::Config;
use crate::domain::Task;
use crate::text::Text;
use crate::train;

/// The program itself, its store and its tasks, in bytes.
const PROGRAM: usize = 64 << 20;
/// Drawn tokens of a thought: what the built-in tasks have, and a line of prose at least.
const THOUGHT_TOKENS: usize = 8;
/// Bytes of a thought beside what grows with the model: its text, numbers of its tokens, rereadings, their places.
const THOUGHT: usize = 600;

/// How long sequences are, in tokens.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// A prompt and all that may be drawn after it.
    pub longest: usize,
    /// What is drawn of a trajectory: the mean where it is known, else the bound.
    pub drawn: usize,
}

/// Bytes needed in all, and how many of them hold the policy.
///
/// Rollouts' cache and training never have work at a time, so the larger counts. What critique reads of an iteration's
/// trajectories counts beside it: within a phase, memory that was freed is not always given back.
pub fn memory_needed(config: &Config, model: &ModelPolicy, lengths: Lengths) -> Result<(usize, usize)> {
    let Lengths { longest, drawn } = lengths;
    let (shape, policy) = (model.body.config(), model.body.bytes());
    let kv = model.body.parameters().arithmetic().kv();
    let cache = 2 * kv.bytes() * config.engine.batch_tokens * shape.layers.len() * shape.kv_size();
    let trainee = adapter::trainee(model, config, 1)?;
    let micro_batches = config.train.step_tokens.div_ceil(config.train.micro_batch_tokens.max(1)).max(1);
    let at_once = rayon::current_num_threads().min(micro_batches);
    let training = train::memory_bytes(&trainee, (&config.train).into(), longest, at_once);
    let trajectories = trajectories_bytes(config, shape.hidden_size, drawn);
    Ok((PROGRAM + policy + trajectories + cache.max(training), policy))
}

/// What an iteration's trajectories take while the critique head sees them: hidden states in halves, and features twice,
/// as they are and normalised.
fn trajectories_bytes(config: &Config, hidden_size: usize, drawn: usize) -> usize {
    let rollout = &config.rollout;
    let count = rollout.tasks * rollout.variants as usize * rollout.samples as usize;
    let thoughts = drawn.div_ceil(THOUGHT_TOKENS).min(rollout.thoughts_max);
    count * thoughts * (THOUGHT + (2 + 4 + 4) * hidden_size)
}

/// What to say if less than that is free, beside a policy that is in memory already.
pub(super) fn shortage(
    config: &Config,
    policy: &Policy,
    text: &Text,
    tasks: &[Task],
    free: u64,
) -> Result<Option<String>> {
    let Policy::Model(model) = policy else { return Ok(None) };
    let mut longest = 0;
    for task in tasks {
        longest = longest.max(text.prompt_ids_of(task.kind, &task.question)?.len());
    }
    let drawn = config.rollout.tokens_max;
    let (needed, held) = memory_needed(config, model, Lengths { longest: longest + drawn, drawn })?;
    let more = (needed - held) as u64;
    Ok((more > free).then(|| advice(more >> 20, free >> 20)))
}

/// What to do about too little memory, in MiB.
pub fn advice(needed: u64, free: u64) -> String {
    format!(
        "about {needed} MiB of memory are needed and {free} are free: lower engine.batch_tokens or \
         train.micro_batch_tokens, or set train.method = \"lora\" or model.quantize"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::improve::{PolicyKind, Use};

    #[test]
    fn a_shortage_is_found_before_anything_is_drawn() {
        let needed = |method: &str| {
            let config = Config::load(None, &[("train.method".into(), method.into())]).unwrap();
            let text = PolicyKind::Model.text(&config).unwrap();
            let policy = PolicyKind::Model.base(&config, &text, Use::Train, None).unwrap();
            let said = |free| shortage(&config, &policy, &text, &[], free).unwrap();
            let message = said(1 << 20).unwrap();
            assert!(message.contains("1 are free") && message.contains("engine.batch_tokens"), "{message}");
            assert_eq!(said(u64::MAX), None);
            let Policy::Model(model) = &policy else { panic!() };
            let of = |longest, drawn| memory_needed(&config, model, Lengths { longest, drawn }).unwrap().0;
            let all = of(300, 100);
            assert!(of(100_000, 100) > all, "a longer example needs more");
            assert!(of(300, 200) > all, "so do more thoughts");
            all
        };
        assert!(needed("lora") < needed("full"));
    }
}
