//! Models beside the policy: the judge and the reference, loaded with the session and never trained.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Policy, PolicyKind};
use crate::config::{Config, Criterion, JudgeConfig, Propose, ValueBy};
use crate::critic::{Formula, Judge};
use crate::domain::{ScorerKind, Strategy};
use crate::engine::Generate;
use crate::text::{CRITIQUES, PROPOSE, Text, VALUE};

/// A model with the tokenizer that belongs to it.
pub(super) struct Beside {
    policy: Policy,
    pub(super) text: Text,
}

impl Beside {
    /// The model that `key` names, at `path` or built in.
    fn load(name: &str, path: &Path, config: &Config, key: &str) -> Result<Self> {
        let mut own = config.clone();
        own.model.path = path.display().to_string();
        own.model.snapshot = None;
        // How the policy is spoken to is its own affair; a judge answers at once.
        own.model.system = String::new();
        own.model.thinking = crate::config::Thinking::Off;
        let load = || -> Result<Self> {
            let text = PolicyKind::Model.text(&own)?;
            let policy = Policy::to_read(path, &own)?;
            Ok(Self { policy, text })
        };
        load().with_context(|| format!("{key} = {name:?} can't be used"))
    }

    pub(super) fn engine(&self) -> &dyn Generate {
        self.policy.engine()
    }
}

/// Who judges, who is the reference, and what they are asked.
pub(super) struct Referees {
    judge: Option<Beside>,
    pub(super) reference: Option<Beside>,
    /// The scores that a judge gives, in order; none if nobody judges.
    pub(super) asked: Vec<ScorerKind>,
    config: JudgeConfig,
}

impl Referees {
    /// Loads what the configuration names, and asks every prompt once about nothing.
    pub fn load(config: &Config, policy: &Policy, text: &Text) -> Result<Self> {
        let judge = &config.judge;
        let asked = asked(config)?;
        let other = judge.is_on() && !judge.is_policy();
        let load = |name: &str, path, key| Beside::load(name, path, config, key);
        let referees = Self {
            judge: other.then(|| load(&judge.model, judge.folder(), "judge.model")).transpose()?,
            reference: match config.reference.model.as_str() {
                "" => None,
                name => Some(load(name, config.reference.folder(), "reference.model")?),
            },
            asked,
            config: judge.clone(),
        };
        let way_out = "its prompts are in the folder model.prompts";
        referees
            .judge(policy, text)
            .check(&referees.asked)
            .with_context(|| format!("judge.model = {:?} can't be asked: {way_out}", judge.model))?;
        if values_by_prompt(config) {
            let judged = referees.judge(policy, text).check_values();
            judged.with_context(|| format!("tree.value = \"prompt\" can't work: {way_out}"))?;
        }
        if proposes_by_prompt(config) {
            let prompt = text.prompts().propose("?", &["."], config.tree.proposals)?;
            text.asked(&prompt)
                .with_context(|| format!("tree.propose = \"prompt\" can't work: {way_out}"))?;
        }
        Ok(referees)
    }

    /// The judge; where none is configured the policy speaks for itself.
    pub fn judge<'a>(&'a self, policy: &'a Policy, text: &'a Text) -> Judge<'a> {
        match &self.judge {
            Some(model) => Judge::new(model.engine(), &model.text, &self.config),
            None => Judge::new(policy.engine(), text, &self.config),
        }
    }

    /// Everything here that decides a run's rows, beyond the configuration; empty if nothing does.
    pub fn identity(&self, config: &Config, text: &Text) -> String {
        let mut parts = Vec::new();
        for model in self.judge.iter().chain(&self.reference) {
            parts.extend([model.policy.hash().to_owned(), model.text.hash().to_owned()]);
        }
        let mut templates = Vec::new();
        if self.config.is_on() {
            templates.extend(CRITIQUES.map(|(_, name)| name));
        }
        templates.extend(values_by_prompt(config).then_some(VALUE));
        templates.extend(proposes_by_prompt(config).then_some(PROPOSE));
        if !templates.is_empty() {
            parts.push(text.prompts().hash_of(&templates));
        }
        if parts.is_empty() {
            return String::new();
        }
        blake3::hash(parts.join(" ").as_bytes()).to_hex().to_string()
    }
}

