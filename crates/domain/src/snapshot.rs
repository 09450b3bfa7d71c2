//! Which weights a name of the hub stands for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A model of the hub as it was found. The command line fills it in; no file and no `--set` can.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Hash of the commit: the whole of the snapshot's identity.
    pub commit: String,
    /// Where it lies on this disk, which may be elsewhere tomorrow.
    #[serde(skip)]
    pub folder: PathBuf,
}
