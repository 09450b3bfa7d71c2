//! Loads the auxiliary models of a run: judge and reference, as policies that are only read.

use std::path::Path;

use anyhow::{Context, Result};

use super::needs::{self, Engines};
use crate::config::{Config, Propose, Thinking, ValueBy};
use crate::domain::Strategy;
use crate::policy::{Policy, PolicyKind};
use crate::score::{AuxModel, AuxModels, ScoreSettings, SearchPrompts};
use crate::text::Text;

/// Loads what the configuration names, checks that the engines can do what it needs, and dry-runs
/// every prompt on an empty question.
pub(super) fn load(config: &Config, policy: &Policy, text: &Text) -> Result<AuxModels> {
    let Config { critic, judge, reference, reward, .. } = config;
    let settings = ScoreSettings { critic, judge, reference, reward };
    let one = |key: &str, name: &str, path: &Path| load_one(config, key, name, path);
    let models = AuxModels::load(&settings, search_prompts(config), &one)?;
    let engine = policy.engine();
    let engines = Engines {
        policy: engine.capabilities(),
        judge: models.judge(engine, text).capabilities(),
        reference: models.reference().map(|reference| reference.engine().capabilities()),
    };
    needs::check(config, &engines)?;
    models.dry_run(engine, text)?;
    Ok(models)
}

/// The prompts that the configured search asks.
pub(in crate::improve) fn search_prompts(config: &Config) -> SearchPrompts {
    if config.rollout.strategy != Strategy::Tot {
        return SearchPrompts::default();
    }
    SearchPrompts {
        value: config.tree.value == ValueBy::Prompt,
        propose: (config.tree.propose == Propose::Prompt).then_some(config.tree.proposals),
    }
}

/// The model that `key` names, at `path` or built in.
fn load_one(config: &Config, key: &str, name: &str, path: &Path) -> Result<AuxModel> {
    let mut own = config.clone();
    own.model.path = path.display().to_string();
    own.model.snapshot = None;
    // The policy's system prompt and thinking are not the judge's: it answers at once.
    own.model.system = String::new();
    own.model.thinking = Thinking::Off;
    let load = || -> Result<AuxModel> {
        let text = PolicyKind::Model.text(&own)?;
        Ok(AuxModel::new(Policy::to_read(path, &own)?.into_engine(), text))
    };
    load().with_context(|| format!("{key} = {name:?} can't be used"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Use;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::load(None, &pairs).unwrap()
    }

    #[test]
    fn what_is_off_changes_no_identity() {
        let defaults = config(&[]);
        let text = PolicyKind::Scripted.text(&defaults).unwrap();
        let policy = PolicyKind::Scripted.base(&defaults, &text, Use::Train, None).unwrap();
        let load = |config: &Config| super::load(config, &policy, &text);
        assert_eq!(load(&defaults).unwrap().identity(&text), "");
        let with = config(&[("reference.model", "embedded")]);
        assert_ne!(load(&with).unwrap().identity(&text), "");
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
