//! Settings that would suit the model or the night better than the configured ones.

use super::forecast::Forecast;
use super::probe::Rates;
use crate::config::{Config, TrainMethod};
use crate::domain::Task;
use crate::gguf::is_gguf;
use crate::inspect::duration;

/// What a run may take before a smaller one is proposed: a night, in seconds.
const NIGHT: f64 = 8.0 * 3600.0;

/// What to set instead, each with its reason.
pub(super) fn suggestions(config: &Config, tasks: &[Task], rates: &Rates) -> Vec<String> {
    [unpacked(config), unended(config, rates), shorter(config, tasks, rates)].into_iter().flatten().collect()
}

/// Training every weight of a quantized file gives its size away, and its bits.
fn unpacked(config: &Config) -> Option<String> {
    let full = config.train.method == TrainMethod::Full;
    (full && is_gguf(config.model.folder())).then(|| {
        "train.method = \"full\" unpacks a GGUF file to f32 and trains all of it; --set train.method=lora trains an \
         adapter and leaves the file as it is, in less time and memory"
            .to_owned()
    })
}

/// The estimate is an upper bound if nothing ended.
fn unended(config: &Config, rates: &Rates) -> Option<String> {
    let most = config.rollout.tokens_max;
    (rates.length.ended == 0).then(|| {
        format!(
            "no trajectory ended while it was watched, so each counts as rollout.tokens_max = {most} tokens; \
             `autodidact doctor --measure` watches longer"
        )
    })
}

/// Hours, for a run that would take longer than a night.
fn shorter(config: &Config, tasks: &[Task], rates: &Rates) -> Option<String> {
    let limit = NIGHT.min(config.run.wall_clock_max_s as f64);
    let whole = Forecast::of(config, tasks).seconds(rates, rates.length.mean);
    (config.run.hours == 0.0 && whole > limit).then(|| {
        format!(
            "{} is more than {}; `autodidact run --hours {}` makes measuring and iterations fit",
            duration(whole),
            duration(limit),
            (limit / 36.0).floor() / 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::probe::{Length, Update};
    use super::*;
    use crate::domain::{Split, TaskKind};

    fn rates(slow: f64, ended: usize) -> Rates {
        let length = Length { mean: 100.0, least: 90.0, most: 110.0, drawn: 4, ended };
        let update = Update { seconds: slow, tokens: 4096, tried: 256 };
        Rates { prompt: 100.0, reading: 4000.0 / slow, drawing: 400.0 / slow, length, update }
    }

    fn said(pairs: &[(&str, &str)], rates: &Rates) -> Vec<String> {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let task = Task {
            id: "t".into(),
            kind: TaskKind::Number,
            split: Split::HeldOut,
            level: 1,
            question: "?".into(),
            answer: None,
            solution: None,
        };
        let train = Task { split: Split::Train, ..task.clone() };
        let tasks = [vec![train; 300], vec![task]].concat();
        suggestions(&Config::load(None, &pairs).unwrap(), &tasks, rates)
    }

    #[test]
    fn what_suits_is_left_alone() {
        assert_eq!(said(&[], &rates(1.0, 4)), [""; 0]);
    }

    #[test]
    fn a_run_that_is_longer_than_a_night_gets_a_shorter_one() {
        let [shorter] = said(&[], &rates(40.0, 4)).try_into().unwrap();
        assert!(shorter.contains("is more than 8 h 00 min; `autodidact run --hours 8` makes"), "{shorter}");
        assert_eq!(said(&[("run.hours", "8")], &rates(40.0, 4)), [""; 0], "they are given");
        let [limit] = said(&[("run.wall_clock_max_s", "3600")], &rates(10.0, 4)).try_into().unwrap();
        assert!(limit.contains("more than 1 h 00 min; `autodidact run --hours 1`"), "{limit}");
    }

    #[test]
    fn a_quantized_file_is_for_an_adapter_and_an_unknown_length_is_stated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, "GGUF").unwrap();
        let path = path.display().to_string();
        let [full] = said(&[("model.path", &path)], &rates(1.0, 4)).try_into().unwrap();
        assert!(full.contains("--set train.method=lora"), "{full}");
        assert_eq!(said(&[("model.path", &path), ("train.method", "lora")], &rates(1.0, 4)), [""; 0]);
        let [unended] = said(&[], &rates(1.0, 0)).try_into().unwrap();
        assert!(unended.contains("rollout.tokens_max = 256"), "{unended}");
    }
}
