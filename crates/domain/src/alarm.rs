//! An alarm: a rule watched a figure and acted.

use super::named_enum;

/// A rule that watches one figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlarmRule {
    /// The critique head's AUC on the anchor split is below `critic.auc_min`, or unknown.
    HeadAuc,
    /// Selection kept too few trajectories of an iteration.
    Kept,
    /// Training has too few examples: none was kept, and none can be replayed.
    Examples,
    /// The gain on the gate split, in percentage points: the upper end of its interval is below
    /// `gate.regression_points`.
    Gate,
    /// The run needs more memory than is free, in bytes.
    Memory,
    /// A saved state of training can't be loaded.
    TrainingState,
}

named_enum!(AlarmRule {
    HeadAuc => "head_auc",
    Kept => "kept",
    Examples => "examples",
    Gate => "gate",
    Memory => "memory",
    TrainingState => "training_state",
});

/// What a rule did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlarmAction {
    /// It informed the user, and the run continues unchanged.
    Warned,
    /// The critique head has no vote in this iteration's reward.
    HeadMuted,
    /// The candidate was refused: the incumbent stays.
    RolledBack,
    /// The iteration's training starts again from its first update.
    Restarted,
}

named_enum!(AlarmAction {
    Warned => "warned",
    HeadMuted => "head_muted",
    RolledBack => "rolled_back",
    Restarted => "restarted",
});

/// A rule, the figure that it watched, and what it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    pub rule: AlarmRule,
    /// The figure, in the rule's unit; `None` if it could not be measured.
    pub value: Option<f64>,
    /// The limit that the figure broke; `None` if the rule has none.
    pub threshold: Option<f64>,
    pub action: AlarmAction,
    /// One or two sentences for the user.
    pub message: String,
}
