//! The model card of an exported policy: what it is, how it was trained, what was measured.
//!
//! A card states only what the store or the export itself knows. What isn't known is a line that
//! asks to be filled in.

use std::fmt::Write as _;

use super::base::{Base, last_part};
use crate::domain::stats::p_text;
use crate::domain::{Arm, Split};
use crate::report::{ControlReport, Gain, GateLine, IterationLine, Measure, Origin};

/// What a card is about.
pub(super) struct Card<'a> {
    pub policy_hash: &'a str,
    pub base: &'a Base,
    pub origin: Option<&'a Origin>,
    /// Whether only an adapter is exported.
    pub is_adapter: bool,
}

impl Card<'_> {
    /// The whole file.
    pub(super) fn text(&self) -> String {
        let mut out = self.front_matter();
        let name = if self.base.is_embedded() { "The seed model of autodidact" } else { &self.base.name };
        out += &match self.origin {
            Some(origin) if origin.iteration > 0 => format!("# {name}, trained by autodidact\n\n"),
            _ => format!("# {name}, exported by autodidact\n\n"),
        };
        out += &self.what();
        if let Some(origin) = self.origin {
            out += &evaluation(origin);
            if origin.iteration > 0 {
                out += &training(origin);
            }
            out += &data(origin);
        }
        out + &self.provenance()
    }

    fn front_matter(&self) -> String {
        let library = if self.is_adapter { "peft" } else { "transformers" };
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let base = match self.base.is_hub {
            true => format!("base_model: {}", quoted(&self.base.name)),
            false => "# base_model: fill in the base model's name at the hub, if it has one".to_owned(),
        };
        let unknown =
            "# license: fill in; the base model's licence isn't known to the program that wrote this card";
        let licence = self.base.licence.as_deref().unwrap_or(unknown);
        format!(
            "---\n{base}\nlibrary_name: {library}\npipeline_tag: text-generation\n{licence}\n\
             tags:\n  - autodidact\n  - self-improvement\n---\n\n"
        )
    }

    /// What these weights are.
    fn what(&self) -> String {
        let form = if self.is_adapter { "An adapter to" } else { "A copy of" };
        let model = match self.base.is_embedded() {
            true => "the built-in seed model of autodidact".to_owned(),
            false => code(&self.base.name),
        };
        let base = match self.base.adapter.as_ref().filter(|_| !self.is_adapter) {
            Some(adapter) => format!("{model} with the adapter {}", code(adapter)),
            None => model,
        };
        match self.origin {
            None => format!(
                "{form} {base}, in another format or place. It isn't a policy of the run in whose folder it was \
                 exported: nothing is known here about how it was trained or how good it is.\n\n"
            ),
            Some(Origin { iteration: 0, .. }) => {
                format!("{form} {base}, as it was before any training by autodidact.\n\n")
            }
            Some(Origin { run, iteration, .. }) => {
                let line = run.iterations.iter().find(|line| line.iteration == *iteration);
                let gate = match line.and_then(|line| line.promoted) {
                    Some(true) => "it was promoted by the gate",
                    Some(false) => "the gate refused it",
                    None => "the gate has not decided about it",
                };
                let form = if self.is_adapter { "An adapter to" } else { "The weights of" };
                let arm = match run.arm {
                    Arm::Reward => String::new(),
                    arm => format!(" This run is the control arm `{arm}`."),
                };
                format!(
                    "{form} {base} after {iteration} of {} iterations of self-improvement; {gate}.{arm}\n\n",
                    run.iterations_planned
                )
            }
        }
    }

    /// Hashes and versions.
    fn provenance(&self) -> String {
        let mut rows = vec![("policy", code(self.policy_hash))];
        if let Some(commit) = &self.base.commit {
            rows.push(("commit of the base model", code(commit)));
        }
        if let Some(Origin { run, iteration, .. }) = self.origin {
            rows.push(("run, iteration", format!("{}, {iteration}", run.run)));
            rows.push(("seed", run.seed.to_string()));
            rows.push(("configuration", code(&run.config_hash)));
            rows.push(("base policy", code(&run.base_policy_hash)));
            rows.push(("engine of the run", format!("autodidact {}", run.engine_version)));
        }
        rows.push(("exported by", format!("autodidact {}", env!("CARGO_PKG_VERSION"))));
        format!("## Provenance\n\nHashes name weights and configuration.\n\n{}", table(&rows))
    }
}

