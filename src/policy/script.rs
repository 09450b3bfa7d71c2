//! The scripted policy of the built-in tasks: it knows a right and several wrong answers to each
//! question, and a skill.
//!
//! It exercises the loop without weights. Its checkpoint is the file `script.json`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data;
use crate::domain::{Address, Purpose};
use crate::engine::scripted::{Play, Script, Scripted};
use crate::text::Text;

/// Probability of a right answer that the script starts from.
const SKILL: f64 = 0.4;

/// Different wrong answers that the script knows for each question.
const MISTAKES: u32 = 4;

/// The checkpoint's only file.
const FILE: &str = "script.json";

#[derive(Serialize, Deserialize)]
struct State {
    skill: f64,
    version: u32,
}

/// The policy that a scripted run starts from.
pub(super) fn base(config: &Config, text: &Text) -> Result<Scripted> {
    Scripted::new(solver(config, text)?, SKILL)
}

/// Writes the checkpoint's file into `dir`.
pub(super) fn save(script: &Scripted, dir: &Path) -> Result<()> {
    let state = State { skill: script.skill(), version: script.version() };
    std::fs::write(dir.join(FILE), serde_json::to_string(&state)?).context("cannot write script.json")
}

/// Whether the checkpoint in `dir` is a script's.
pub(super) fn is_saved_in(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// The policy whose checkpoint is in `dir`.
pub(super) fn load(dir: &Path, config: &Config, text: &Text) -> Result<Scripted> {
    let path = dir.join(FILE);
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let state: State =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
    Ok(Scripted::new(solver(config, text)?, state.skill)?.at_version(state.version))
}

/// A script that solves the built-in tasks, given only their question.
fn solver(config: &Config, text: &Text) -> Result<Script> {
    let (text, kind) = (text.clone(), config.tasks.kind.kind());
    let stops = text.stops(kind, &[])?;
    let lookup = move |context: &[u32]| -> Option<(usize, Play)> {
        // A built-in prompt is one line.
        let prompt = context.iter().position(|id| stops.boundary_ids.contains(id))? + 1;
        let question = text.decode(&context[..prompt]).ok()?;
        let task = data::solved(kind, question.trim_end())?;
        let ids = |solution: &str| text.completion_ids(solution).ok();
        let address = |n| Address::new(0, Purpose::Dataset, 0, &task.question, &[n]);
        let wrong = (0..MISTAKES).filter_map(|n| ids(&data::corrupted(&task, &address(n))?)).collect();
        Some((prompt, Play { solution: ids(task.solution.as_ref()?)?, wrong }))
    };
    Ok(Script::solver("built-in solver v1", Arc::new(lookup)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A skill is a number with all its digits: one that came back a bit off would be another
    /// policy.
    #[test]
    fn a_scripted_checkpoint_is_the_same_policy_again() {
        let config = Config::load(None, &[]).unwrap();
        let text = Text::embedded().unwrap();
        let base = base(&config, &text).unwrap();
        for kept in 0..200 {
            let dir = tempfile::tempdir().unwrap();
            let policy = base.improved(kept);
            save(&policy, dir.path()).unwrap();
            let again = load(dir.path(), &config, &text).unwrap();
            assert_eq!((again.skill(), again.version()), (policy.skill(), policy.version()));
            let hash = |script: &Scripted| crate::domain::Generate::policy_hash(script).to_owned();
            assert_eq!(hash(&again), hash(&policy), "after {kept} kept trajectories");
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_named() {
        let (config, dir) = (Config::load(None, &[]).unwrap(), tempfile::tempdir().unwrap());
        let text = Text::embedded().unwrap();
        let error = |dir: &Path| format!("{:#}", load(dir, &config, &text).map(drop).unwrap_err());
        assert!(error(dir.path()).contains("cannot read"), "{}", error(dir.path()));
        std::fs::write(dir.path().join(FILE), "{\"skill\":").unwrap();
        assert!(error(dir.path()).contains("is damaged"), "{}", error(dir.path()));
    }
}
