//! The section `model`: which model a run starts from, and how its questions are asked.
//!
//! A model of the hub is stored with its commit, because a name can mean other weights tomorrow.

use std::path::Path;

use autodidact_domain::check::Check;
use serde::{Deserialize, Serialize};

use crate::domain::{Snapshot, named_enum};

/// The section `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSource {
    pub path: String,
    pub adapter: String,
    /// What `path` is at the hub, if it names a model there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// What `adapter` is at the hub, if it names one there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_snapshot: Option<Snapshot>,
    pub quantize: Quantize,
    pub matmul: Matmul,
    pub prompts: String,
    pub chat: ChatMode,
    pub system: String,
    pub thinking: Thinking,
    pub date: String,
}

/// Whether prompts are written as a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatMode {
    /// If the checkpoint has a chat template.
    Auto,
    /// Never.
    Plain,
}

/// The value that is passed to a chat template as `enable_thinking`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thinking {
    /// Nothing: the template decides.
    Auto,
    On,
    Off,
}

/// What the matrices of a frozen model are brought to as they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantize {
    /// What they were stored in.
    None,
    #[serde(rename = "q8_0")]
    Q8_0,
    #[serde(rename = "q4_k")]
    Q4K,
}

/// How products with the model's matrices are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matmul {
    /// The command line resolves it, from the processor and from what a run began with. Unresolved
    /// it is `F32`.
    Auto,
    F32,
    /// Tiles of bf16, numbers as sums of three of them.
    Bf16x3,
    Bf16x2,
    /// Keys and values are rounded, too.
    Bf16,
}

named_enum!(Matmul {
    Auto => "auto",
    F32 => "f32",
    Bf16x3 => "bf16x3",
    Bf16x2 => "bf16x2",
    Bf16 => "bf16",
});

impl Matmul {
    /// bf16 parts of a number, unless products are those of f32.
    pub fn parts(self) -> Option<usize> {
        match self {
            Self::Auto | Self::F32 => None,
            Self::Bf16x3 => Some(3),
            Self::Bf16x2 => Some(2),
            Self::Bf16 => Some(1),
        }
    }
}

impl ModelSource {
    /// The folder (or file) of the model on this disk.
    pub fn folder(&self) -> &Path {
        self.snapshot.as_ref().map_or(Path::new(&self.path), |found| &found.folder)
    }

    /// The adapter's folder on this disk.
    pub fn adapter_folder(&self) -> &Path {
        self.adapter_snapshot.as_ref().map_or(Path::new(&self.adapter), |found| &found.folder)
    }

    /// The model by the name that other programs know it by: without a revision.
    pub fn name(&self) -> &str {
        match &self.snapshot {
            Some(_) => self.path.split('@').next().unwrap_or(&self.path),
            None => &self.path,
        }
    }
}

impl ModelSource {
    /// Reports every value that can't be used.
    pub fn check(&self, check: &mut Check) {
        check(
            !self.path.is_empty(),
            "model.path",
            &self.path,
            "\"embedded\", a folder, a .gguf file or a model of the hub",
        );
        let date = self.date.as_bytes();
        let is_digit_or_dash =
            |(i, b): (usize, &u8)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() };
        let date_ok = date.len() == 10 && date.iter().enumerate().all(is_digit_or_dash);
        check(date_ok, "model.date", &self.date, "a day such as 2024-07-26");
    }
}
