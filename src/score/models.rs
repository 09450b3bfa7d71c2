//! The auxiliary models: judge and reference, which are loaded with the run and never trained.
//!
//! Knows nothing of policies and checkpoints: the caller brings the function that loads a model.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Criterion, CriticConfig, Formula, Judge, JudgeConfig, ReferenceConfig, RewardConfig};
use crate::domain::{Generate, ScorerName};
use crate::text::{CRITIQUES, PROPOSE, Text, VALUE};

/// A model that is only asked or read, with its own tokenizer.
pub struct AuxModel {
    engine: Box<dyn Generate + Send>,
    text: Text,
}

impl AuxModel {
    /// A model with the tokenizer that it reads.
    pub fn new(engine: Box<dyn Generate + Send>, text: Text) -> Self {
        Self { engine, text }
    }

    /// What reads and samples.
    pub fn engine(&self) -> &dyn Generate {
        &*self.engine
    }

    /// The tokenizer and the prompts.
    pub fn text(&self) -> &Text {
        &self.text
    }
}

/// The sections of the configuration that scoring reads.
#[derive(Clone, Copy, Debug)]
pub struct ScoreSettings<'c> {
    pub critic: &'c CriticConfig,
    pub judge: &'c JudgeConfig,
    pub reference: &'c ReferenceConfig,
    pub reward: &'c RewardConfig,
}

/// The prompts that a search asks, in addition to those that score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchPrompts {
    /// Whether a prompt values its paths.
    pub value: bool,
    /// How many thoughts a prompt proposes at once, if one does.
    pub propose: Option<u32>,
}

/// Loads the model that a key of the configuration names: (key, name, folder or file).
pub type LoadModel<'a> = &'a dyn Fn(&str, &str, &Path) -> Result<AuxModel>;

/// Judge and reference, and what the judge is asked.
pub struct AuxModels {
    judge: Option<AuxModel>,
    reference: Option<AuxModel>,
    asked: Vec<ScorerName>,
    config: JudgeConfig,
    search: SearchPrompts,
}

impl AuxModels {
    /// Loads what the settings name.
    ///
    /// # Errors
    /// If a model can't be loaded, or a formula needs a score that no model gives.
    pub fn load(settings: &ScoreSettings, search: SearchPrompts, load: LoadModel) -> Result<Self> {
        let ScoreSettings { judge, reference, .. } = *settings;
        let asked = asked(settings)?;
        let other = judge.is_on() && !judge.is_policy();
        Ok(Self {
            judge: other.then(|| load("judge.model", &judge.model, judge.folder())).transpose()?,
            reference: match reference.model.as_str() {
                "" => None,
                name => Some(load("reference.model", name, reference.folder())?),
            },
            asked,
            config: judge.clone(),
            search,
        })
    }

    /// Dry-runs every prompt on an empty question. `engine` and `text` are the policy's: it answers
    /// where no other judge is configured.
    ///
    /// # Errors
    /// If a prompt can't be asked.
    pub fn dry_run(&self, engine: &dyn Generate, text: &Text) -> Result<()> {
        let way_out = "its prompts are in the folder model.prompts";
        let judge = self.judge(engine, text);
        judge
            .check(&self.asked)
            .with_context(|| format!("judge.model = {:?} can't be asked: {way_out}", self.config.model))?;
        if self.search.value {
            judge.check_values().with_context(|| format!("tree.value = \"prompt\" can't work: {way_out}"))?;
        }
        if let Some(proposals) = self.search.propose {
            let prompt = text.prompts().propose("?", &["."], proposals)?;
            text.asked(&prompt)
                .with_context(|| format!("tree.propose = \"prompt\" can't work: {way_out}"))?;
        }
        Ok(())
    }

