//! The memory that a run will need, estimated from shapes before it starts.

use std::fmt;

use anyhow::Result;

use super::{ModelPolicy, Policy, trainable};
use crate::config::Config;
use crate::domain::{Split, Task};
use crate::text::Text;
use crate::train;

/// The program itself, its store and its tasks, in bytes.
const PROGRAM: usize = 64 << 20;
/// Drawn tokens of a thought: the built-in tasks have as many, and a line of prose has more.
const THOUGHT_TOKENS: usize = 8;
/// Bytes of a thought, without those that grow with its tokens and with the model.
const THOUGHT: usize = 440;
/// Bytes of a drawn token: its id, its letters, its log-probability as drawn and as reread.
const TOKEN: usize = 20;

/// How long sequences are, in tokens.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// A prompt and all that may be drawn after it.
    pub longest: usize,
    /// Tokens drawn of a trajectory: the mean where it is known, else the bound.
    pub drawn: usize,
}

/// Bytes needed in all, and how many of them hold the policy.
///
/// The rollouts' KV cache and training never coexist, so the larger one counts. An iteration's
/// trajectories are added to it: they are reread with such a cache, and still held when training
/// begins.
pub fn memory_needed(
    config: &Config,
    model: &ModelPolicy,
    tasks: &[Task],
    lengths: Lengths,
) -> Result<(usize, usize)> {
    let Lengths { longest, drawn } = lengths;
    let (shape, policy) = (model.body.config(), model.body.bytes());
    let kv = model.body.parameters().arithmetic().kv();
    let cache = 2 * kv.bytes() * config.engine.batch_tokens * shape.layers.len() * shape.kv_size();
    let trainable = trainable(&model.body, config, 1)?;
    let micro_batches = config.train.step_tokens.div_ceil(config.train.micro_batch_tokens.max(1)).max(1);
    let at_once = rayon::current_num_threads().min(micro_batches);
    let hyper = (&config.train).into();
    let training = train::memory_bytes(&trainable, &hyper, (&config.train).into(), longest, at_once);
    let practised = tasks.iter().filter(|task| task.split == Split::Train).count();
    let trajectories = trajectories_bytes(config, shape.hidden_size, practised, drawn);
    Ok(((PROGRAM + policy + cache.max(training)).saturating_add(trajectories), policy))
}

/// Bytes of an iteration's trajectories for `practised` tasks while the critique head reads them:
/// hidden states in f16, features in f32, and two more copies of the features that the head learns
/// from (raw and normalised).
fn trajectories_bytes(config: &Config, hidden_size: usize, practised: usize, drawn: usize) -> usize {
    let rollout = &config.rollout;
    let product = |factors: &[usize]| factors.iter().fold(1, |all: usize, &n| all.saturating_mul(n));
    let trees = product(&[rollout.tasks.min(practised), rollout.variants as usize, rollout.samples as usize]);
    let thoughts = drawn.div_ceil(THOUGHT_TOKENS).min(rollout.thoughts_max);
    let extent = rollout.extent(&config.tree, thoughts);
    // A trajectory's tokens are spread evenly over its thoughts.
    let tokens = product(&[extent.thoughts, drawn]) / thoughts.max(1);
    let tree =
        product(&[extent.thoughts, THOUGHT + 2 * hidden_size]).saturating_add(product(&[tokens, TOKEN]));
    let texts = product(&[trees, tree]);
    let trajectories = product(&[trees, extent.leaves]);
    let learnt = trajectories.min(config.critic.annotated_max);
    let features = product(&[trajectories.saturating_add(2 * learnt), thoughts, 4 * hidden_size]);
    texts.saturating_add(features)
}

/// More memory is needed than is free; both in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub needed: u64,
    pub free: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&advice(self.needed >> 20, self.free >> 20))
    }
}

