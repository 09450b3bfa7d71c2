//! Contamination: tasks to practise on must not overlap with tasks to measure with.
//!
//! As in Brown et al. 2020 (arXiv:2005.14165, appendix C), questions are compared by their words,
//! in lower case and without punctuation, and by runs of n words. A run that more than ten rows
//! have is the wording of a family of tasks and doesn't count. The words in the other runs are a
//! row's own words. Two rows overlap if the runs that they share cover at least half of the own
//! words of either one. A share is used and not a single run (Chowdhery et al. 2022,
//! arXiv:2204.02311, section 8), because two tasks of a family have more than one run in common,
//! and because one run is little in a long text. Covered words are counted and not runs (Touvron et
//! al. 2023, arXiv:2307.09288, appendix A.6). The share is a half, because a problem that is asked
//! the other way round, which reveals the answer, shares little more.
//!
//! Overlapping rows without a split get the same split: [`Runs::groups`]. If rows of different
//! splits still overlap, the row to practise on is removed.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};

use crate::data::normalised_question;
use crate::domain::{Split, Task};

/// A run of words that more rows have than this is common wording.
const COMMON_ROWS: usize = 10;

/// Rows overlap if they share at least one in this many of either row's own words.
const OWN_WORDS_PART: usize = 2;

/// Most words of an overlap that are quoted.
const QUOTED_WORDS: usize = 13;

/// A removed row, and the row it overlaps with.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlap {
    pub removed: String,
    pub from: Split,
    pub with: String,
    pub of: Split,
    /// The words that both have; empty if the questions are equal.
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

/// The words of all questions, and which questions share which runs of words.
pub(super) struct Runs {
    words: usize,
    texts: Vec<Vec<String>>,
    /// For each question the hash of the run that begins at each word.
    runs: Vec<Vec<u64>>,
    /// The questions that have a run, up to the one that makes the run common.
    having: HashMap<u64, Vec<usize>>,
}

impl Runs {
    /// Compares by runs of `words` words; 0 compares nothing.
    pub(super) fn new<'q>(questions: impl Iterator<Item = &'q str>, words: usize) -> Self {
        let texts: Vec<Vec<String>> = questions.map(words_of).collect();
        let runs_of = |text: &Vec<String>| match words {
            0 => Vec::new(),
            _ => text.windows(words).map(hash).collect(),
        };
        let runs: Vec<Vec<u64>> = texts.iter().map(runs_of).collect();
        let mut having: HashMap<u64, Vec<usize>> = HashMap::new();
        for (i, runs) in runs.iter().enumerate() {
            for run in runs {
                let rows = having.entry(*run).or_default();
                if rows.last() != Some(&i) && rows.len() <= COMMON_ROWS {
                    rows.push(i);
                }
            }
        }
        Self { words, texts, runs, having }
    }

    /// The questions with a run; none if the run is common wording.
    fn having(&self, run: u64) -> &[usize] {
        self.having.get(&run).map(Vec::as_slice).filter(|rows| rows.len() <= COMMON_ROWS).unwrap_or_default()
    }

    /// The other questions that share a run with question `i`, common wording left out.
    fn near(&self, i: usize) -> BTreeSet<usize> {
        self.runs[i].iter().flat_map(|run| self.having(*run)).copied().filter(|&j| j != i).collect()
    }

    /// How many words of a question are in runs for which `counts` holds.
    fn covered(&self, i: usize, counts: impl Fn(u64) -> bool) -> usize {
        let (mut words, mut end) = (0, 0);
        for (at, _) in self.runs[i].iter().enumerate().filter(|(_, run)| counts(**run)) {
            words += at + self.words - end.max(at);
            end = at + self.words;
        }
        words
    }

    /// Whether two questions share at least half of the own words of either.
    fn overlap(&self, i: usize, j: usize) -> bool {
        let shared = |run: u64| [i, j].iter().all(|row| self.having(run).contains(row));
        let own = |run: u64| !self.having(run).is_empty();
        [i, j].into_iter().any(|row| {
            let shared = self.covered(row, shared);
            shared > 0 && shared * OWN_WORDS_PART >= self.covered(row, own)
        })
    }

    /// The first words that two overlapping questions have in common.
    fn quoted(&self, i: usize, j: usize) -> String {
        let at = self.runs[i].iter().position(|run| self.having(*run).contains(&j)).unwrap_or(0);
        let words = self.texts[i].iter().skip(at).take(self.words.min(QUOTED_WORDS));
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// For each question the number of its group. Questions that overlap, directly or through
    /// others, are in the same group.
    pub(super) fn groups(&self) -> Vec<usize> {
        fn root(parents: &mut [usize], mut i: usize) -> usize {
            while parents[i] != i {
                parents[i] = parents[parents[i]];
                i = parents[i];
            }
            i
        }
        let mut parents: Vec<usize> = (0..self.texts.len()).collect();
        for i in 0..self.texts.len() {
            for j in self.near(i).into_iter().filter(|&j| j > i) {
                if root(&mut parents, i) != root(&mut parents, j) && self.overlap(i, j) {
                    let (a, b) = (root(&mut parents, i), root(&mut parents, j));
                    parents[a.max(b)] = a.min(b);
                }
            }
        }
        (0..self.texts.len()).map(|i| root(&mut parents, i)).collect()
    }
}

/// Removes every task that overlaps with a task of an earlier split in the order held-out, gate,
/// anchor, easy, train. Equal questions count in all splits, shared runs only in the first three.
/// `runs` are those of `tasks`.
pub(super) fn remove(tasks: &mut Vec<Task>, runs: &Runs) -> Vec<Overlap> {
    let questions: Vec<String> = tasks.iter().map(|task| normalised_question(&task.question)).collect();
    let mut equal: HashMap<&str, usize> = HashMap::new();
    let mut measuring: HashSet<usize> = HashSet::new();
    let mut removed = Vec::new();
    for split in [Split::HeldOut, Split::Gate, Split::Anchor, Split::Easy, Split::Train] {
        for i in (0..tasks.len()).filter(|&i| tasks[i].split == split) {
            let other = |j: &usize| tasks[*j].split != split;
            let same = equal.get(questions[i].as_str()).copied().filter(other).map(|j| (j, String::new()));
            let found = same.or_else(|| {
                let near = runs.near(i).into_iter().filter(|j| measuring.contains(j) && other(j));
                near.into_iter().find(|&j| runs.overlap(i, j)).map(|j| (j, runs.quoted(i, j)))
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
            if matches!(split, Split::HeldOut | Split::Gate | Split::Anchor) {
                measuring.insert(i);
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

/// The hash of a run. Different runs practically never have equal hashes in a dataset that fits in
/// memory.
fn hash(run: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish()
}
