//! Runs the built program in a folder of its own, with nothing of the developer's environment that it would read.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// An empty folder that is removed at the end.
pub(crate) struct Sandbox {
    dir: TempDir,
}

/// What a finished program left.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The program with `args`, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autodidact"));
        command.args(args).current_dir(self.path()).env("NO_COLOR", "1").env_remove("COLUMNS");
        let read = |key: &str| ["AUTODIDACT_", "HF_", "HUGGING"].iter().any(|start| key.starts_with(start));
        let is_read =
            |key: &str| read(key) || key == "TRANSFORMERS_OFFLINE" || key.to_lowercase().ends_with("_proxy");
        for (key, _) in std::env::vars().filter(|(key, _)| is_read(key)) {
            command.env_remove(key);
        }
        // A test that forgets to say where the hub is must not find the real one, nor the developer's cache.
        command.env("HF_ENDPOINT", "http://127.0.0.1:9").env("HF_HOME", self.path().join("no-hub"));
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
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
    pub(crate) fn success(self) -> String {
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
