//! What makes two configurations those of one run: every key but the ones that may change on resuming.
//!
//! The identity is the difference from the defaults, in canonical form: flat keys in order, and only those whose value
//! is another one. So a key that a later version adds changes no identity while it has its default, and no section needs
//! to know about it. Runs store their whole configuration. A key that a stored configuration lacks came later; it has
//! its default.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Config;

/// Keys, or sections of them, that decide no row and no weight: where a run lives, how long it may take, on how many
/// threads, for how many iterations, and what is only another order of the same arithmetic; and paths whose contents are
/// hashed for themselves.
const FREE: [&str; 8] = [
    "run",
    "engine",
    "checkpoints",
    "pretrain",
    "train.checkpointing",
    "model.prompts",
    "tasks.file",
    "tasks.heldout_file",
];

/// The one key of [`FREE`]'s sections that decides something.
const SEED: &str = "run.seed";

/// Keys that came later and whose default changes what a run does, with the value that means what
/// was done before: a run that began without them ends as it began.
fn later() -> [(&'static str, Value); 5] {
    [
        ("train.epochs_max", EPOCHS_MAX_BEFORE.into()),
        ("gate.solved_min", SOLVED_MIN_BEFORE.into()),
        ("tasks.permute_options", PERMUTE_OPTIONS_BEFORE.into()),
        ("select.chance_max", CHANCE_MAX_BEFORE.into()),
        ("select.closed_answers", CLOSED_ANSWERS_BEFORE.into()),
    ]
}

const EPOCHS_MAX_BEFORE: f64 = 0.0;
const SOLVED_MIN_BEFORE: usize = 0;
const PERMUTE_OPTIONS_BEFORE: bool = false;
const CHANCE_MAX_BEFORE: f64 = 1.0;
const CLOSED_ANSWERS_BEFORE: bool = false;

/// A key whose values are not those of the stored configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub key: String,
    /// JSON; null if the configuration has no such key.
    pub stored: Value,
    pub given: Value,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} then, {} now", self.key, self.stored, self.given)
    }
}

/// Values by `section.key`.
type Flat = BTreeMap<String, Value>;

impl Config {
    /// The configuration as a run stores it: all of it, as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a configuration is plain data")
    }

    /// Hash of the identity.
    pub fn hash(&self) -> String {
        let defaults = decisive(&defaults());
        let mut identity = decisive(&self.to_json());
        identity.retain(|key, value| defaults.get(key) != Some(value));
        let bytes = serde_json::to_vec(&identity).expect("keys and values are plain data");
        blake3::hash(&bytes).to_hex().to_string()
    }

    /// This configuration for the run that stored `stored`: what that one could not know yet is as it
    /// was then.
    pub fn as_begun(&self, stored: &str) -> Self {
        let stored: Value = serde_json::from_str(stored).unwrap_or_default();
        let mut begun = self.clone();
        if stored.pointer("/train/epochs_max").is_none() {
            begun.train.epochs_max = EPOCHS_MAX_BEFORE;
        }
        if stored.pointer("/gate/solved_min").is_none() {
            begun.gate.solved_min = SOLVED_MIN_BEFORE;
        }
        if stored.pointer("/tasks/permute_options").is_none() {
            begun.tasks.permute_options = PERMUTE_OPTIONS_BEFORE;
        }
        if stored.pointer("/select/chance_max").is_none() {
            begun.select.chance_max = CHANCE_MAX_BEFORE;
        }
        if stored.pointer("/select/closed_answers").is_none() {
            begun.select.closed_answers = CLOSED_ANSWERS_BEFORE;
        }
        begun.keep_planned(&stored);
        begun
    }

    /// Takes what a run with hours planned from its stored configuration, wherever the same is asked
    /// for as then.
    fn keep_planned(&mut self, stored: &Value) {
        let asked = stored.pointer("/run/asked").and_then(Value::as_object);
        for (key, then) in asked.into_iter().flatten() {
            let now = self.run.asked.get(key).copied().or_else(|| self.planned(key).map(|value| *value));
            let (Some(then), Some(now)) = (then.as_u64(), now) else { continue };
            let chosen = stored.pointer(&format!("/{}", key.replace('.', "/"))).and_then(Value::as_u64);
            if let (true, Some(chosen), Some(value)) = (then == now as u64, chosen, self.planned(key)) {
                *value = chosen as usize;
                self.run.asked.insert(key.clone(), now);
            }
        }
    }

    /// A key that a plan for the run's hours chooses a value for.
    pub fn planned(&mut self, key: &str) -> Option<&mut usize> {
        match key {
            "tasks.measured_max" => Some(&mut self.tasks.measured_max),
            "eval.sampled_tasks" => Some(&mut self.eval.sampled_tasks),
            _ => None,
        }
    }

    /// Where this configuration is not that of the run that stored `stored`; empty if the run can be resumed with it.
    pub fn differences(&self, stored: &str) -> Vec<Difference> {
        let (mut defaults, given) = (decisive(&defaults()), decisive(&self.to_json()));
        let stored = decisive(stored);
        defaults.extend(later().map(|(key, value)| (key.to_owned(), value)));
        let keys: BTreeSet<&String> = stored.keys().chain(given.keys()).collect();
        let value =
            |flat: &Flat, key: &String| flat.get(key).or(defaults.get(key)).cloned().unwrap_or_default();
        let difference = |key: &String| Difference {
            key: key.clone(),
            stored: value(&stored, key),
            given: value(&given, key),
        };
        keys.into_iter().map(difference).filter(|found| found.stored != found.given).collect()
    }
}

