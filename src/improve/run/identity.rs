//! The identity of a run: the settings, tasks, models and prompts that it can't be resumed without.

use anyhow::{Context, Result, ensure};

use crate::config::{Config, Difference, is_same_model};
use crate::domain::Task;
use crate::store;

/// What a run is tied to, as hashes.
pub(super) struct Identity<'a> {
    pub config: &'a Config,
    /// Of the tokenizer and the prompts that ask for an answer.
    pub tokenizer: String,
    pub base_policy: String,
    pub tasks: String,
    /// Of the judge, the reference, and the prompts for them and for a search; empty without any.
    pub aux_models: String,
}

impl Identity<'_> {
    /// What the store holds of the settings, the tasks and the other models, in one text.
    pub(super) fn config_hash(&self) -> String {
        let separator = if self.aux_models.is_empty() { "" } else { "-" };
        format!("{}-{}{separator}{}", self.config.hash(), self.tasks, self.aux_models)
    }

    /// Refuses to resume a run that began with these settings, if they are others.
    ///
    /// # Errors
    /// Names what differs.
    pub(super) fn check_settings(&self, stored: &str) -> Result<()> {
        let mut differences = self.config.differences(stored);
        differences.retain(|d| !is_one_model(d));
        ensure!(
            differences.is_empty(),
            "{} holds a run with another configuration ({}); run with the same settings to resume it, or choose \
             another folder with --set run.dir=…",
            self.config.run.dir,
            differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        );
        Ok(())
    }

    /// Refuses to resume a run that began with other settings, tasks, models or prompts.
    ///
    /// # Errors
    /// Names what differs.
    pub(super) fn check(&self, run: &store::Run) -> Result<()> {
        let dir = &self.config.run.dir;
        let (_, rest) = run.config_hash.split_once('-').unwrap_or((&run.config_hash, ""));
        let (tasks, aux_models) = rest.split_once('-').unwrap_or((rest, ""));
        self.check_settings(&run.config_json)?;
        ensure!(
            tasks == self.tasks,
            "the tasks have changed since the run in {dir} began; restore them, or choose another folder with \
             --set run.dir=…"
        );
        ensure!(
            aux_models == self.aux_models,
            "the judge, the reference or the prompts they are asked with have changed since the run in {dir} began; \
             restore them, or choose another folder with --set run.dir=…"
        );
        ensure!(
            run.base_policy_hash == self.base_policy,
            "the base model has changed since the run began: it hashed to {:.16} and now to {:.16}",
            run.base_policy_hash,
            self.base_policy
        );
        ensure!(
            run.tokenizer_hash == self.tokenizer,
            "the tokenizer or the prompts have changed since the run began; restore them, or choose another folder \
             with --set run.dir=…"
        );
        Ok(())
    }
}

/// Whether the difference is only in how the path of a model is written.
fn is_one_model(difference: &Difference) -> bool {
    let Difference { key, stored, given } = difference;
    let both = stored.as_str().zip(given.as_str());
    both.is_some_and(|(stored, given)| is_same_model(key, stored, given))
}

/// Hash of all tasks, in order.
pub(super) fn tasks_hash(tasks: &[Task]) -> Result<String> {
    let bytes = serde_json::to_vec(tasks).context("the tasks cannot be hashed")?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Arm, RunState};

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::load(None, &pairs).unwrap()
    }

    fn identity(config: &Config) -> Identity<'_> {
        let [tokenizer, base_policy, tasks] = ["tokenizer", "base", "tasks"].map(str::to_owned);
        Identity { config, tokenizer, base_policy, tasks, aux_models: String::new() }
    }

    /// The row of a run that began with this identity.
    fn begun(identity: &Identity) -> store::Run {
        store::Run {
            id: 1,
            arm: Arm::Reward,
            of_run: None,
            seed: identity.config.run.seed,
            iterations: identity.config.run.iterations,
            config_json: identity.config.to_json(),
            config_hash: identity.config_hash(),
            tokenizer_hash: identity.tokenizer.clone(),
            base_policy_hash: identity.base_policy.clone(),
            engine_version: String::new(),
            state: RunState::Running,
            state_reason: None,
            started_at: String::new(),
            changed_at: String::new(),
        }
    }

    #[test]
    fn the_stored_hash_has_the_other_models_only_if_there_are_any() {
        let config = config(&[]);
        let plain = identity(&config);
        assert_eq!(plain.config_hash(), format!("{}-tasks", config.hash()));
        let judged = Identity { aux_models: "judge".into(), ..identity(&config) };
        assert_eq!(judged.config_hash(), format!("{}-tasks-judge", config.hash()));
        plain.check(&begun(&plain)).unwrap();
        judged.check(&begun(&judged)).unwrap();
    }

    #[test]
    fn every_part_of_the_identity_is_checked() {
        let config = config(&[]);
        let row = begun(&identity(&config));
        let refused = |other: Identity, part: &str| {
            let error = other.check(&row).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(Identity { tasks: "others".into(), ..identity(&config) }, "the tasks have changed");
        refused(Identity { aux_models: "judge".into(), ..identity(&config) }, "the judge, the reference");
        refused(Identity { base_policy: "other".into(), ..identity(&config) }, "the base model has changed");
        refused(Identity { tokenizer: "other".into(), ..identity(&config) }, "the tokenizer or the prompts");
    }

    #[test]
    fn a_changed_setting_is_named_with_both_values() {
        let then = config(&[]);
        let row = begun(&identity(&then));
        let now = config(&[("select.keep", "7"), ("train.steps", "11"), ("run.dir", "elsewhere")]);
        let error = identity(&now).check(&row).unwrap_err().to_string();
        let (keep, steps) = (then.select.keep, then.train.steps);
        assert!(error.contains(&format!("select.keep: {keep} then, 7 now")), "{error}");
        assert!(error.contains(&format!("train.steps: {steps} then, 11 now")), "{error}");
        assert!(!error.contains("run.dir:"), "a run may move: {error}");
    }

    #[test]
    fn a_model_may_be_called_by_another_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path).display().to_string();
        std::fs::create_dir(at("model")).unwrap();
        let row = begun(&identity(&config(&[("model.path", &at("model"))])));
        identity(&config(&[("model.path", &at("model/../model"))])).check(&row).unwrap();
        let elsewhere = config(&[("model.path", &at("other"))]);
        assert!(identity(&elsewhere).check(&row).unwrap_err().to_string().contains("model.path: "));
    }

    #[test]
    fn what_may_change_on_resuming_is_no_difference() {
        let row = begun(&identity(&config(&[])));
        let free = [
            ("run.dir", "elsewhere"),
            ("run.iterations", "9"),
            ("run.wall_clock_max_s", "5"),
            ("engine.batch_tokens", "4096"),
            ("checkpoints.keep", "9"),
            ("model.prompts", "prompts"),
        ];
        identity(&config(&free)).check(&row).unwrap();
        let seed = config(&[("run.seed", "5")]);
        assert!(identity(&seed).check(&row).unwrap_err().to_string().contains("run.seed: "));
    }
}
