//! Names of the folders that hold a run's checkpoints.

use crate::domain::Arm;

/// Characters of the policy's hash in the name of a candidate's folder.
const HASH_CHARS: usize = 16;

/// Name of the folder that holds the candidate of `iteration`. The arm is part of it: control arms
/// may come to the same weights, and retention is per run.
pub(crate) fn candidate_name(arm: Arm, iteration: u32, hash: &str) -> String {
    format!("{arm}-{iteration}-{hash:.HASH_CHARS$}")
}

/// Name of the folder that holds the trainer's state after `step` updates of `iteration`.
pub(crate) fn state_name(arm: Arm, iteration: u32, step: usize) -> String {
    format!("state-{arm}-{iteration}-{step}")
}

/// What the name of a checkpoint's folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub arm: Arm,
    pub iteration: u32,
    /// A folder that is not complete: it is being written or removed, or a crash cut that off.
    pub temporary: bool,
}

impl Name {
    /// Reads `ARM-ITERATION-HASH`, `state-ARM-ITERATION-STEP`, or `.NAME.tmp` of one of these.
    /// `None` for any other name: then the entry is not this program's.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let inner = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp"));
        let (before, last) = inner.unwrap_or(name).rsplit_once('-')?;
        let before = match before.strip_prefix("state-") {
            Some(before) => number(last).map(|_| before)?,
            None if last.len() == HASH_CHARS && last.bytes().all(is_hex) => before,
            None => return None,
        };
        let (arm, iteration) = before.rsplit_once('-')?;
        Some(Self { arm: arm.parse().ok()?, iteration: number(iteration)?, temporary: inner.is_some() })
    }
}

/// A number as this program writes it: no sign, no leading zero.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let hash = "0123456789abcdef0123456789abcdef";
        for &arm in Arm::ALL {
            for name in [candidate_name(arm, 12, hash), state_name(arm, 12, 300)] {
                let complete = Name { arm, iteration: 12, temporary: false };
                assert_eq!(Name::parse(&name), Some(complete), "{name}");
                let temporary = Name { temporary: true, ..complete };
                assert_eq!(Name::parse(&format!(".{name}.tmp")), Some(temporary), "{name}");
            }
        }
        let others = [
            "",
            "-",
            ".tmp",
            "lost+found",
            "reward-1-0123456789abcde",
            "reward-1-0123456789abcdef-copy",
            "reward-1-0123456789ABCDEF",
            "reward-01-0123456789abcdef",
            "reward-+1-0123456789abcdef",
            "mine-1-0123456789abcdef",
            "state-reward-1-",
            "state-reward-1-x",
            "reward-1-0123456789abcdef.tmp",
            ".reward-1-0123456789abcdef",
            ".notes.tmp",
        ];
        for name in others {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }
}
