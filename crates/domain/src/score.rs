//! Judgements of a trajectory: scores by name, grades against gold, the reward that ranks, and why
//! a trajectory was kept.
//!
//! Unscorable is not zero: a judgement that failed carries an error class and no number.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::Thought;
use crate::named_enum;

/// Who scored: a name of lower-case ASCII letters, digits and underscores that begins with a
/// letter, so that formulas can use it. It is stored as it is.
///
/// Built-in names come first in the order, as [`ScorerName::BUILT_IN`] lists them; others follow by
/// their text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScorerName(Cow<'static, str>);

/// Declares the built-in names, in their order.
macro_rules! built_in {
    ($($(#[$doc:meta])+ $constant:ident = $name:literal;)+) => {
        impl ScorerName {
            $($(#[$doc])+ pub const $constant: Self = Self(Cow::Borrowed($name));)+

            /// Every scorer that this program has.
            pub const BUILT_IN: [Self; Self::TEXTS.len()] = [$(Self::$constant),+];

            const TEXTS: &[&str] = &[$($name),+];
        }
    };
}

built_in! {
    /// The critique head on the decoder's hidden states: its overall probability of "good".
    HEAD = "head";
    /// The head's criterion: does each thought follow from the prompt and the thoughts before it?
    COHERENCE = "coherence";
    /// The head's criterion: is what each thought states true?
    ACCURACY = "accuracy";
    /// The head's criterion: does the trajectory reach the question's answer?
    COMPLETENESS = "completeness";
    /// Share of the task's trajectories that reach the same answer (self-consistency, Wang et al.
    /// 2022).
    VOTE = "vote";
    /// The probability that as many of a task's trajectories reach the same answer if each draws it
    /// as often as the trajectories of the other tasks do.
    CHANCE = "chance";
    /// Mean log-probability of the trajectory's tokens.
    LOGPROB_MEAN = "logprob_mean";
    /// Lowest log-probability among the trajectory's tokens.
    LOGPROB_MIN = "logprob_min";
    /// Mean log-probability of the trajectory's tokens, reread under the prompts of other variants
    /// of its task.
    REREAD = "reread";
    /// A judge model's verdict on the whole, from its log-probabilities of the numbers 1 to 5.
    JUDGE = "judge";
    /// The judge's verdict on whether each thought follows.
    JUDGE_COHERENCE = "judge_coherence";
    /// The judge's verdict on whether what is stated is true.
    JUDGE_ACCURACY = "judge_accuracy";
    /// The judge's verdict on whether the question is answered.
    JUDGE_COMPLETENESS = "judge_completeness";
    /// Standard deviation of the judge's repeated verdicts, averaged over the criteria.
    JUDGE_DISAGREEMENT = "judge_disagreement";
    /// Mean log-probability of the trajectory under the reference model.
    REFERENCE = "reference";
    /// The configured formula over other scores: what selection ranks by.
    REWARD = "reward";
}

impl ScorerName {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The name as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is sorted by.
    fn place(&self) -> (usize, &str) {
        let known = Self::TEXTS.iter().position(|known| *known == self.0);
        (known.unwrap_or(Self::TEXTS.len()), &self.0)
    }
}

impl Ord for ScorerName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for ScorerName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ScorerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ScorerName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let valid = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
            && name.bytes().all(plain)
            && name.len() <= Self::BYTES_MAX;
        if !valid {
            return Err(format!(
                "`{name}` is not a scorer's name: it needs lower-case letters, digits and underscores, a letter first, \
                 at most {} bytes",
                Self::BYTES_MAX
            ));
        }
        let known = Self::TEXTS.iter().find(|known| **known == name);
        Ok(Self(known.map_or_else(|| Cow::Owned(name.to_owned()), |known| Cow::Borrowed(*known))))
    }
}

impl Serialize for ScorerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// How a scorer was set up. Equal specs give equal scores to equal trajectories, so scores of
/// different specs are kept apart, and anything can be scored again under another spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScorerSpec {
    pub name: ScorerName,
    /// Canonical JSON: the name, what it computes, and its settings; keys in rising order, without
    /// blanks.
    pub json: String,
    /// blake3 of `json`, in hex.
    pub hash: String,
}

impl ScorerSpec {
    /// `computes` states in a sentence what the number is; `settings` is everything that it depends
    /// on, apart from the trajectory.
    pub fn new(name: ScorerName, computes: &str, settings: &Value) -> Self {
        let whole = serde_json::json!({ "name": &name, "computes": computes, "settings": settings });
        let mut json = String::new();
        canonical(&whole, &mut json);
        let hash = blake3::hash(json.as_bytes()).to_hex().to_string();
        Self { name, json, hash }
    }
}

/// Writes JSON without blanks and with keys in rising order, whatever order the map keeps them in.
fn canonical(value: &Value, into: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            into.push('{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                into.push_str(if i > 0 { "," } else { "" });
                into.push_str(&Value::from(key.as_str()).to_string());
                into.push(':');
                canonical(value, into);
            }
            into.push('}');
        }
        Value::Array(values) => {
            into.push('[');
            for (i, value) in values.iter().enumerate() {
                into.push_str(if i > 0 { "," } else { "" });
                canonical(value, into);
            }
            into.push(']');
        }
        plain => into.push_str(&plain.to_string()),
    }
}

