//! `init --model M --tasks F`: looks at both and chooses the settings that suit them, each with its
//! reason.
//!
//! [`Seen`] is what was measured; [`choices`] decides from it and from nothing else.

use std::path::Path;

use anyhow::{Result, bail};

use crate::cli::block_on;
use crate::cli::doctor::{Budget, blunt_gate, memory_free, rates};
use crate::config::{Config, Quantize, TrainMethod};
use crate::data::Dataset;
use crate::domain::{Split, Task};
use crate::gguf::is_gguf;
use crate::improve::{dataset, preflight, replay_notice};
use crate::policy::{Lengths, Policy, PolicyKind, Use, memory_needed};

/// Parameters up to which every weight is trained: the learning rates of `train.method = "full"` were
/// measured on models of this size.
const FULL_MAX: usize = 20_000_000;
/// Share of the probe's trajectories, and how many, that must have ended before their lengths count.
const ENDED: f64 = 0.7;
const ENDED_MIN: usize = 8;
/// Seconds for the probe to draw trajectories to their ends.
const DRAWING: f64 = 8.0;
/// Longest completion that is allowed for, over the mean: of lengths that end at random, one in fifty
/// is longer.
const LONGEST: f64 = 4.0;
/// `rollout.tokens_max` is a multiple of this.
const TOKENS: usize = 32;
/// How worked examples begin: where a base model's answer has ended.
const NEXT_QUESTION: &str = "Question:";
/// Least `engine.batch_tokens` that is chosen.
const BATCH_MIN: usize = 2048;

/// A setting, and why it has its value.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub key: &'static str,
    pub value: String,
    pub why: String,
}

impl Choice {
    fn new(key: &'static str, value: impl ToString, why: impl Into<String>) -> Self {
        Self { key, value: value.to_string(), why: why.into() }
    }
}

/// What was found out about a model and tasks.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub gguf: bool,
    pub parameters: usize,
    pub chat: bool,
    pub context_max: usize,
    pub prompt_max: usize,
    /// Tasks are the user's.
    pub file: bool,
    pub train: usize,
    pub heldout: usize,
    /// Mean tokens of the probe's trajectories, how many were drawn, and how many of them ended.
    pub length: (f64, usize, usize),
    pub memory_free: u64,
    /// Bytes that a run needs: with an adapter, with an adapter and weights of 8 bits, and, with an
    /// adapter, for each smaller half of `engine.batch_tokens`.
    pub needed: u64,
    pub needed_q8: u64,
    pub needed_halved: Vec<u64>,
}

/// Settings with their reasons, notes on what no setting changes, and what would refuse a run.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub choices: Vec<Choice>,
    pub notes: Vec<String>,
    pub problems: Vec<String>,
}

