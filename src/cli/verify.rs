//! `autodidact verify`: re-hashes and cross-checks the store and the checkpoints.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::meter::Meter;
use super::terminal::{pretty, print};
use super::{Common, block_on};
use crate::config::Config;
use crate::improve::{self, STORE_FILE};
use crate::store;

/// Prints `{"ok", "digest", "problems", "checked", "orphans"}`; exit code 1 when there are problems.
/// Orphans are no problem.
pub(super) fn perform(common: &Common, config: &Config) -> Result<ExitCode> {
    let dir = Path::new(&config.run.dir);
    let meter = Meter::new("verify", Some(store::CHECKS as u64), common.shows());
    let report = block_on(store::verify_with(&dir.join(STORE_FILE), dir, &|name| meter.begin(name)))?;
    meter.finish();
    let orphans = block_on(improve::orphans(dir))?;
    if common.json {
        let json = serde_json::json!({
            "ok": report.ok, "digest": report.digest, "problems": report.problems,
            "checked": report.checked, "orphans": orphans
        });
        print(&pretty(&json)?)?;
    } else {
        for problem in &report.problems {
            print(&format!("problem: {problem}\n"))?;
        }
        for orphan in &orphans {
            // A name that somebody else gave may hold anything.
            let (path, bytes) = (orphan.path.escape_debug(), orphan.bytes);
            let remedy = if orphan.own { "; see `autodidact gc`" } else { "" };
            print(&format!("note: the store does not name {path} ({bytes} bytes){remedy}\n"))?;
        }
        let c = report.checked;
        print(&format!(
            "checked {} runs, {} tasks, {} trees with {} trajectories, {} units, {} checkpoints\n",
            c.runs, c.tasks, c.trees, c.trajectories, c.units, c.checkpoints
        ))?;
        let verdict = match report.problems.len() {
            0 => "everything checks out".to_owned(),
            1 => "1 problem was found".to_owned(),
            n => format!("{n} problems were found"),
        };
        print(&format!("{verdict}\ndigest {}\n", report.digest))?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
