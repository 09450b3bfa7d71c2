//! The rows that the store writes and reads, in addition to the nouns of `domain`: plain data, one
//! type per table.

use autodidact_domain::{
    Address, Alarm, Arm, Decoding, FinishReason, LogprobKind, Phase, Purpose, RunState, Score, ScorerSpec,
    Selection, SelectionReason, Split, Task, Tree, named_enum,
};

/// A run about to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    pub arm: Arm,
    /// The run that a control arm accompanies.
    pub of_run: Option<i64>,
    pub seed: u64,
    /// Planned iterations, iteration 0 not counted.
    pub iterations: u32,
    pub config_json: String,
    pub config_hash: String,
    pub tokenizer_hash: String,
    pub base_policy_hash: String,
    pub engine_version: String,
    /// RFC 3339.
    pub started_at: String,
}

/// A stored run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub id: i64,
    pub arm: Arm,
    pub of_run: Option<i64>,
    pub seed: u64,
    pub iterations: u32,
    pub config_json: String,
    pub config_hash: String,
    pub tokenizer_hash: String,
    pub base_policy_hash: String,
    pub engine_version: String,
    pub state: RunState,
    pub state_reason: Option<String>,
    pub started_at: String,
    /// When the state last changed.
    pub changed_at: String,
}

/// The policy that sampled trees, and what their rows can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance<'a> {
    pub policy_hash: &'a str,
    /// Whether the policy gives the same trees again for the same addresses, bit for bit.
    pub replayable: bool,
    /// Of every thought's log-probabilities.
    pub logprobs: LogprobKind,
}

/// A policy of this program's own engines: replayable, with raw log-probabilities.
impl<'a, S: AsRef<str> + ?Sized> From<&'a S> for Provenance<'a> {
    fn from(policy_hash: &'a S) -> Self {
        Self { policy_hash: policy_hash.as_ref(), replayable: true, logprobs: LogprobKind::Raw }
    }
}

/// A stored tree.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTree {
    pub tree_row: i64,
    pub policy_hash: String,
    /// See [`Provenance::replayable`].
    pub replayable: bool,
    /// See [`Provenance::logprobs`].
    pub logprobs: LogprobKind,
    /// One per leaf, in order.
    pub trajectory_ids: Vec<i64>,
    pub tree: Tree,
}

/// One act of scoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scoring<'a> {
    /// Hash of the critic (and formula) that scored.
    pub scorer_hash: &'a str,
    /// `None` where how it was set up isn't recorded.
    pub spec: Option<&'a ScorerSpec>,
    /// Numbers deliberate later scorings of an iteration, from 1; `None` for the run's own.
    pub regrade: Option<u32>,
}

/// The run's own scoring, without a spec.
impl<'a, S: AsRef<str> + ?Sized> From<&'a S> for Scoring<'a> {
    fn from(scorer_hash: &'a S) -> Self {
        Self { scorer_hash: scorer_hash.as_ref(), spec: None, regrade: None }
    }
}

/// A score and the act of scoring it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredScore {
    pub run: i64,
    pub iteration: u32,
    pub scorer_hash: String,
    pub score: Score,
}

/// The answer that one trajectory claims.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerRow {
    pub trajectory: i64,
    pub address: Address,
    /// Index within the tree's leaves.
    pub leaf: u32,
    pub finish: FinishReason,
    pub answer: Option<String>,
}

/// Everything known about one trajectory.
#[derive(Clone, Debug, PartialEq)]
pub struct TrajectoryDetail {
    pub id: i64,
    pub run: i64,
    pub iteration: u32,
    pub purpose: Purpose,
    pub task: Task,
    pub tree: StoredTree,
    /// Index within `tree.tree.leaves`.
    pub leaf: usize,
    /// In order of scoring.
    pub scores: Vec<StoredScore>,
    /// (run, iteration, verdict), in order.
    pub selections: Vec<(i64, u32, Selection)>,
    /// (run, iteration, step) of every update that it trained in.
    pub steps: Vec<(i64, u32, u32)>,
}

/// What a critique head had learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CriticStage {
    /// Graded labels only.
    Bootstrap,
    /// Graded labels and its own confident annotations.
    Annotated,
}

named_enum!(CriticStage { Bootstrap => "bootstrap", Annotated => "annotated" });

/// A critique head and its calibration on the anchor split.
#[derive(Clone, Debug, PartialEq)]
pub struct CriticRow {
    pub hash: String,
    /// safetensors.
    pub bytes: Vec<u8>,
    pub auc: Option<f64>,
    pub ece: Option<f64>,
    pub brier: Option<f64>,
    /// Trajectories it was measured on.
    pub anchor_n: u32,
    /// Trajectories it labelled for itself.
    pub annotated: u32,
    /// Whether it has a vote in the reward.
    pub voting: bool,
}

/// One optimizer update and what trained in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepRow {
    pub step: u32,
    /// The total.
    pub loss: f64,
    /// The parts of the total by name, each weighted as it entered the total; empty if there is one
    /// part only. They come back in the order of their names.
    pub losses: Vec<(String, f64)>,
    /// Tokens read, prompts included.
    pub tokens: u64,
    /// Tokens trained on.
    pub target_tokens: u64,
    /// Before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
    /// Trajectories in the batch.
    pub examples: Vec<i64>,
    /// Labelled tasks replayed in the batch.
    pub replayed: Vec<String>,
}