/// Loads what the configuration names, and draws a few trajectories.
///
/// # Errors
/// The model or the tasks can't be used.
pub(super) fn look(config: &Config) -> Result<Look> {
    let mut config = config.clone();
    let mut text = PolicyKind::Model.text(&config)?;
    if !config.tasks.file.is_empty() && !text.is_chat() {
        // As `style` chooses: what the model writes depends on it.
        config.tasks.few_shot = true;
        if config.rollout.stop.is_empty() {
            config.rollout.stop = vec![NEXT_QUESTION.to_owned()];
        }
        text = PolicyKind::Model.text(&config)?;
    }
    let config = &config;
    let policy = PolicyKind::Model.base(config, &text, Use::Train, None)?;
    let Dataset { tasks, report } = dataset(config)?;
    let mut adapted = config.clone();
    adapted.train.method = TrainMethod::Lora;
    let budget = Budget { lengths: DRAWING, ..Budget::QUICK };
    let measured = rates(&adapted, &text, &policy, &tasks, budget)?;
    let Policy::Model(model) = &policy else { bail!("only a model can be trained") };
    let mut prompt_max = 0;
    for task in &tasks {
        prompt_max = prompt_max.max(text.prompt_ids_of(task.kind, &task.question)?.len());
    }
    let lengths = Lengths {
        longest: prompt_max + config.rollout.tokens_max,
        drawn: measured.length.mean.ceil() as usize,
    };
    let needed =
        |config: &Config| -> Result<u64> { Ok(memory_needed(config, model, &tasks, lengths)?.0 as u64) };
    let whole = needed(&adapted)?;
    let mut needed_halved = Vec::new();
    let mut batch = adapted.engine.batch_tokens / 2;
    while batch >= BATCH_MIN {
        adapted.engine.batch_tokens = batch;
        needed_halved.push(needed(&adapted)?);
        batch /= 2;
    }
    let bytes = model.body.bytes() as u64;
    let of_split = |split| tasks.iter().filter(|task| task.split == split).count();
    let seen = Seen {
        gguf: is_gguf(config.model.folder()),
        parameters: model.body.parameter_count(),
        chat: text.is_chat(),
        context_max: policy.engine().context_max(),
        prompt_max,
        file: !config.tasks.file.is_empty(),
        train: of_split(Split::Train),
        heldout: of_split(Split::HeldOut),
        length: (measured.length.mean, measured.length.drawn, measured.length.ended),
        memory_free: memory_free()?,
        needed: whole,
        // A weight of 8 bits takes 34 bytes in 32.
        needed_q8: whole.saturating_sub(bytes.saturating_sub(model.body.parameter_count() as u64 * 34 / 32)),
        needed_halved,
    };
    let mut notes: Vec<String> = report.files.iter().map(ToString::to_string).collect();
    notes.push(splits(&tasks));
    notes.extend(replay_notice(config, &tasks));
    notes.extend(blunt_gate(config, &tasks));
    let problems = block_on(async { Ok(preflight(config, &text, &policy, &tasks).await) })?;
    Ok(Look { choices: choices(config, &seen), notes, problems })
}

/// How many tasks each split has.
fn splits(tasks: &[Task]) -> String {
    let count = |split: Split| (split, tasks.iter().filter(|task| task.split == split).count());
    let counts = Split::ALL.iter().map(|&split| count(split)).filter(|(_, n)| *n > 0);
    let counts: Vec<String> = counts.map(|(split, n)| format!("{n} {split}")).collect();
    format!("{} tasks: {}", tasks.len(), counts.join(", "))
}

/// The settings that suit what was seen. One that is as it should be is not among them.
pub(super) fn choices(config: &Config, seen: &Seen) -> Vec<Choice> {
    let mut choices = vec![method(seen)];
    choices.extend(memory(config, seen));
    choices.extend(style(seen));
    choices.extend(tokens_max(config, seen));
    if seen.train < config.rollout.tasks {
        let why = format!("the train split has {}; each iteration asks them all", seen.train);
        choices.push(Choice::new("rollout.tasks", seen.train.max(1), why));
    }
    if seen.heldout < config.eval.sampled_tasks {
        let why = format!("there are {} held-out tasks", seen.heldout);
        choices.push(Choice::new("eval.sampled_tasks", seen.heldout, why));
    }
    choices
}

/// All weights or an adapter.
fn method(seen: &Seen) -> Choice {
    let size = match seen.parameters {
        n @ ..1_000_000 => format!("{n}"),
        n @ ..10_000_000 => format!("{:.1} M", n as f64 / 1e6),
        n => format!("{:.0} M", n as f64 / 1e6),
    };
    let (value, why) = if seen.gguf {
        let why = "a GGUF file stays as it is, and an adapter is trained; training all weights would unpack it to f32";
        ("lora", why.to_owned())
    } else if seen.parameters > FULL_MAX {
        let why = "parameters: an adapter needs a fraction of the memory, and the learning rates of full training \
                   are for small models";
        ("lora", format!("{size} {why}"))
    } else {
        ("full", format!("{size} parameters: all of them can be trained"))
    };
    Choice::new("train.method", value, why)
}

