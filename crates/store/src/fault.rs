//! Explains SQLite's error codes: what happened, to which file, and what to do.

use std::path::Path;

use anyhow::{Error, anyhow};

/// `doing` completes "couldn't …".
pub(super) fn explain(path: &Path, doing: &str, error: sqlx::Error) -> Error {
    let advice = code(&error).and_then(|code| advice(code & 0xff));
    let file = path.display();
    match advice {
        Some(advice) => anyhow!("couldn't {doing} in `{file}`: {advice} [{error}]"),
        None => anyhow!("couldn't {doing} in `{file}`: {error}"),
    }
}

/// SQLite's extended result code, if the error is SQLite's.
pub(super) fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// By primary result code (<https://www.sqlite.org/rescode.html>).
fn advice(primary: i32) -> Option<&'static str> {
    Some(match primary {
        5 | 6 => {
            "another process kept the file locked for 30 s; stop the other writer, then run the same command again"
        }
        8 => "the file or its folder may only be read; give the user write permission on both",
        10 => "the disk reported an input/output error; check the disk, then run `autodidact verify`",
        11 => {
            "the file is damaged; `autodidact verify` lists the damage, and a copy of the file must be put back"
        }
        13 => {
            "the disk (or the file's page limit) is full; nothing of this unit was written. Free space, then run the same command again"
        }
        14 => {
            "the file can't be opened; check that it exists and that its folder may be read and written (SQLite keeps -wal and -shm files next to it)"
        }
        26 => "it is not a SQLite database; move the file away or name another one",
        _ => return None,
    })
}
