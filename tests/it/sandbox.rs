//! Runs the built program in a folder of its own, with nothing of the developer's environment that it would read.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// An empty folder that is removed at the end.
pub struct Sandbox {
    dir: TempDir,
}

/// What a finished program left.
#[derive(Debug)]
pub struct Outcome {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The program with `args`, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autodidact"));
        command.args(args).current_dir(self.path()).env("NO_COLOR", "1");
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("AUTODIDACT_")) {
            command.env_remove(key);
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Outcome {
        let output = self.command(args).output().unwrap_or_else(|e| panic!("autodidact {args:?}: {e}"));
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Outcome {
    /// What it printed, if it ended with exit code 0; else the test fails with what it complained about.
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

#[test]
fn asking_for_help_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--help"]).success();
    assert_eq!(sandbox.path().read_dir().unwrap().count(), 0);
}