/// What makes a run fit into the memory that is free.
fn memory(config: &Config, seen: &Seen) -> Vec<Choice> {
    let mib = |bytes: u64| bytes >> 20;
    let Seen { memory_free: free, needed, .. } = *seen;
    if needed <= free {
        return Vec::new();
    }
    let lacking = format!("a run would need about {} MiB, and {} are free", mib(needed), mib(free));
    let mut choices = Vec::new();
    let quantizes = !seen.gguf && seen.parameters > FULL_MAX && config.model.quantize == Quantize::None;
    let mut saved = 0;
    if quantizes {
        saved = needed - seen.needed_q8;
        choices.push(Choice::new("model.quantize", "q8_0", lacking.clone()));
    }
    if needed - saved > free {
        let halvings = seen.needed_halved.iter().position(|needed| needed - saved.min(*needed) <= free);
        let halvings = halvings.unwrap_or(seen.needed_halved.len().saturating_sub(1)) + 1;
        let batch = (config.engine.batch_tokens >> halvings).max(BATCH_MIN.min(config.engine.batch_tokens));
        choices.push(Choice::new(
            "engine.batch_tokens",
            batch,
            format!("{lacking}: smaller batches need less"),
        ));
    }
    choices
}

/// How questions are asked.
fn style(seen: &Seen) -> Vec<Choice> {
    if !seen.file || seen.chat {
        return Vec::new();
    }
    let why = "the model has no chat template: worked examples show it what an answer looks like";
    let stop = "after its answer, such a model writes the next question of the examples";
    vec![
        Choice::new("tasks.few_shot", true, why),
        Choice::new("rollout.stop", format!("[{NEXT_QUESTION:?}]"), stop),
    ]
}

/// Room for what the model writes.
fn tokens_max(config: &Config, seen: &Seen) -> Option<Choice> {
    let (mean, drawn, ended) = seen.length;
    let room = seen.context_max.saturating_sub(seen.prompt_max).max(1);
    let most = config.rollout.tokens_max.min(room);
    let found = format!("{ended} of the probe's {drawn} trajectories ended by themselves");
    if ended < ENDED_MIN || (ended as f64) < ENDED * drawn as f64 {
        let why = format!(
            "the context of {} tokens has no room for more after the longest prompt",
            seen.context_max
        );
        return (most < config.rollout.tokens_max).then(|| Choice::new("rollout.tokens_max", most, why));
    }
    let wanted = ((LONGEST * mean / TOKENS as f64).ceil() as usize * TOKENS).max(TOKENS);
    let why = format!(
        "{found}, after {mean:.0} tokens on average; this leaves room for {LONGEST:.0} times as many"
    );
    let chosen = wanted.min(room);
    (chosen != config.rollout.tokens_max).then(|| Choice::new("rollout.tokens_max", chosen, why))
}