/// Whether a run needs more than the `free` bytes. The policy is in memory already, so its bytes
/// don't count.
pub fn shortage(
    config: &Config,
    policy: &Policy,
    text: &Text,
    tasks: &[Task],
    free: u64,
) -> Result<Option<Shortage>> {
    let Policy::Model(model) = policy else { return Ok(None) };
    let mut longest = 0;
    for task in tasks {
        longest = longest.max(text.prompt_ids_of(task.kind, &task.question)?.len());
    }
    let drawn = config.rollout.tokens_max;
    let (needed, held) = memory_needed(config, model, tasks, Lengths { longest: longest + drawn, drawn })?;
    let needed = (needed - held) as u64;
    Ok((needed > free).then_some(Shortage { needed, free }))
}

/// Advice about too little memory; both figures are in MiB.
pub fn advice(needed: u64, free: u64) -> String {
    format!(
        "about {needed} MiB of memory are needed and {free} are free: lower engine.batch_tokens, \
         train.micro_batch_tokens or rollout.tasks, or set train.moments = \"bf16\", train.method = \"lora\" or \
         model.quantize"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::policy::{PolicyKind, Use};

    #[test]
    fn a_shortage_is_found_before_anything_is_drawn() {
        let needed = |method: &str| {
            let config = Config::load(None, &[("train.method".into(), method.into())]).unwrap();
            let text = PolicyKind::Model.text(&config).unwrap();
            let tasks = data::dataset(&config.tasks, Vec::new()).unwrap().tasks;
            let policy = PolicyKind::Model.base(&config, &text, Use::Train, None).unwrap();
            let said = |free| shortage(&config, &policy, &text, &[], free).unwrap();
            let message = said(1 << 20).unwrap().to_string();
            assert!(message.contains("1 are free") && message.contains("engine.batch_tokens"), "{message}");
            assert_eq!(said(u64::MAX), None);
            let Policy::Model(model) = &policy else { panic!() };
            let of =
                |longest, drawn| memory_needed(&config, model, &tasks, Lengths { longest, drawn }).unwrap().0;
            let all = of(300, 100);
            assert!(of(100_000, 100) > all, "a longer example needs more");
            assert!(of(300, 200) > all, "so do more thoughts");
            all
        };
        assert!(needed("lora") < needed("full"));
    }

    #[test]
    fn trajectories_count_with_their_thoughts_and_branches() {
        let bytes = |pairs: &[(&str, &str)], practised, drawn| {
            let pairs: Vec<_> =
                pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            trajectories_bytes(&Config::load(None, &pairs).unwrap(), 128, practised, drawn)
        };
        let few = [("rollout.tasks", "10"), ("rollout.variants", "1"), ("rollout.samples", "2")];
        // 20 trajectories of 13 thoughts, all of which the head may learn from.
        let expected = 20 * (13 * (440 + 256) + 100 * 20) + 60 * 13 * 512;
        assert_eq!(bytes(&few, 300, 100), expected);
        assert_eq!(
            bytes(&[few[0], few[1], few[2], ("critic.annotated_max", "5")], 300, 100),
            expected - 30 * 13 * 512
        );
        assert_eq!(bytes(&few, 5, 100), expected / 2, "there are no more tasks");
        let tree = [
            few[0],
            few[1],
            few[2],
            ("rollout.strategy", "tot"),
            ("tree.beam", "2"),
            ("tree.proposals", "3"),
        ];
        assert_eq!(bytes(&tree, 300, 100), 6 * (expected - 60 * 13 * 512) + 2 * 60 * 13 * 512);
        assert_eq!(
            bytes(&[("rollout.thoughts_max", "4")], 1, 10_000),
            bytes(&[("rollout.thoughts_max", "4")], 1, 32) + 8 * 9968 * 20
        );
        let all = [("rollout.tasks", "1000000"), ("rollout.variants", "1024"), ("rollout.samples", "1024")];
        assert!(bytes(&all, usize::MAX, 100) > 1 << 50);
    }
}