/// Why there is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScoreError {
    /// The trajectory was cut off, so it claims nothing.
    Truncated,
    /// No answer could be read from the trajectory.
    NoAnswer,
    /// A value the formula or the scorer needs is missing.
    MissingInput,
    /// The computation gave NaN or an infinity.
    NonFinite,
    /// A judge's probability of answering with a score at all is too low.
    LowMass,
    /// The text and the prompt around it are longer than the reader's context.
    ContextFull,
    /// The reader's tokenizer can't write the text, or the text names a special token.
    Unreadable,
    /// Nothing in this program can check answers of this kind.
    Unsupported,
    /// The head saw no trajectory whose verdict on this criterion is known.
    Untaught,
}

named_enum!(ScoreError {
    Truncated => "truncated",
    NoAnswer => "no_answer",
    MissingInput => "missing_input",
    NonFinite => "non_finite",
    LowMass => "low_mass",
    ContextFull => "context_full",
    Unreadable => "unreadable",
    Unsupported => "unsupported",
    Untaught => "untaught",
});

/// One scorer's number for one trajectory, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub scorer: ScorerName,
    pub value: Result<f64, ScoreError>,
}

impl Score {
    /// Wraps `value`, turning NaN and infinities into an error class.
    pub fn new(scorer: ScorerName, value: f64) -> Self {
        Self { scorer, value: if value.is_finite() { Ok(value) } else { Err(ScoreError::NonFinite) } }
    }

    /// A score that could not be made, with the class of its error.
    pub fn failed(scorer: ScorerName, error: ScoreError) -> Self {
        Self { scorer, value: Err(error) }
    }
}

/// A checker's verdicts on one thought or trajectory of a labelled task, criterion by criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criteria {
    pub coherence: bool,
    pub accuracy: bool,
    pub completeness: bool,
}

/// A grader's verdict on a trajectory: a number in \[0, 1\], where 1 is right, or why there is
/// none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grade {
    pub value: Result<f64, ScoreError>,
}

impl Grade {
    /// Whether the trajectory is right in full; `None` if nothing could be compared.
    pub fn correct(self) -> Option<bool> {
        self.value.ok().map(|value| value >= 1.0)
    }

    /// Whether it is known to be right.
    pub fn is_right(self) -> bool {
        self.correct() == Some(true)
    }
}

/// The number selection ranks by, or why there is none.
pub type Reward = Result<f64, ScoreError>;

/// Why a trajectory was kept or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelectionReason {
    /// Among the best of its task and above the floor.
    Kept,
    /// Drawn at random (control arm).
    KeptRandom,
    /// Its answer equals the gold one (control arm that reads gold).
    KeptOracle,
    /// The reward could not be computed.
    Unscorable,
    /// It did not end by itself.
    Truncated,
    /// No answer could be read.
    NoAnswer,
    /// The labelled tasks have a closed set of answers, and its own is none of them.
    OddAnswer,
    /// Its reward is below `select.floor`.
    BelowFloor,
    /// The same text as a kept trajectory of the same task and variant.
    Duplicate,
    /// Ranked below `select.keep` within its task.
    BelowKeep,
    /// As many of its task may well agree by chance (`select.chance_max`).
    ByChance,
    /// Its answer had its share of what is kept (`select.answer_max`).
    AnswerQuota,
    /// Too few tasks had something to keep (`select.tasks_min`).
    TooFewTasks,
    /// Too few trajectories were left to keep (`select.rows_min`).
    TooFewRows,
    /// The iteration's total quota was full.
    OverQuota,
    /// Not drawn (control arm).
    NotDrawn,
    /// Its answer differs from the gold one (control arm that reads gold).
    Wrong,
}