/// The path as a configuration in `dir` must have it: relative paths count from there.
pub(super) fn from_folder(path: &str, dir: &Path) -> String {
    let is_here = dir == Path::new(".") || dir == Path::new("");
    if is_here || !Path::new(path).exists() {
        return path.to_owned();
    }
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A published model of 135 M parameters in 4 bits, and a file of 250 rows.
    fn seen() -> Seen {
        Seen {
            gguf: true,
            parameters: 135_000_000,
            chat: true,
            context_max: 8192,
            prompt_max: 232,
            file: true,
            train: 116,
            heldout: 47,
            length: (11.0, 16, 16),
            memory_free: 8 << 30,
            needed: 2 << 30,
            needed_q8: 2 << 30,
            needed_halved: vec![1 << 30, 1 << 29],
        }
    }

    fn chosen(seen: &Seen) -> Vec<(&'static str, String)> {
        let config = Config::load(None, &[]).unwrap();
        let choices = choices(&config, seen);
        // Each is a setting with a reason.
        for choice in &choices {
            Config::load(None, &[(choice.key.to_owned(), choice.value.clone())]).unwrap();
            assert!(choice.why.len() > 15 && !choice.why.ends_with('.'), "{choice:?}");
        }
        choices.into_iter().map(|choice| (choice.key, choice.value)).collect()
    }

    fn value(seen: &Seen, key: &str) -> Option<String> {
        chosen(seen).into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    #[test]
    fn a_published_model_and_a_small_file_get_what_suits_them() {
        let expected = [
            ("train.method", "lora"),
            ("rollout.tokens_max", "64"),
            ("rollout.tasks", "116"),
            ("eval.sampled_tasks", "47"),
        ];
        assert_eq!(chosen(&seen()), expected.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn the_method_follows_the_size_and_the_format() {
        let method = |gguf, parameters| value(&Seen { gguf, parameters, ..seen() }, "train.method").unwrap();
        assert_eq!(method(true, 1000), "lora");
        assert_eq!(method(false, FULL_MAX), "full");
        assert_eq!(method(false, FULL_MAX + 1), "lora");
    }

    #[test]
    fn worked_examples_are_for_models_without_a_chat_template_and_for_files() {
        let few_shot = |chat, file| value(&Seen { chat, file, ..seen() }, "tasks.few_shot");
        let stop = value(&Seen { chat: false, ..seen() }, "rollout.stop");
        assert_eq!(stop.as_deref(), Some(r#"["Question:"]"#));
        assert_eq!(few_shot(true, true), None);
        assert_eq!(few_shot(false, true).as_deref(), Some("true"));
        assert_eq!(few_shot(false, false), None);
    }

    #[test]
    fn there_is_room_for_what_the_model_writes_and_the_context_has() {
        let tokens_max =
            |length, context_max| value(&Seen { length, context_max, ..seen() }, "rollout.tokens_max");
        assert_eq!(tokens_max((60.0, 64, 60), 8192), None, "240 tokens are the default's 256");
        assert_eq!(tokens_max((150.0, 64, 60), 8192).as_deref(), Some("608"));
        assert_eq!(tokens_max((150.0, 64, 60), 512).as_deref(), Some("280"), "512 - 232");
        assert_eq!(tokens_max((150.0, 64, 40), 8192), None, "too few ended to know");
        assert_eq!(tokens_max((150.0, 64, 40), 400).as_deref(), Some("168"));
        assert_eq!(tokens_max((1.0, 8, 8), 8192).as_deref(), Some("32"));
        assert_eq!(tokens_max((1.0, 4, 4), 8192), None, "four are too few");
    }

    #[test]
    fn where_memory_is_short_weights_and_then_batches_get_smaller() {
        let short = Seen { gguf: false, memory_free: 2 << 30, needed: 3 << 30, ..seen() };
        let of = |needed_q8: u64, halved: &[u64]| {
            let seen = Seen { needed_q8, needed_halved: halved.to_vec(), ..short.clone() };
            (value(&seen, "model.quantize"), value(&seen, "engine.batch_tokens"))
        };
        let q8 = Some("q8_0".to_owned());
        assert_eq!(of(2 << 30, &[]), (q8.clone(), None));
        // Half a gibibyte is saved by the weights; half the batch saves enough of the rest.
        assert_eq!(of(5 << 29, &[5 << 29, 2 << 30]), (q8.clone(), Some("16384".to_owned())));
        assert_eq!(of(3 << 30, &[5 << 29, 2 << 30]), (q8, Some("8192".to_owned())));
        let gguf = Seen { gguf: true, needed_halved: vec![5 << 29, 2 << 30], ..short };
        assert_eq!(value(&gguf, "model.quantize"), None);
        assert_eq!(value(&gguf, "engine.batch_tokens").as_deref(), Some("8192"));
    }

    #[test]
    fn paths_are_written_as_the_configuration_reads_them() {
        assert_eq!(from_folder("Cargo.toml", Path::new(".")), "Cargo.toml");
        let absolute = from_folder("Cargo.toml", Path::new("night"));
        assert!(Path::new(&absolute).is_absolute() && absolute.ends_with("Cargo.toml"), "{absolute}");
        assert_eq!(from_folder("org/name", Path::new("night")), "org/name", "a model of the hub");
    }
}