/// What a checkpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckpointKind {
    /// The policy that the run began with.
    Base,
    /// An iteration's finished training.
    Candidate,
    /// A trainer in the middle of a phase: weights, optimizer, position.
    State,
}

named_enum!(CheckpointKind { Base => "base", Candidate => "candidate", State => "state" });

/// A complete checkpoint on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRow {
    pub kind: CheckpointKind,
    /// Updates done within the iteration; `None` outside training.
    pub step: Option<u32>,
    pub policy_hash: String,
    pub parent_hash: Option<String>,
    /// A file or a folder, relative to the checkpoints' root, `/` between parts.
    pub path: String,
    /// Size on disk, as [`super::hash_path`] returns it.
    pub bytes: u64,
    /// Hash of `path`, as [`super::hash_path`] returns it.
    pub file_hash: String,
}

/// A stored checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub id: i64,
    pub iteration: u32,
    pub row: CheckpointRow,
    /// Why its file was deleted; `None` while it is there.
    pub removed_reason: Option<String>,
}

/// A policy measured on a split.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationRow {
    pub policy_hash: String,
    pub split: Split,
    pub decoding: Decoding,
    /// `pass@1`, `pass@4`, `maj@4`, …
    pub metric: String,
    /// `None`: every level together.
    pub level: Option<u32>,
    /// Tasks measured.
    pub n: u32,
    pub value: f64,
    pub lo: f64,
    pub hi: f64,
}

/// The gate's decision on an iteration's candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct PromotionRow {
    pub candidate_hash: String,
    pub incumbent_hash: String,
    pub promoted: bool,
    /// Candidate minus incumbent, in percentage points, with its interval.
    pub gain_points: f64,
    pub lo: f64,
    pub hi: f64,
    pub p_value: Option<f64>,
    pub reason: String,
}

/// The sampler's log-probabilities against the trainer's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParityRow {
    /// In nats.
    pub max_abs_diff: f64,
    pub tokens: i64,
}

/// A finished phase.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseRow {
    pub iteration: u32,
    pub phase: Phase,
    pub seconds: f64,
    /// The result of the phase, in words or JSON.
    pub detail: String,
}

/// What a run with hours decided about an iteration before it began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanRow {
    /// Train tasks that the iteration rolls out.
    pub tasks: u32,
    /// Most updates that it trains.
    pub steps: u32,
    /// How long it was expected to take.
    pub seconds: f64,
    /// Time that the run had left.
    pub left_seconds: f64,
}

/// A message to the user.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    pub id: i64,
    pub run: Option<i64>,
    pub level: String,
    pub message: String,
    pub at: String,
}

/// A stored alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmRow {
    /// `None`: about the run as a whole.
    pub iteration: Option<u32>,
    /// `None`: raised outside the phases.
    pub phase: Option<Phase>,
    pub alarm: Alarm,
    /// RFC 3339.
    pub at: String,
}

/// One line of the view `iteration_summary`.
#[derive(Clone, Debug, PartialEq)]
pub struct IterationSummary {
    pub iteration: u32,
    pub trees: i64,
    pub trajectories: i64,
    pub drawn_tokens: i64,
    pub kept: i64,
    pub reward_mean: Option<f64>,
    pub steps: i64,
    pub loss_last: Option<f64>,
    pub critic_auc: Option<f64>,
    pub gate_pass1: Option<f64>,
    pub heldout_pass1: Option<f64>,
    pub promoted: Option<bool>,
    pub gain_points: Option<f64>,
    pub seconds: f64,
}

/// Most rows of one [`Chunk`].
pub const CHUNK_ROWS_MAX: u32 = 10_000;

/// Which part of a list to read. Lists are in order of row id, and rows are never deleted, so a list that grows
/// while it is read neither skips nor repeats a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The id of the last row that was read; `None` begins the list.
    pub after: Option<i64>,
    /// Most rows to read: 1 to [`CHUNK_ROWS_MAX`].
    pub limit: u32,
}

impl Window {
    /// The beginning of a list.
    pub const fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }
}

/// Consecutive rows of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk<T> {
    pub rows: Vec<T>,
    /// [`Window::after`] of the rows that follow; `None` at the end of the list.
    pub next: Option<i64>,
}

/// Which trajectories to list. `Default` lists everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrajectoryFilter {
    pub run: Option<i64>,
    pub iteration: Option<u32>,
    pub purpose: Option<Purpose>,
    pub task_id: Option<String>,
    /// Of the task.
    pub split: Option<Split>,
    /// By the latest verdict of selection; one that selection hasn't seen is neither kept nor not.
    pub kept: Option<bool>,
    /// Words that the question, the thoughts or the answers must contain.
    pub search: Option<String>,
}

/// One line of a list of trajectories.
#[derive(Clone, Debug, PartialEq)]
pub struct TrajectoryLine {
    pub id: i64,
    pub tree_row: i64,
    pub run: i64,
    pub iteration: u32,
    pub purpose: Purpose,
    /// Of its tree.
    pub address: Address,
    pub task_id: String,
    pub finish: FinishReason,
    pub answer: Option<String>,
    /// The task's gold answer.
    pub gold: Option<String>,
    pub tokens: u32,
    pub reward: Option<f64>,
    pub rank: Option<u32>,
    pub reason: Option<SelectionReason>,
}