/// Held-out figures before and after, the gate, and the control arms.
fn evaluation(origin: &Origin) -> String {
    let run = &origin.run;
    let of = |iteration: u32| run.iterations.iter().find(|line| line.iteration == iteration);
    let interval = format!("{} % interval", 100.0 * run.confidence);
    let mut out = format!(
        "## Evaluation\n\nGreedy pass@1 on held-out tasks. They decided nothing: neither what was trained on nor \
         what was promoted.\n\n| policy | pass@1 | {interval} | tasks |\n|---|---|---|---|\n"
    );
    out += &measured("base", of(0));
    if origin.iteration > 0 {
        out += &measured("this one", of(origin.iteration));
    }
    if let Some(constant) = of(0).and_then(|line| line.heldout.as_ref()?.constant.as_ref()) {
        let (answer, share) = (code(&constant.answer), 100.0 * constant.pass1);
        let _ = writeln!(out, "| the best constant answer, {answer} | {share:.1} % | | |");
    }
    out.push('\n');
    let now = run.iterations.iter().rfind(|line| line.promoted == Some(true)).map(|line| line.iteration);
    if let Some(gain) = run.gain.filter(|_| origin.iteration > 0 && now == Some(origin.iteration)) {
        let _ = writeln!(out, "Gain over the base: {}.\n", with_p(&gain));
        out += &run.caution.as_ref().map(|text| format!("Caution: {}.\n\n", plain(text))).unwrap_or_default();
    }
    if let Some(gate) = of(origin.iteration).and_then(|line| line.gate.as_ref()) {
        let promoted = of(origin.iteration).and_then(|line| line.promoted) == Some(true);
        out += &gated(gate, promoted);
    }
    if !run.controls.is_empty() && origin.iteration > 0 {
        out += "Control arms, with as many trajectories and updates as the run, and the same gate. The gains are of \
                the policies promoted last.\n\n| arm | gain over the base | the run against it |\n|---|---|---|\n";
        out += &run.controls.iter().map(compared).collect::<String>();
        out.push('\n');
    }
    out
}

fn measured(name: &str, line: Option<&IterationLine>) -> String {
    match line.and_then(|line| line.heldout.as_ref()) {
        Some(Measure { n, pass1, lo, hi, .. }) => {
            let [pass1, lo, hi] = [pass1, lo, hi].map(|share| 100.0 * share);
            format!("| {name} | {pass1:.1} % | [{lo:.1}, {hi:.1}] | {n} |\n")
        }
        None => format!("| {name} | not measured | | |\n"),
    }
}

fn gated(gate: &GateLine, promoted: bool) -> String {
    let verb = if promoted { "promoted" } else { "refused" };
    format!("The gate {verb} it, compared with the policy before it: {}.\n\n", plain(&gate.reason))
}

fn compared(control: &ControlReport) -> String {
    let shown = |gain: Option<Gain>| gain.map_or_else(|| "not measured".to_owned(), |gain| with_p(&gain));
    format!("| {} | {} | {} |\n", control.arm, shown(control.gain), shown(control.advantage))
}

fn with_p(gain: &Gain) -> String {
    format!(
        "{}, {} (paired bootstrap over {} tasks; McNemar)",
        points(gain.points, gain.lo, gain.hi),
        p_text(gain.p_value),
        gain.n
    )
}

fn points(points: f64, lo: f64, hi: f64) -> String {
    format!("{points:+.1} points [{lo:+.1}, {hi:+.1}]")
}

/// How it was trained, and on whose labels.
fn training(origin: &Origin) -> String {
    let (run, config) = (&origin.run, &origin.config);
    let text = |section: &str, key: &str| config[section][key].as_str().unwrap_or_default().to_owned();
    let line = run.iterations.iter().filter(|line| line.iteration <= origin.iteration);
    let (drawn, kept, steps) = line.fold((0, 0, 0), |(drawn, kept, steps), line| {
        (drawn + line.trajectories, kept + line.kept, steps + line.steps)
    });
    let method = match text("train", "method").as_str() {
        "lora" => "a LoRA adapter".to_owned(),
        _ => "all weights".to_owned(),
    };
    let mut rows = vec![
        ("method", format!("self-improvement: sample, score, keep the best, fine-tune ({method})")),
        ("trajectories sampled, kept, updates", format!("{drawn}, {kept}, {steps}, up to this iteration")),
        ("optimizer", code(&text("train", "optimizer"))),
        ("kept by", kept_by(run.arm, &text("reward", "formula"))),
        ("labels", labels(run.arm, config)),
    ];
    for (what, name) in [
        ("began with the adapter", text("model", "adapter")),
        ("judge", text("judge", "model")),
        ("reference", text("reference", "model")),
    ] {
        if !name.is_empty() {
            rows.push((what, code(&last_part(&name))));
        }
    }
    format!("## Training\n\n{}\n", table(&rows))
}

