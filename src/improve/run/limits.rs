//! The limits of a session: a stop request, wall-clock time, free disk space, the folder's size.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::names::Name;
use super::{Host, STORE_FILE};
use crate::config::RunConfig;
use crate::policy::checkpoints::{self, ensure_space};

/// Least free space to start a unit with, in bytes.
pub(super) const SPACE_MIN: u64 = 64 << 20;

/// What may end a session between two units.
pub(in crate::improve) struct Limits<'a> {
    host: &'a Host<'a>,
    /// When the session began, in the host's seconds.
    began: f64,
    wall_clock_max_s: u64,
    disk_max_mib: u64,
    dir: PathBuf,
}

impl<'a> Limits<'a> {
    /// The configured limits of a session that begins now.
    pub(crate) fn new(host: &'a Host<'a>, config: &RunConfig) -> Self {
        Self {
            host,
            began: (host.seconds)(),
            wall_clock_max_s: config.wall_clock_max_s,
            disk_max_mib: config.disk_max_mib,
            dir: PathBuf::from(&config.dir),
        }
    }

    /// Why no further unit may start now, if a limit is reached. A stop request comes before every
    /// other reason.
    ///
    /// # Errors
    /// The disk is full: that takes a person, not a later resume.
    pub(crate) fn reached(&self) -> Result<Option<String>> {
        if self.host.stop_requested() {
            return Ok(Some("stopped on request".into()));
        }
        let (seconds, max) = ((self.host.seconds)() - self.began, self.wall_clock_max_s);
        if seconds > max as f64 {
            return Ok(Some(format!("run.wall_clock_max_s = {max} is used up")));
        }
        ensure_space(&self.dir, SPACE_MIN)?;
        let (held, max) = (own_bytes(&self.dir)? >> 20, self.disk_max_mib);
        if held > max {
            return Ok(Some(format!(
                "the run's folder holds {held} MiB, more than run.disk_max_mib = {max}"
            )));
        }
        Ok(None)
    }
}

/// Bytes of the program's own files in the run's folder. Other files don't count.
fn own_bytes(dir: &Path) -> Result<u64> {
    let own = |name: &str| Name::parse(name).is_some();
    let mut total = checkpoints::bytes_where(&dir.join(checkpoints::FOLDER), own)?;
    for suffix in ["", "-wal", "-shm"] {
        total += checkpoints::bytes(&dir.join(format!("{STORE_FILE}{suffix}")))?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::improve::tests::World;

    #[test]
    fn reasons_come_in_order_and_none_before_its_limit() {
        let world = World::new(&[("run.wall_clock_max_s", "60"), ("run.disk_max_mib", "1")]);
        let (host, dir) = (world.host(), PathBuf::from(&world.config.run.dir));
        let folder = dir.join(checkpoints::FOLDER).join("state-reward-1-2");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(dir.join("notes"), vec![0; 9 << 20]).unwrap();
        world.wait(1000);
        let limits = Limits::new(&host, &world.config.run);
        let reached = || limits.reached().unwrap();
        assert_eq!(reached(), None, "what passed before the session doesn't count");
        world.wait(60);
        assert_eq!(reached(), None, "the limit itself is allowed; other files don't count");
        // The limit counts whole MiB: 2 MiB less a byte are 1.
        std::fs::write(dir.join(STORE_FILE), vec![0; 1 << 20]).unwrap();
        let fill = |bytes: usize| std::fs::write(folder.join("weights"), vec![0; bytes]).unwrap();
        fill((1 << 20) - 1);
        assert_eq!(reached(), None);
        fill(1 << 20);
        let reason = reached().unwrap();
        assert_eq!(reason, "the run's folder holds 2 MiB, more than run.disk_max_mib = 1");
        world.wait(1);
        assert_eq!(reached().unwrap(), "run.wall_clock_max_s = 60 is used up");
        world.stop.store(true, Ordering::Relaxed);
        assert_eq!(reached().unwrap(), "stopped on request");
    }
}
