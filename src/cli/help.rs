//! The examples at the end of every `--help`, and the tree of commands with them.

use clap::{Command, CommandFactory, FromArgMatches};

use super::Cli;

/// A command line as it is typed, and what it does.
pub(super) type Example = (&'static str, &'static str);

/// The examples of each command, by its path. A path that is missing fails a test.
const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("autodidact run", "improve the built-in model; needs no files"),
            ("autodidact inspect", "what the run gave, iteration by iteration"),
            ("autodidact -C night inspect runs", "the same in another folder"),
        ],
    ),
    (
        "run",
        &[
            ("autodidact run", "start, or resume after a break"),
            ("autodidact run --hours 8", "as much as fits into a night"),
            ("autodidact run --control random", "the arm to compare the gain with"),
            ("autodidact run --set run.iterations=6", "more iterations than were planned"),
            ("autodidact run --json > events.jsonl", "events as JSON lines, the report last"),
        ],
    ),
    (
        "init",
        &[
            ("autodidact init", "every key, and the prompts"),
            ("autodidact init --model M --tasks t.jsonl", "what suits both, and why"),
            ("autodidact init night --minimal", "the five main keys only"),
        ],
    ),
    (
        "eval",
        &[
            ("autodidact eval", "the promoted policy, on held-out"),
            ("autodidact eval --base", "the model as it was before the run"),
            ("autodidact eval --samples 8 --tasks 50", "pass@8 and maj@8 on 50 tasks"),
        ],
    ),
    (
        "generate",
        &[
            ("autodidact generate questions.jsonl", "ask the promoted policy"),
            ("autodidact generate --base --greedy < q.txt", "a question a line, to the base"),
        ],
    ),
    (
        "chat",
        &[
            ("autodidact chat", "talk with the promoted policy"),
            ("autodidact chat --base --greedy < q.txt", "a message a line, to the base"),
        ],
    ),
    (
        "logprobs",
        &[
            ("autodidact logprobs lines.jsonl", "under the promoted policy"),
            ("autodidact logprobs --base lines.jsonl", "under the model before the run"),
        ],
    ),
    ("grade", &[("autodidact grade --kind number answers.jsonl", "one verdict a line")]),
    (
        "inspect",
        &[
            ("autodidact inspect", "the run by iterations"),
            ("autodidact inspect iteration 1", "why kept or dropped"),
            ("autodidact inspect trajectories --kept --wrong", "what misled the reward"),
        ],
    ),
    ("inspect runs", &[("autodidact inspect runs", "the loop next to its control arms")]),
    (
        "inspect run",
        &[
            ("autodidact inspect run", "the loop proper"),
            ("autodidact inspect run 2 --json", "another run, for programs"),
        ],
    ),
    ("inspect iteration", &[("autodidact inspect iteration 1", "scores, reasons, ids to look at")]),
    ("inspect trajectory", &[("autodidact inspect trajectory 40", "thoughts and scores of one attempt")]),
    (
        "inspect trajectories",
        &[
            ("autodidact inspect trajectories --kept --wrong", "kept, though wrong"),
            ("autodidact inspect trajectories --search \"plus 2\"", "where these words occur"),
        ],
    ),
    ("inspect task", &[("autodidact inspect task relations/train/000001", "what each iteration answered")]),
    ("inspect steps", &[("autodidact inspect steps --iteration 1", "the updates of one iteration")]),
    ("inspect events", &[("autodidact inspect events", "alarms, messages, finished phases")]),
    (
        "inspect sql",
        &[
            ("autodidact inspect sql --examples", "queries to begin with"),
            ("autodidact inspect sql \"select * from alarms\" --csv", "as a table"),
        ],
    ),
    ("inspect datasette", &[("autodidact inspect datasette", "browse the store in a browser")]),
    ("export", &[("autodidact export policy --out night", "a checkpoint for transformers")]),
    (
        "export policy",
        &[
            ("autodidact export policy --out night", "for transformers"),
            ("autodidact export policy --format gguf --out night.gguf", "for llama.cpp"),
            ("autodidact export policy --format peft --out adapter", "of a LoRA run"),
        ],
    ),
    ("verify", &[("autodidact verify", "after a copy, or before trusting a store")]),
    ("gc", &[("autodidact gc", "list what a crash left, with sizes"), ("autodidact gc --yes", "remove it")]),
    (
        "doctor",
        &[
            ("autodidact doctor", "memory, disk and time of a run"),
            ("autodidact doctor --set model.path=model", "the same for a model of yours"),
        ],
    ),
    ("pretrain", &[("autodidact pretrain --out seed", "the seed model again, bit for bit")]),
    (
        "completions",
        &[
            ("autodidact completions bash > autodidact.bash", "then `source` it in ~/.bashrc"),
            ("autodidact completions zsh > _autodidact", "in a folder of $fpath"),
            ("autodidact completions fish > autodidact.fish", "in ~/.config/fish/completions"),
        ],
    ),
    ("skill", &[("autodidact skill > SKILL.md", "for an agent that runs the commands")]),
];

