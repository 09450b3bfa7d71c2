//! The documentation as a reader types it: its shell blocks run from top to bottom, on a small run.
//!
//! That every command parses is tested next to the command line. Here they work, except for those
//! that need something of the reader's ([`NEEDS`]).

use std::fs;
use std::path::Path;
use std::process::Command;

use autodidact_testing::shell;

use crate::model::TINY;
use crate::sandbox::Sandbox;

/// What only the reader has: a model, tasks, a device, a folder.
const NEEDS: &[&str] = &[
    "model.path=",
    "--model ",
    "judge.model",
    "tasks.file",
    "--device",
    "completions.jsonl",
    "-C night",
    // Countdown has other levels than the small settings.
    "tasks.kind=countdown",
];

/// What is another number in a small run.
const SMALLER: &[(&str, &str)] = &[
    ("trajectory 1606", "trajectory 1"),
    ("trajectory 40", "trajectory 1"),
    ("--iteration 3", "--iteration 1"),
    ("run.iterations=6", "run.iterations=2"),
    ("--hours 8", "--hours 0.003"),
    ("--tasks 50", "--tasks 4"),
];

/// The files that examples read.
const FILES: &[(&str, &str)] = &[
    ("questions.jsonl", "{\"question\": \"Paul plus 2 is Tina. Paul has 3. Tina?\"}\n"),
    ("q.txt", "Paul plus 2 is Tina. Paul has 3. Tina?\n"),
    ("lines.jsonl", "{\"ids\": [5, 6, 7]}\n"),
    ("answers.jsonl", "{\"text\": \"So it is 4.\", \"answer\": \"4\"}\n"),
    ("night.toml", "[run]\niterations = 1\n"),
];

/// A folder of a reader, with the program on the path and small settings in the environment.
struct Reader {
    sandbox: Sandbox,
}

impl Reader {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        for (name, text) in FILES {
            fs::write(sandbox.path().join(name), text).unwrap();
        }
        Self { sandbox }
    }

    /// Another folder with the same in it.
    fn copied(&self) -> Self {
        let other = Self { sandbox: Sandbox::new() };
        copy(self.sandbox.path(), other.sandbox.path());
        other
    }

    /// Types a line, which must work.
    fn types(&self, page: &str, line: &str) {
        let mut line = line.to_owned();
        for (large, small) in SMALLER {
            line = line.replace(large, small);
        }
        let program = Path::new(env!("CARGO_BIN_EXE_autodidact")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
        // The environment of a sandboxed program, for a shell.
        let sandboxed = self.sandbox.command(&[]);
        let mut shell = Command::new("sh");
        for (key, value) in sandboxed.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        let pretrain = ["pretrain.steps=2", "pretrain.warmup_steps=1", "pretrain.decay_steps=1"];
        for setting in TINY.iter().chain(&pretrain) {
            let (key, value) = setting.split_once('=').unwrap();
            shell.env(format!("AUTODIDACT_{}", key.replace('.', "__").to_uppercase()), value);
        }
        let output = shell.args(["-ec", &line]).env("PATH", path).current_dir(self.sandbox.path()).output();
        let output = output.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{page}: {line}\n{error}\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    /// Types the lines of a block that call the program, or read what it wrote.
    fn types_block(&self, page: &str, block: &[String]) -> usize {
        let works = |line: &&String| !NEEDS.iter().any(|need| line.contains(need));
        let reads = |line: &&String| line.starts_with("tail ") || !shell::commands(line).is_empty();
        block.iter().filter(reads).filter(works).map(|line| self.types(page, line)).count()
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in from.read_dir().unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn page(name: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    shell::blocks(&fs::read_to_string(path).unwrap())
}

/// A page that begins in an empty folder, as a reader does.
fn from_the_top(name: &str, at_least: usize) {
    let reader = Reader::new();
    let typed: usize = page(name).iter().map(|block| reader.types_block(name, block)).sum();
    assert!(typed >= at_least, "{name}: only {typed} commands");
}

#[test]
fn the_readme_works_as_typed() {
    from_the_top("README.md", 7);
}

#[test]
fn running_works_as_typed() {
    from_the_top("docs/operations.md", 14);
}

#[test]
fn looking_inside_and_exporting_work_as_typed() {
    let reader = Reader::new();
    reader.types("first", "autodidact run");
    for (name, at_least) in [("docs/inspector.md", 13), ("docs/schema.md", 1), ("docs/export.md", 6)] {
        let typed: usize = page(name).iter().map(|block| reader.types_block(name, block)).sum();
        assert!(typed >= at_least, "{name}: only {typed} commands");
    }
}

/// The document for agents has the examples of every `--help` in it, each block for itself.
#[test]
fn the_skill_and_the_examples_of_every_help_work_as_typed() {
    let finished = Reader::new();
    finished.types("first", "autodidact run && autodidact run --control random");
    let skill = finished.sandbox.run(&["skill"]).success();
    let mut typed = 0;
    for block in shell::blocks(&skill) {
        let reader = finished.copied();
        // Only a run that trained an adapter has one.
        let block: Vec<_> = block.into_iter().filter(|line| !line.contains("--format peft")).collect();
        typed += reader.types_block("skill", &block);
    }
    assert!(typed > 40, "only {typed} commands");
}

/// Each block of the other pages, in an empty folder.
#[test]
fn the_blocks_of_the_other_pages_work_as_typed() {
    let above = ["README.md", "operations.md", "inspector.md", "schema.md", "export.md"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").read_dir().unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut typed = 0;
    for name in names.filter(|name| name.ends_with(".md") && !above.contains(&name.as_str())) {
        let name = format!("docs/{name}");
        typed += page(&name).iter().map(|block| Reader::new().types_block(&name, block)).sum::<usize>();
    }
    assert!(typed >= 3, "only {typed} commands");
}