fn defaults() -> String {
    Config::load(None, &[]).expect("the built-in configuration is tested").to_json()
}

/// The keys and values of a configuration's JSON that count.
fn decisive(json: &str) -> Flat {
    let mut flat = Flat::new();
    flatten(serde_json::from_str(json).unwrap_or_default(), String::new(), &mut flat);
    flat.retain(|key, _| key == SEED || !FREE.iter().any(|free| is_below(key, free)));
    // "auto" is resolved before a run begins; what is left of it means f32.
    if let Some(matmul) = flat.get_mut("model.matmul")
        && *matmul == "auto"
    {
        *matmul = "f32".into();
    }
    flat
}

/// Whether `key` is `section` or one of its keys.
fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn flatten(value: Value, key: String, flat: &mut Flat) {
    match value {
        Value::Object(values) => {
            for (name, value) in values {
                let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                flatten(value, key, flat);
            }
        }
        value => {
            flat.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Config {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::load(None, &pairs).unwrap()
    }

    #[test]
    fn every_key_counts_but_the_free_ones() {
        let base = load(&[]);
        for pair in [
            ("run.iterations", "9"),
            ("run.threads", "1"),
            ("engine.batch_tokens", "4096"),
            ("train.checkpointing", "on"),
            ("model.matmul", "f32"),
            ("model.prompts", "prompts"),
        ] {
            assert_eq!(load(&[pair]).hash(), base.hash(), "{pair:?}");
            assert_eq!(load(&[pair]).differences(&base.to_json()), [], "{pair:?}");
        }
        for (key, value) in [
            ("run.seed", "9"),
            ("rollout.variants", "4"),
            ("train.steps", "7"),
            ("model.chat", "plain"),
            ("model.matmul", "bf16x3"),
            ("tasks.overlap_words", "8"),
            ("tasks.few_shot", "true"),
            ("judge.model", "policy"),
            ("judge.repeats", "3"),
            ("reference.model", "base"),
            ("tree.propose", "prompt"),
            ("tree.value", "prompt"),
            ("train.moments", "bf16"),
            ("lora.r", "4"),
        ] {
            let other = load(&[(key, value)]);
            assert_ne!(other.hash(), base.hash(), "{key}");
            let found = other.differences(&base.to_json());
            assert_eq!(found.iter().map(|d| d.key.as_str()).collect::<Vec<_>>(), [key]);
            assert_eq!(base.differences(&other.to_json())[0].stored, found[0].given, "{key}");
        }
    }

    #[test]
    fn a_run_that_began_before_a_key_ends_as_it_began() {
        let config = load(&[("train.steps", "7")]);
        assert_eq!(config.as_begun(&config.to_json()), config);
        let mut stored: Value = serde_json::from_str(&config.to_json()).unwrap();
        stored["train"].as_object_mut().unwrap().remove("epochs_max");
        stored["gate"].as_object_mut().unwrap().remove("solved_min");
        let begun = config.as_begun(&stored.to_string());
        assert_eq!((begun.train.epochs_max, begun.gate.solved_min), (0.0, 0));
        assert_eq!((begun.train.steps, begun.differences(&stored.to_string())), (7, vec![]));
    }

    #[test]
    fn what_was_planned_for_the_hours_stays_until_something_else_is_asked_for() {
        let given = load(&[("run.hours", "2")]);
        let mut planned = given.clone();
        for (key, value) in [("tasks.measured_max", 40), ("eval.sampled_tasks", 20)] {
            let asked = std::mem::replace(planned.planned(key).unwrap(), value);
            planned.run.asked.insert(key.into(), asked);
        }
        let stored = planned.to_json();
        assert!(!given.differences(&stored).is_empty());
        assert_eq!(given.as_begun(&stored), planned);
        assert_eq!(planned.as_begun(&stored), planned, "also by a process that planned the same");
        let other = load(&[("eval.sampled_tasks", "50")]).as_begun(&stored);
        let found = other.differences(&stored);
        assert_eq!(found.iter().map(|d| d.key.as_str()).collect::<Vec<_>>(), ["eval.sampled_tasks"]);
        assert!(Config::load(None, &[("run.asked".into(), "{}".into())]).is_err(), "it is no key of a user");
    }

    #[test]
    fn files_of_tasks_may_move() {
        let file = |path| load(&[("tasks.kind", "file"), ("tasks.file", path)]);
        assert_eq!(file("a.jsonl").hash(), file("b.jsonl").hash());
        assert_eq!(file("a.jsonl").differences(&file("b.jsonl").to_json()), []);
    }

    #[test]
    fn a_key_that_came_later_has_its_default_in_stored_configurations() {
        let config = load(&[("train.steps", "7")]);
        let mut stored: Value = serde_json::from_str(&config.to_json()).unwrap();
        for (section, key) in
            [("model", "matmul"), ("tasks", "format"), ("tree", "propose"), ("train", "moments")]
        {
            assert!(stored[section].as_object_mut().unwrap().remove(key).is_some(), "{section}.{key}");
        }
        for section in ["judge", "reference", "lora"] {
            assert!(stored.as_object_mut().unwrap().remove(section).is_some(), "{section}");
        }
        assert_eq!(config.differences(&stored.to_string()), []);
        let other = load(&[("train.steps", "7"), ("judge.repeats", "3")]).differences(&stored.to_string());
        assert_eq!((other.len(), other[0].key.as_str()), (1, "judge.repeats"));
        assert!(!config.differences("{}").is_empty());
    }
}
