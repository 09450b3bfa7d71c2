//! Contamination: what is practised on must not be what is measured with.
//!
//! After Brown et al. 2020 (arXiv:2005.14165, appendix C): questions are compared by their words, lower-cased and
//! without punctuation, and two overlap when they share a run of n of them. Runs that more than ten rows have are
//! the wording of a family of tasks and say nothing. Unlike there, it is the practised row that goes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use crate::data::normalised_question;
use crate::domain::{Split, Task};

/// Rows that may have a run of words in common before it counts as mere wording.
const COMMON_ROWS: u32 = 10;

/// Words of an overlap that are quoted.
const QUOTED_WORDS: usize = 13;

/// A removed row, and the row it overlaps with.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlap {
    pub removed: String,
    pub from: Split,
    pub with: String,
    pub of: Split,
    /// The words that both have; empty when the questions are equal.
    pub words: String,
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { removed, from, with, of, words } = self;
        write!(f, "{removed} was removed from {from}: ")?;
        match words.as_str() {
            "" => write!(f, "it asks what {with} of {of} asks"),
            words => write!(f, "it shares {words:?} with {with} of {of}"),
        }
    }
}

/// Removes every task that overlaps with one of a split that comes first: held-out, gate, anchor, easy, train. Equal
/// questions overlap in all of them, runs of `words` words (0: none) in the first three alone.
pub(super) fn remove(tasks: &mut Vec<Task>, words: usize) -> Vec<Overlap> {
    let texts: Vec<Vec<String>> = tasks.iter().map(|task| words_of(&task.question)).collect();
    let common = common_runs(&texts, words);
    let questions: Vec<String> = tasks.iter().map(|task| normalised_question(&task.question)).collect();
    let mut equal: HashMap<&str, usize> = HashMap::new();
    let mut runs: HashMap<u64, usize> = HashMap::new();
    let mut removed = Vec::new();
    for split in [Split::HeldOut, Split::Gate, Split::Anchor, Split::Easy, Split::Train] {
        for i in (0..tasks.len()).filter(|&i| tasks[i].split == split) {
            let other = |j: &&usize| tasks[**j].split != split;
            let same = equal.get(questions[i].as_str()).filter(other).map(|&j| (j, String::new()));
            let found = same.or_else(|| {
                let mut windows =
                    texts[i].windows(words.max(1)).take(if words == 0 { 0 } else { usize::MAX });
                windows.find_map(|run| {
                    let j = runs.get(&hash(run)).filter(other)?;
                    Some((*j, run.iter().take(QUOTED_WORDS).cloned().collect::<Vec<_>>().join(" ")))
                })
            });
            if let Some((j, words)) = found {
                let (task, with) = (&tasks[i], &tasks[j]);
                removed.push(Overlap {
                    removed: task.id.clone(),
                    from: task.split,
                    with: with.id.clone(),
                    of: with.split,
                    words,
                });
                continue;
            }
            equal.entry(&questions[i]).or_insert(i);
            if words > 0 && matches!(split, Split::HeldOut | Split::Gate | Split::Anchor) {
                let own = texts[i].windows(words).map(hash).filter(|run| !common.contains(run));
                for run in own {
                    runs.entry(run).or_insert(i);
                }
            }
        }
    }
    let gone: HashSet<&str> = removed.iter().map(|overlap| overlap.removed.as_str()).collect();
    tasks.retain(|task| !gone.contains(task.id.as_str()));
    removed
}

/// Lower-cased words of letters and digits.
fn words_of(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// The runs that are in too many rows to mean anything.
fn common_runs(texts: &[Vec<String>], words: usize) -> HashSet<u64> {
    let mut rows: HashMap<u64, u32> = HashMap::new();
    if words > 0 {
        for text in texts {
            let runs: HashSet<u64> = text.windows(words).map(hash).collect();
            runs.into_iter().for_each(|run| *rows.entry(run).or_default() += 1);
        }
    }
    rows.into_iter().filter(|&(_, rows)| rows > COMMON_ROWS).map(|(run, _)| run).collect()
}

/// Equal runs have equal hashes; among the runs of any dataset that fits in memory, different ones practically never.
fn hash(run: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish()
}
