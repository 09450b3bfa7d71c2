//! Judgements of a trajectory: scores by critics, grades by checkers, the reward that ranks, and why a
//! trajectory was kept.
//!
//! Unscorable is not zero: a judgement that failed carries an error class and no number.

use serde::{Deserialize, Serialize};

use super::Thought;
use crate::named_enum;

/// Who scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScorerKind {
    /// The critique head on the decoder's hidden states: its overall probability of "good".
    Head,
    /// The head's criterion: does each thought follow from the prompt and the thoughts before it?
    Coherence,
    /// The head's criterion: is what each thought states true?
    Accuracy,
    /// The head's criterion: does the trajectory reach the question's answer?
    Completeness,
    /// Share of the task's trajectories that reach the same answer (self-consistency, Wang et al. 2022).
    Vote,
    /// Mean log-probability of the trajectory's tokens.
    LogprobMean,
    /// Lowest log-probability among the trajectory's tokens.
    LogprobMin,
    /// Mean log-probability of the trajectory's tokens, reread under the prompts of other variants of its task.
    Reread,
    /// A judge model's verdict on the whole, from its log-probabilities of the numbers 1 to 5.
    Judge,
    /// The judge's verdict on whether each thought follows.
    JudgeCoherence,
    /// The judge's verdict on whether what is stated is true.
    JudgeAccuracy,
    /// The judge's verdict on whether the question is answered.
    JudgeCompleteness,
    /// How far the judge's repeated verdicts lie apart: their standard deviation, averaged over the criteria.
    JudgeDisagreement,
    /// Mean log-probability of the trajectory under the reference model.
    Reference,
    /// The configured formula over the scores above: what selection ranks by.
    Reward,
}

named_enum!(ScorerKind {
    Head => "head",
    Coherence => "coherence",
    Accuracy => "accuracy",
    Completeness => "completeness",
    Vote => "vote",
    LogprobMean => "logprob_mean",
    LogprobMin => "logprob_min",
    Reread => "reread",
    Judge => "judge",
    JudgeCoherence => "judge_coherence",
    JudgeAccuracy => "judge_accuracy",
    JudgeCompleteness => "judge_completeness",
    JudgeDisagreement => "judge_disagreement",
    Reference => "reference",
    Reward => "reward",
});

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
    /// A judge said something other than a score, as far as its probabilities go.
    LowMass,
    /// The text and the prompt around it are longer than the reader's context.
    ContextFull,
    /// The reader's tokenizer can't write the text, or the text names a special token.
    Unreadable,
    /// Nothing in this program can check answers of this kind.
    Unsupported,
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
});

/// One scorer's number for one trajectory, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    pub scorer: ScorerKind,
    pub value: Result<f64, ScoreError>,
}

impl Score {
    /// Wraps `value`, turning NaN and infinities into an error class.
    pub fn new(scorer: ScorerKind, value: f64) -> Self {
        Self { scorer, value: if value.is_finite() { Ok(value) } else { Err(ScoreError::NonFinite) } }
    }

    pub fn failed(scorer: ScorerKind, error: ScoreError) -> Self {
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

/// A grader's verdict on a trajectory: a number in \[0, 1\], where 1 is right, or why there is none.
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
    /// Its reward is below `select.floor`.
    BelowFloor,
    /// The same text as a kept trajectory of the same task and variant.
    Duplicate,
    /// Ranked below `select.keep` within its task.
    BelowKeep,
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
    BelowFloor => "below_floor",
    Duplicate => "duplicate",
    BelowKeep => "below_keep",
    OverQuota => "over_quota",
    NotDrawn => "not_drawn",
    Wrong => "wrong",
});

impl SelectionReason {
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
}

/// Values partial or whole paths of thoughts; what tree search asks.
pub trait Scorer: Sync {
    /// The probability that each path (first thought to last) is good so far, in [0, 1].
    fn score(&self, paths: &[Vec<&Thought>]) -> Vec<Result<f64, ScoreError>>;
}