/// The examples of the command with this path: `inspect sql`, or nothing for the program itself.
pub(super) fn examples(path: &str) -> &'static [Example] {
    EXAMPLES.iter().find(|(known, _)| *known == path).map_or(&[], |(_, examples)| examples)
}

/// The tree of commands, with examples at the end of every help.
pub(super) fn command() -> Command {
    with_examples(Cli::command(), "")
}

/// Parses the process's arguments; help, versions and mistakes end it.
pub(super) fn parse() -> Cli {
    Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit())
}

fn with_examples(command: Command, path: &str) -> Command {
    let examples = examples(path);
    let width = examples.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    let lines = examples.iter().map(|(line, what)| format!("\n  {line:<width$}  # {what}"));
    let mut after: String = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    after += &format!("Examples:{}", lines.collect::<String>());
    command.after_help(after).mut_subcommands(|sub| {
        let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
        with_examples(sub, &path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use autodidact_testing::shell;

    /// The paths of all commands, the program itself first.
    fn paths(command: &Command, path: &str) -> Vec<String> {
        let mut found = vec![path.to_owned()];
        for sub in command.get_subcommands() {
            found.extend(paths(sub, format!("{path} {}", sub.get_name()).trim_start()));
        }
        found
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_of_itself_that_fit_80_columns() {
        let mut known = paths(&Cli::command(), "");
        for path in &known {
            let help = help(path);
            assert!(
                help.contains("Examples:\n  autodidact"),
                "`{path}` has no examples: add them to EXAMPLES"
            );
            for line in help.split("Examples:\n").nth(1).unwrap_or_default().lines() {
                assert!(line.chars().count() <= 80, "`{path}`: longer than 80 columns: {line}");
            }
            for (line, _) in examples(path) {
                assert!(line.contains(path.as_str()), "`{path}` has an example of another command: {line}");
            }
        }
        known.retain(|path| !examples(path).is_empty());
        assert_eq!(known.len(), EXAMPLES.len(), "an example of a command that is not there");
    }

    #[test]
    fn every_example_parses() {
        for (line, _) in EXAMPLES.iter().flat_map(|(_, examples)| *examples) {
            let commands = shell::commands(line);
            assert_eq!(commands.len(), 1, "{line}");
            for args in commands {
                let parsed = command().try_get_matches_from(&args);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn every_command_of_the_documentation_parses() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs = root.join("docs").read_dir().unwrap().map(|entry| entry.unwrap().path());
        let pages = docs.chain([root.join("README.md"), root.join("CHANGELOG.md")]);
        let mut count = 0;
        for page in pages.filter(|page| page.extension().is_some_and(|e| e == "md")) {
            let text = std::fs::read_to_string(&page).unwrap();
            for line in shell::blocks(&text).into_iter().flatten() {
                for args in shell::commands(&line) {
                    let parsed = command().try_get_matches_from(&args);
                    assert!(parsed.is_ok(), "{}: {line}\n{}", page.display(), parsed.unwrap_err());
                    count += 1;
                }
            }
        }
        assert!(count > 40, "only {count} commands were found");
    }

    fn help(path: &str) -> String {
        let mut tree = command().term_width(80);
        let mut at = &mut tree;
        for name in path.split_whitespace() {
            at = at.find_subcommand_mut(name).unwrap();
        }
        at.render_help().to_string()
    }
}