fn kept_by(arm: Arm, formula: &str) -> String {
    match arm {
        Arm::Reward => format!("the reward {}, which reads no gold answer of a practice task", code(formula)),
        Arm::Random => "chance".to_owned(),
        Arm::Format => "having an answer at all".to_owned(),
        Arm::Oracle => {
            "gold answers of the practice tasks: this arm shows what perfect scores would give".to_owned()
        }
        Arm::EasyOnly => "nothing: it trains on labelled easy tasks only".to_owned(),
    }
}

fn labels(arm: Arm, config: &serde_json::Value) -> String {
    let replays = config["train"]["replay"].as_f64().is_none_or(|share| share > 0.0);
    let practice = match arm {
        Arm::Oracle => "gold answers of the practice tasks chose what was trained on",
        Arm::Reward | Arm::Random | Arm::Format => "label-free on the practice tasks",
        Arm::EasyOnly => "no practice task was used",
    };
    let easy = match (arm, replays) {
        (Arm::EasyOnly, _) => "worked solutions of easy tasks were trained on",
        (Arm::Reward, true) => {
            "gold answers of easy tasks taught the critique head, and their worked solutions were replayed in training"
        }
        (Arm::Reward, false) => "gold answers of easy tasks taught the critique head",
        (_, true) => "worked solutions of easy tasks were replayed in training",
        (_, false) => "no gold answer of an easy task was used",
    };
    format!("{practice}; {easy}; gold answers of the gate tasks decided about promotion")
}

/// The tasks, by split.
fn data(origin: &Origin) -> String {
    let tasks = &origin.config["tasks"];
    let kind = tasks["kind"].as_str().unwrap_or_default();
    let mut source = match kind {
        "file" => format!("the file {}", code(&last_part(tasks["file"].as_str().unwrap_or_default()))),
        kind => format!("the built-in task {}", code(kind)),
    };
    if let Some(heldout) = tasks["heldout_file"].as_str().filter(|file| !file.is_empty()) {
        source += &format!("; held-out tasks from {}", code(&last_part(heldout)));
    }
    let mut rows = vec![("source", source)];
    for (split, count) in &origin.tasks {
        let use_of = match split {
            Split::Easy => "labelled easy tasks",
            Split::Anchor => "tasks that measure the critique head",
            Split::Train => "practice tasks",
            Split::Gate => "tasks that decide about promotion",
            Split::HeldOut => "held-out tasks, reported only",
        };
        rows.push((use_of, count.to_string()));
    }
    format!("## Data\n\n{}\n", table(&rows))
}

fn table(rows: &[(&str, String)]) -> String {
    let rows = rows.iter().map(|(name, value)| format!("| {name} | {value} |\n"));
    format!("| | |\n|---|---|\n{}", rows.collect::<String>())
}

/// Text in a row of a table: on one line, and with nothing that ends a cell.
fn plain(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|")
}

/// The same as code.
fn code(text: &str) -> String {
    format!("`{}`", plain(text).replace('`', "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arms_that_read_no_label_of_a_practice_task_are_called_label_free() {
        let config = serde_json::json!({ "train": { "replay": 0.0 } });
        for arm in Arm::ALL.iter().copied() {
            let text = labels(arm, &config);
            assert_eq!(
                text.contains("label-free"),
                matches!(arm, Arm::Reward | Arm::Random | Arm::Format),
                "{arm}: {text}"
            );
            assert_eq!(text.contains("taught the critique head"), arm == Arm::Reward, "{arm}: {text}");
        }
        assert!(kept_by(Arm::Oracle, "").contains("gold answers"));
    }

    #[test]
    fn no_text_breaks_a_table() {
        assert_eq!(code("a|b`c\nd"), "`a\\|b'c d`");
    }
}
