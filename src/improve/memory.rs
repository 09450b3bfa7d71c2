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

/// Bytes needed in all, and how many of them hold the policy, for sequences of at most `longest` tokens.
///
/// Rollouts' cache and training never have work at a time, but memory that was freed is not always given back, so the
/// larger counts whole.
pub fn memory_needed(config: &Config, model: &ModelPolicy, longest: usize) -> Result<(usize, usize)> {
    let (shape, policy) = (model.body.config(), model.body.bytes());
    let kv = model.body.parameters().arithmetic().kv();
    let cache = 2 * kv.bytes() * config.engine.batch_tokens * shape.layers.len() * shape.kv_size();
    let trainee = adapter::trainee(model, config, 1)?;
    let micro_batches = config.train.step_tokens.div_ceil(config.train.micro_batch_tokens.max(1)).max(1);
    let at_once = rayon::current_num_threads().min(micro_batches);
    let training = train::memory_bytes(&trainee, (&config.train).into(), longest, at_once);
    Ok((PROGRAM + policy + cache.max(training), policy))
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
    let (needed, held) = memory_needed(config, model, longest + config.rollout.tokens_max)?;
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
            let all = memory_needed(&config, model, 300).unwrap();
            assert!(memory_needed(&config, model, 100_000).unwrap() > all, "a longer example needs more");
            all.0
        };
        assert!(needed("lora") < needed("full"));
    }
}
