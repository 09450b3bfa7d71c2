//! Randomness has an address: every random draw of the engine is a pure function of where it stands.
//!
//! An [`Address`] names one stream of a counter-based generator (ChaCha8, Bernstein 2008). Batch size, order,
//! thread count and resuming can't change what a stream yields, because nobody shares it.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use crate::named_enum;

/// What a stream is for; streams of different purposes never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Building a dataset's tasks.
    Dataset,
    /// Drawing a meaning-preserving variant of a task.
    Variant,
    /// Tokens of a trajectory that may be trained on.
    Rollout,
    /// Tokens of a trajectory that measures a policy.
    Evaluation,
    /// Tokens of a graded trajectory that the critique head learns from or is measured on.
    Bootstrap,
    /// The critique head's initial weights, shuffles and feature noise.
    Critic,
    /// Random selection (the control arm) and tie-breaking.
    Selection,
    /// The order of training examples.
    Training,
    /// Initial weights of a model that is pretrained.
    Init,
}

named_enum!(Purpose {
    Dataset => "dataset",
    Variant => "variant",
    Rollout => "rollout",
    Evaluation => "evaluation",
    Bootstrap => "bootstrap",
    Critic => "critic",
    Selection => "selection",
    Training => "training",
    Init => "init",
});

/// Where a random stream stands: (run seed, purpose, iteration, task, branch).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// Seed of the run, as given by the user.
    pub seed: u64,
    pub purpose: Purpose,
    /// Iteration of the loop, 0 for what precedes it.
    pub iteration: u32,
    /// Id of the task; empty where none applies.
    pub task: String,
    /// Path from the root: `[variant]` for a chain, `[variant, child, child, …]` for a node of a tree.
    pub branch: Vec<u32>,
}

impl Address {
    /// The place of a draw; `branch` is empty at a trajectory's root.
    pub fn new(seed: u64, purpose: Purpose, iteration: u32, task: &str, branch: &[u32]) -> Self {
        Self { seed, purpose, iteration, task: task.to_owned(), branch: branch.to_vec() }
    }

    /// The address of child `index` below this one.
    pub fn child(&self, index: u32) -> Self {
        let mut child = self.clone();
        child.branch.push(index);
        child
    }

    /// The stream that stands here, at its first word. Token `t` of a trajectory uses word `t`
    /// (`set_word_pos`), so a trajectory can be continued from any token.
    pub fn stream(&self) -> ChaCha8Rng {
        let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 random address v1");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&[self.purpose as u8]);
        hasher.update(&self.iteration.to_le_bytes());
        hasher.update(&(self.task.len() as u64).to_le_bytes());
        hasher.update(self.task.as_bytes());
        for step in &self.branch {
            hasher.update(&step.to_le_bytes());
        }
        ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Address {
    /// `seed/purpose/iteration/branch/task`, the branch dotted: `0/rollout/2/7.1/relations/train/000012`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let branch = self.branch.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        write!(f, "{}/{}/{}/{branch}/{}", self.seed, self.purpose, self.iteration, self.task)
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("`{s}` is not an address (seed/purpose/iteration/branch/task)");
        let mut parts = s.splitn(5, '/');
        let mut next = || parts.next().ok_or_else(bad);
        let seed = next()?.parse().map_err(|_| bad())?;
        let purpose = next()?.parse()?;
        let iteration = next()?.parse().map_err(|_| bad())?;
        let branch = match next()? {
            "" => Vec::new(),
            path => path.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?,
        };
        Ok(Self { seed, purpose, iteration, task: next()?.to_owned(), branch })
    }
}

#[cfg(test)]
mod tests {
    use autodidact_testing::assert_refused;
    use rand_chacha::rand_core::Rng;

    use super::*;

    #[test]
    fn streams_differ_by_every_field_and_repeat_exactly() {
        let base = Address::new(7, Purpose::Rollout, 2, "t/1", &[3]);
        let draw = |a: &Address| a.stream().next_u64();
        assert_eq!(draw(&base), draw(&base.clone()));
        let others = [
            Address { seed: 8, ..base.clone() },
            Address { purpose: Purpose::Evaluation, ..base.clone() },
            Address { iteration: 3, ..base.clone() },
            Address { task: "t/2".into(), ..base.clone() },
            base.child(0),
        ];
        for other in others {
            assert_ne!(draw(&base), draw(&other), "{other}");
        }
    }

    #[test]
    fn text_form_round_trips() {
        for address in [
            Address::new(7, Purpose::Rollout, 2, "relations/train/000012", &[3, 1]),
            Address::new(0, Purpose::Init, 0, "", &[]),
        ] {
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
        assert_refused("7/rollout/x/3/t".parse::<Address>(), "`7/rollout/x/3/t` is not an address");
        assert_refused("7/rollout".parse::<Address>(), "`7/rollout` is not an address");
    }
}
