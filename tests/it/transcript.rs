//! What people read, word for word: reports of a small scripted run at 80 and at 120 columns.
//!
//! After an intended change, `AUTODIDACT_WRITE_GOLDEN=1 cargo test --test it transcript` writes the
//! transcripts again; read the difference before it is committed.

use std::fs;
use std::path::Path;

use crate::crash::small;
use crate::sandbox::Sandbox;

/// The variable that lets the test write what it would compare.
const WRITE: &str = "AUTODIDACT_WRITE_GOLDEN";

/// Commands in a folder with a finished run and its control arm.
const COMMANDS: &[&str] = &[
    "run --policy scripted",
    "inspect run",
    "inspect runs",
    "inspect iteration 1",
    "inspect trajectories --limit 5",
    "inspect trajectory 130",
    "eval --base --split easy --tasks 4 --samples 2 --set model.matmul=f32",
    "doctor",
];

/// What may be longer than the width: questions and thoughts are never broken, so that they can be
/// copied; nor is a hash.
const LONG: &[&str] = &["Gus twice is Leo. ", "policy xxxx"];

/// The transcript at this width, with what differs between machines masked.
fn transcript(finished: &Sandbox, width: usize) -> String {
    let mut out = String::new();
    for command in COMMANDS {
        let mut args: Vec<&str> = command.split(' ').collect();
        // A script isn't what the doctor looks at: it finds an empty folder.
        let fresh = Sandbox::new();
        let sandbox = if *command == "doctor" { &fresh } else { finished };
        args = if args[0] == "run" || args[0] == "doctor" { small(&args) } else { args };
        let output = sandbox.command(&args).env("COLUMNS", width.to_string()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command}: {error}");
        let text = String::from_utf8(output.stdout).unwrap();
        let text = text.lines().map(masked).collect::<Vec<_>>().join("\n");
        for line in text.lines().filter(|line| !LONG.iter().any(|long| line.starts_with(long))) {
            assert!(line.chars().count() <= width, "{command}: longer than {width} columns:\n{line}");
        }
        let text = if *command == "doctor" { of_any_machine(&text) } else { text };
        out += &format!("$ autodidact {command}\n{text}\n\n");
    }
    out
}

/// The line without seconds, hashes and moments.
fn masked(line: &str) -> String {
    let words: Vec<&str> = line.split_inclusive(' ').collect();
    let next = |at: usize| words.get(at + 1).map_or("", |word| word.trim_matches([' ', ',', ')']));
    let shown = words.iter().enumerate().map(|(at, word)| {
        let bare = word.trim_matches([' ', '(', ')', ',']);
        let is_number =
            |text: &str| text.starts_with(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok();
        let is_time = bare.strip_suffix('s').is_some_and(is_number)
            || (is_number(bare) && matches!(next(at), "s" | "min" | "h"));
        let is_moment = bare.len() == 20 && bare.ends_with('Z');
        let is_hash = bare.len() >= 10 && bare.chars().all(|c| c.is_ascii_hexdigit());
        let mask = |c: char| match c {
            c if is_hash && c.is_ascii_hexdigit() => 'x',
            c if (is_time || is_moment) && c.is_ascii_digit() => '#',
            c => c,
        };
        word.chars().map(mask).collect::<String>()
    });
    shown.collect::<String>().trim_end().to_owned()
}

/// The doctor's text without numbers, units, the processor and line breaks.
fn of_any_machine(text: &str) -> String {
    let mut out = String::new();
    let begins = |line: &str| {
        let is_fact = line.starts_with("  ") && !line[2..].starts_with(' ');
        is_fact || ["✓", "✗", "!", "→", "ready", "not ready"].iter().any(|mark| line.starts_with(mark))
    };
    let mut unfolded = String::new();
    for line in text.lines() {
        let between = if begins(line) { "\n" } else { " " };
        unfolded += &format!("{between}{}", if begins(line) { line } else { line.trim_start() });
    }
    let unfolded = unfolded.trim_start();
    for c in unfolded.replace("GiB", "MiB").chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if !(c == '#' && out.ends_with('#')) {
            out.push(c);
        }
    }
    for (what, becomes) in [("#.#", "#"), ("# h # min", "# s"), ("# min # s", "# s"), (" (# s to # s)", "")] {
        out = out.replace(what, becomes);
    }
    let lines = out.lines().map(|line| match line.split_once(" threads (") {
        Some((before, _)) => format!("{before} threads (…)"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn reports_read_as_they_did() {
    let sandbox = Sandbox::new();
    sandbox.run(&small(&["run", "--policy", "scripted"])).success();
    sandbox.run(&small(&["run", "--policy", "scripted", "--control", "random"])).success();
    for width in [80, 120] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/terminal/{width}.txt"));
        let now = transcript(&sandbox, width);
        if std::env::var_os(WRITE).is_some() {
            fs::write(&path, &now).unwrap();
        }
        let before = fs::read_to_string(&path).unwrap_or_default();
        let differs = now.lines().zip(before.lines()).find(|(now, before)| now != before);
        assert!(
            now == before,
            "{} columns: {} lines, {} before; first difference (now, before): {differs:#?}\n{WRITE}=1 writes it again",
            width,
            now.lines().count(),
            before.lines().count()
        );
    }
}

#[test]
fn what_differs_between_machines_is_masked() {
    assert_eq!(masked(" 1   48c561c1f6    99.2   0.5s"), " 1   xxxxxxxxxx    99.2   #.#s");
    assert_eq!(masked("run 1 · 1 min 12 s (about 1.0 s)"), "run 1 · # min ## s (about #.# s)");
    assert_eq!(masked("done    2026-12-01T04:13:32Z   2 of 2"), "done    ####-##-##T##:##:##Z   2 of 2");
    let text = "✓ processor  2 threads (AVX-512)\n✓ memory     243 MiB of 21.4 GiB free\n  length     9 to\n             103\nready: about 2 min\n47 s";
    let expected =
        "✓ processor  # threads (…)\n✓ memory     # MiB of # MiB free\n  length     # to #\nready: about # s";
    assert_eq!(of_any_machine(text), expected);
}