    /// The judge; where none is configured it is the policy, which `engine` and `text` are.
    pub fn judge<'a>(&'a self, engine: &'a dyn Generate, text: &'a Text) -> Judge<'a> {
        match &self.judge {
            Some(model) => Judge::new(model.engine(), model.text(), &self.config),
            None => Judge::new(engine, text, &self.config),
        }
    }

    /// The reference, if one is configured.
    pub fn reference(&self) -> Option<&AuxModel> {
        self.reference.as_ref()
    }

    /// The scores that a judge is asked for, in order; none if nobody judges.
    pub fn asked(&self) -> &[ScorerName] {
        &self.asked
    }

    /// Everything here that decides a run's rows, beyond the configuration; empty if nothing does.
    /// `text` is the policy's.
    pub fn identity(&self, text: &Text) -> String {
        let mut parts = Vec::new();
        for model in self.judge.iter().chain(&self.reference) {
            parts.extend([model.engine.policy_hash().to_owned(), model.text.hash().to_owned()]);
        }
        let mut templates = Vec::new();
        if self.config.is_on() {
            templates.extend(CRITIQUES.map(|(_, name)| name));
        }
        templates.extend(self.search.value.then_some(VALUE));
        templates.extend(self.search.propose.map(|_| PROPOSE));
        if !templates.is_empty() {
            parts.push(text.prompts().hash_of(&templates));
        }
        if parts.is_empty() {
            return String::new();
        }
        blake3::hash(parts.join(" ").as_bytes()).to_hex().to_string()
    }
}

/// Whether an auxiliary model gives this score.
pub fn is_by_model(scorer: &ScorerName) -> bool {
    is_judged(scorer) || [ScorerName::JUDGE_DISAGREEMENT, ScorerName::REFERENCE].contains(scorer)
}

/// Whether a prompt asks a judge for this score.
fn is_judged(scorer: &ScorerName) -> bool {
    CRITIQUES.iter().any(|(known, _)| known == scorer)
}

/// What the judge is asked: the configured criteria and what formulas use, in the order of the
/// scores.
fn asked(settings: &ScoreSettings) -> Result<Vec<ScorerName>> {
    let ScoreSettings { critic, judge, reference, reward } = *settings;
    let mut wanted: Vec<ScorerName> = if judge.is_on() {
        judge.criteria.iter().map(|criterion| scorer(*criterion)).collect()
    } else {
        Vec::new()
    };
    for formula in [&critic.annotation, &reward.formula, &reward.without_head] {
        for name in Formula::parse(formula)?.names() {
            if is_judged(name) || *name == ScorerName::JUDGE_DISAGREEMENT {
                ensure!(
                    judge.is_on(),
                    "the formula `{formula}` uses `{name}`, but nobody judges: set judge.model, to \"policy\" or a model"
                );
            }
            ensure!(
                *name != ScorerName::JUDGE_DISAGREEMENT || judge.repeats > 1,
                "the formula `{formula}` uses `{name}`, which takes judge.repeats of at least 2"
            );
            ensure!(
                *name != ScorerName::REFERENCE || !reference.model.is_empty(),
                "the formula `{formula}` uses `{name}`, but there is no reference: set reference.model"
            );
            wanted.extend(is_judged(name).then(|| name.clone()));
        }
    }
    Ok(CRITIQUES.into_iter().map(|(scorer, _)| scorer).filter(|scorer| wanted.contains(scorer)).collect())
}

fn scorer(criterion: Criterion) -> ScorerName {
    match criterion {
        Criterion::Overall => ScorerName::JUDGE,
        Criterion::Coherence => ScorerName::JUDGE_COHERENCE,
        Criterion::Accuracy => ScorerName::JUDGE_ACCURACY,
        Criterion::Completeness => ScorerName::JUDGE_COMPLETENESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn asked_by(pairs: &[(&str, &str)]) -> Result<Vec<ScorerName>> {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let Config { critic, judge, reference, reward, .. } = &Config::load(None, &pairs).unwrap();
        asked(&ScoreSettings { critic, judge, reference, reward })
    }

    #[test]
    fn formulas_and_criteria_decide_what_is_asked() {
        assert!(asked_by(&[]).unwrap().is_empty());
        let formula = ("reward.formula", "judge_accuracy - judge_disagreement");
        let both = asked_by(&[("judge.model", "policy"), formula]).unwrap();
        assert_eq!(both, [ScorerName::JUDGE, ScorerName::JUDGE_ACCURACY]);
        let error = asked_by(&[formula]).unwrap_err().to_string();
        assert!(error.contains("judge.model") && error.contains("judge_accuracy"), "{error}");
        let once = [("judge.model", "policy"), ("judge.repeats", "1"), formula];
        assert!(asked_by(&once).unwrap_err().to_string().contains("judge.repeats"));
        let reference = asked_by(&[("reward.formula", "exp(reference)")]).unwrap_err().to_string();
        assert!(reference.contains("reference.model"), "{reference}");
    }
}