named_enum!(SelectionReason {
    Kept => "kept",
    KeptRandom => "kept_random",
    KeptOracle => "kept_oracle",
    Unscorable => "unscorable",
    Truncated => "truncated",
    NoAnswer => "no_answer",
    OddAnswer => "odd_answer",
    BelowFloor => "below_floor",
    Duplicate => "duplicate",
    BelowKeep => "below_keep",
    ByChance => "by_chance",
    AnswerQuota => "answer_quota",
    TooFewTasks => "too_few_tasks",
    TooFewRows => "too_few_rows",
    OverQuota => "over_quota",
    NotDrawn => "not_drawn",
    Wrong => "wrong",
});

impl SelectionReason {
    /// Whether the trajectory is trained on.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Kept | Self::KeptRandom | Self::KeptOracle)
    }
}

/// The verdict of selection on one trajectory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    /// Row id of the trajectory in the store.
    pub trajectory: i64,
    /// 1-based rank within its task by reward; `None` if it had no reward to rank by.
    pub rank: Option<u32>,
    pub reason: SelectionReason,
    /// The trajectory of the same task that is preferred to this one; `None` outside a pair.
    pub pair_of: Option<i64>,
    /// Its reward relative to its group; `None` if the objective uses none.
    pub advantage: Option<f64>,
    /// Its weight in training; `None` means 1.
    pub weight: Option<f64>,
}

impl Selection {
    /// A verdict without a pair, an advantage or a weight.
    pub fn new(trajectory: i64, rank: Option<u32>, reason: SelectionReason) -> Self {
        Self { trajectory, rank, reason, pair_of: None, advantage: None, weight: None }
    }
}

/// Values partial or whole paths of thoughts; what tree search asks.
pub trait Scorer: Sync {
    /// The probability that each path (first thought to last) is good so far, in [0, 1].
    fn score(&self, paths: &[Vec<&Thought>]) -> Vec<Result<f64, ScoreError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers_and_built_in_ones_come_first() {
        for name in ScorerName::BUILT_IN {
            assert_eq!(name.as_str().parse(), Ok(name));
        }
        let long = "x".repeat(ScorerName::BYTES_MAX + 1);
        for wrong in ["", "Head", "1st", "_x", "a-b", "a b", "é", long.as_str()] {
            assert!(wrong.parse::<ScorerName>().is_err(), "{wrong}");
        }
        let own: ScorerName = "a_grader_2".parse().unwrap();
        let mut sorted = [own.clone(), ScorerName::REWARD, ScorerName::HEAD, "zeta".parse().unwrap()];
        sorted.sort();
        assert_eq!(sorted.map(|n| n.to_string()), ["head", "reward", "a_grader_2", "zeta"]);
        assert!(ScorerName::BUILT_IN.is_sorted());
    }

    #[test]
    fn a_spec_is_named_by_all_that_it_depends_on() {
        let spec = |settings: Value| ScorerSpec::new(ScorerName::VOTE, "a share", &settings);
        let one = spec(serde_json::json!({ "b": [1, { "z": 2, "y": 3 }], "a": "x" }));
        assert_eq!(
            one.json,
            r#"{"computes":"a share","name":"vote","settings":{"a":"x","b":[1,{"y":3,"z":2}]}}"#
        );
        assert_eq!(one, spec(serde_json::json!({ "a": "x", "b": [1, { "y": 3, "z": 2 }] })));
        assert_ne!(one.hash, spec(serde_json::json!({ "a": "x", "b": [] })).hash);
        assert_ne!(one.hash, ScorerSpec::new(ScorerName::HEAD, "a share", &Value::Null).hash);
    }
}