/// Refuses a judge, a reference or prompts of a search that could not be asked.
pub fn check_referees(config: &Config, policy: &Policy, text: &Text) -> Result<()> {
    Referees::load(config, policy, text).map(drop)
}

pub(super) fn values_by_prompt(config: &Config) -> bool {
    config.rollout.strategy == Strategy::Tot && config.tree.value == ValueBy::Prompt
}

pub(super) fn proposes_by_prompt(config: &Config) -> bool {
    config.rollout.strategy == Strategy::Tot && config.tree.propose == Propose::Prompt
}

/// What the judge is asked: the configured criteria and what formulas use, in the order of the scores.
fn asked(config: &Config) -> Result<Vec<ScorerKind>> {
    let judge = &config.judge;
    let mut wanted: Vec<ScorerKind> = if judge.is_on() {
        judge.criteria.iter().map(|criterion| scorer(*criterion)).collect()
    } else {
        Vec::new()
    };
    for formula in [&config.critic.annotation, &config.reward.formula, &config.reward.without_head] {
        for &name in Formula::parse(formula)?.names() {
            let judged = CRITIQUES.iter().any(|(known, _)| *known == name);
            if judged || name == ScorerKind::JudgeDisagreement {
                ensure!(
                    judge.is_on(),
                    "the formula `{formula}` uses `{name}`, but nobody judges: set judge.model, to \"policy\" or a model"
                );
            }
            ensure!(
                name != ScorerKind::JudgeDisagreement || judge.repeats > 1,
                "the formula `{formula}` uses `{name}`, which takes judge.repeats of at least 2"
            );
            ensure!(
                name != ScorerKind::Reference || !config.reference.model.is_empty(),
                "the formula `{formula}` uses `{name}`, but there is no reference: set reference.model"
            );
            wanted.extend(judged.then_some(name));
        }
    }
    Ok(CRITIQUES.into_iter().map(|(scorer, _)| scorer).filter(|scorer| wanted.contains(scorer)).collect())
}

fn scorer(criterion: Criterion) -> ScorerKind {
    match criterion {
        Criterion::Overall => ScorerKind::Judge,
        Criterion::Coherence => ScorerKind::JudgeCoherence,
        Criterion::Accuracy => ScorerKind::JudgeAccuracy,
        Criterion::Completeness => ScorerKind::JudgeCompleteness,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::improve::Use;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::load(None, &pairs).unwrap()
    }

    #[test]
    fn formulas_and_criteria_say_what_is_asked() {
        assert!(asked(&config(&[])).unwrap().is_empty());
        let formula = ("reward.formula", "judge_accuracy - judge_disagreement");
        let both = asked(&config(&[("judge.model", "policy"), formula])).unwrap();
        assert_eq!(both, [ScorerKind::Judge, ScorerKind::JudgeAccuracy]);
        let error = asked(&config(&[formula])).unwrap_err().to_string();
        assert!(error.contains("judge.model") && error.contains("judge_accuracy"), "{error}");
        let once = config(&[("judge.model", "policy"), ("judge.repeats", "1"), formula]);
        assert!(asked(&once).unwrap_err().to_string().contains("judge.repeats"));
        let reference = asked(&config(&[("reward.formula", "exp(reference)")])).unwrap_err().to_string();
        assert!(reference.contains("reference.model"), "{reference}");
    }

    #[test]
    fn what_is_off_changes_no_identity() {
        let defaults = config(&[]);
        let text = PolicyKind::Scripted.text(&defaults).unwrap();
        let policy = PolicyKind::Scripted.base(&defaults, &text, Use::Train, None).unwrap();
        let load = |config: &Config| Referees::load(config, &policy, &text);
        assert_eq!(load(&defaults).unwrap().identity(&defaults, &text), "");
        let with = config(&[("reference.model", "embedded")]);
        assert_ne!(load(&with).unwrap().identity(&with, &text), "");
        // The seed model's few letters can't write a judge's prompt.
        for pairs in [
            [("judge.model", "policy"), ("judge.repeats", "2")],
            [("rollout.strategy", "tot"), ("tree.value", "prompt")],
            [("rollout.strategy", "tot"), ("tree.propose", "prompt")],
            [("judge.model", "nowhere"), ("judge.repeats", "2")],
        ] {
            let error = format!("{:#}", load(&config(&pairs)).map(drop).unwrap_err());
            assert!(error.contains("judge.model") || error.contains("tree."), "{error}");
        }
    }
}
