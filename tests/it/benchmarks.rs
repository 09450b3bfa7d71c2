//! The public benchmarks as they are published: read whole, and their gold answers are found and right.
//!
//! The files are not part of the project. Where no folder `shared/data` is found above it, these tests say that they were
//! skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autodidact::config::Config;
use autodidact::data::Dataset;
use autodidact::domain::{Split, Task, TaskKind};
use autodidact::{answer, improve, score};
use autodidact_testing::is_skipped;

/// The path of a published file; without it the test is skipped, which is said.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1);
    let found = above.map(|dir| dir.join("shared/data").join(name)).find(|path| path.exists());
    (!is_skipped("shared-data", found.is_some())).then_some(found).flatten()
}

fn dataset(pairs: &[(&str, &Path)]) -> Dataset {
    let file = [("tasks.kind".to_owned(), "file".to_owned())].into_iter();
    let pairs =
        file.chain(pairs.iter().map(|(key, path)| (format!("tasks.{key}"), path.display().to_string())));
    let config = Config::load(None, &pairs.collect::<Vec<_>>()).expect("a valid configuration");
    improve::dataset(&config).unwrap_or_else(|error| panic!("{error:#}"))
}

fn count(tasks: &[Task], split: Split) -> usize {
    tasks.iter().filter(|task| task.split == split).count()
}

/// The rows of a published file of JSON lines.
fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a readable file")
}

/// Tasks by their question; every question is there once.
fn by_question(tasks: &[Task]) -> BTreeMap<&str, &Task> {
    let found: BTreeMap<&str, &Task> = tasks.iter().map(|task| (task.question.as_str(), task)).collect();
    assert_eq!(found.len(), tasks.len());
    found
}

/// Whether a completion that ends in the gold answer, as the prompts ask for it, is graded as right.
fn is_right(task: &Task, completion: &str) -> bool {
    let answer = answer::read(task.kind, completion);
    score::grade(task, answer.as_deref()).is_right()
}

#[test]
fn gsm8k_is_read_whole_and_every_gold_solution_gives_its_answer() {
    let (Some(train), Some(test)) = (shared("gsm8k/train.jsonl"), shared("gsm8k/test.jsonl")) else { return };
    let Dataset { tasks, report } = dataset(&[("file", &train), ("heldout_file", &test)]);
    assert_eq!(report.files.iter().map(|file| file.rows).collect::<Vec<_>>(), [7473, 1319]);
    assert_eq!(count(&tasks, Split::HeldOut), 1319);
    assert_eq!(tasks.len() + report.overlaps.len() + report.repeated.len(), 7473 + 1319);
    println!("{} overlaps, such as {:?}", report.overlaps.len(), report.overlaps.first());
    let by_question = by_question(&tasks);
    let mut checked = 0;
    for row in json_lines(&text(&test)) {
        let (question, solution) =
            (row["question"].as_str().expect("text"), row["answer"].as_str().expect("text"));
        let task = by_question[question];
        assert_eq!(task.kind, TaskKind::Number);
        let stated = solution.rsplit_once("#### ").map(|(_, answer)| answer.trim());
        assert_eq!(task.answer.as_deref(), stated);
        assert!(
            is_right(task, solution),
            "{solution}\nread {:?}, gold {:?}",
            answer::read(task.kind, solution),
            task.answer
        );
        checked += 1;
    }
    assert_eq!(checked, 1319);
    for task in tasks.iter().filter(|task| task.solution.is_some()) {
        assert!(is_right(task, task.solution.as_deref().unwrap_or_default()), "{task:?}");
    }
}

#[test]
fn big_bench_hard_is_read_file_by_file_and_as_a_folder() {
    let Some(folder) = shared("bbh") else { return };
    let Dataset { tasks, report } = dataset(&[("file", &folder)]);
    let rows: usize = report.files.iter().map(|file| file.rows).sum();
    assert_eq!((report.files.len(), rows), (8, 8 * 250));
    assert_eq!(tasks.len() + report.overlaps.len() + report.repeated.len(), rows);
    println!("{} overlaps, {} repeated", report.overlaps.len(), report.repeated.len());
    let kinds = |name: &str| tasks.iter().find(|task| task.id.contains(name)).map(|task| task.kind);
    for (name, kind) in [
        ("boolean_expressions", TaskKind::Exact),
        ("date_understanding", TaskKind::Choice),
        ("dyck_languages", TaskKind::Exact),
        ("multistep_arithmetic_two", TaskKind::Number),
        ("object_counting", TaskKind::Number),
        ("word_sorting", TaskKind::Exact),
    ] {
        assert_eq!(kinds(name), Some(kind), "{name}");
    }
    for task in &tasks {
        let gold = task.answer.as_deref().unwrap_or_default();
        for completion in
            [format!("Some thought.\nThe answer is {gold}."), format!("**Answer:** {gold}"), gold.to_owned()]
        {
            assert!(is_right(task, &completion), "{completion} for {task:?}");
        }
    }
}

#[test]
fn big_bench_hard_has_the_answers_that_its_files_state() {
    let Some(folder) = shared("bbh") else { return };
    let Dataset { tasks, report } = dataset(&[("file", &folder)]);
    // Whole families of templated rows: nothing of them is lost, and what tells the same story stays together.
    assert_eq!(report.overlaps, []);
    assert_eq!(tasks.len() + report.repeated.len(), 2000);
    let by_question = by_question(&tasks);
    let mut checked = 0;
    for file in folder.read_dir().expect("a folder").map(|entry| entry.expect("a file").path()) {
        let file: serde_json::Value = serde_json::from_str(&text(&file)).expect("JSON");
        for row in file["examples"].as_array().expect("rows") {
            let (input, target) =
                (row["input"].as_str().expect("text"), row["target"].as_str().expect("text"));
            let task = by_question[input.trim()];
            let stated = target.trim_matches(['(', ')']);
            let stated = if task.kind == TaskKind::Choice { stated } else { target };
            assert_eq!(task.answer.as_deref(), Some(stated), "{input}");
            checked += 1;
        }
    }
    assert_eq!(checked, 2000);
    let stories = |file: &str, end: &str| -> BTreeMap<String, Vec<Split>> {
        let of_file = tasks.iter().filter(|task| task.id.contains(file));
        of_file.fold(BTreeMap::new(), |mut stories, task| {
            let story = task.question.split(end).next().unwrap_or_default().to_owned();
            stories.entry(story).or_default().push(task.split);
            stories
        })
    };
    for (file, end) in [("logical_deduction", "\nOptions"), ("tracking_shuffled", "\nOptions")] {
        let stories = stories(file, end);
        assert!(stories.values().all(|splits| splits.iter().all(|split| *split == splits[0])), "{file}");
    }
}

#[test]
fn choices_have_the_answers_that_the_file_states() {
    let Some(path) = shared("commonsenseqa/commonsenseqa_200.jsonl") else { return };
    let Dataset { tasks, report } = dataset(&[("file", &path)]);
    assert_eq!((report.files[0].rows, report.files[0].format.name()), (200, "commonsenseqa"));
    assert_eq!(tasks.len(), 200);
    for row in json_lines(&text(&path)) {
        let stem = row["question"]["stem"].as_str().expect("text");
        let choices = row["question"]["choices"].as_array().expect("choices");
        let right = choices.iter().find(|choice| choice["label"] == row["answerKey"]).expect("an answer");
        let asked = |task: &&Task| task.question.starts_with(stem);
        let found: Vec<&Task> = tasks.iter().filter(asked).collect();
        let [task] = found[..] else { panic!("{} tasks ask {stem}", found.len()) };
        let gold = task.answer.as_deref().expect("a letter");
        assert_eq!(gold, row["answerKey"].as_str().expect("text"));
        assert!(task.question.contains(&format!("\n({gold}) {}", right["text"].as_str().expect("text"))));
        assert!(is_right(task, &format!("The answer is ({gold}).")));
        for choice in choices.iter().filter(|choice| choice["label"] != row["answerKey"]) {
            let letter = choice["label"].as_str().expect("text");
            assert!(!is_right(task, &format!("The answer is ({letter}).")), "{letter} for {task:?}");
        }
    }
}

#[test]
fn every_puzzle_of_game_of_24_is_read() {
    let Some(path) = shared("game24/24.csv") else { return };
    let Dataset { tasks, report } = dataset(&[("file", &path)]);
    assert_eq!((report.files[0].rows, tasks.len(), report.files[0].format.name()), (1362, 1362, "game24"));
    let by_question = by_question(&tasks);
    for line in text(&path).lines().skip(1) {
        let numbers = line.split(',').nth(1).expect("a puzzle");
        let task = by_question[format!("Use {numbers} to make 24.").as_str()];
        assert_eq!(task.kind, TaskKind::Game24);
        assert!(
            !is_right(task, &format!("The answer is {} = 24.", numbers.replace(' ', " + "))) || {
                numbers.split(' ').map(|n| n.parse::<u32>().expect("a number")).sum::<u32>() == 24
            }
        );
    }
    let task = by_question["Use 1 1 4 6 to make 24."];
    assert!(is_right(task, "The answer is 4 * 6 * 1 * 1 = 24.") && !is_right(task, "The answer is 4 * 6."));
}

#[test]
fn every_program_of_human_eval_is_read() {
    let Some(path) = shared("humaneval/HumanEval.jsonl.gz") else { return };
    let Dataset { tasks, report } = dataset(&[("file", &path)]);
    assert_eq!((report.files[0].rows, report.files[0].format.name()), (164, "humaneval"));
    assert_eq!((tasks.len(), report.overlaps.len()), (164, 0));
    let mut unpacked = String::new();
    let file = std::fs::File::open(&path).expect("a readable file");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut unpacked).expect("gzip");
    let by_question = by_question(&tasks);
    for row in json_lines(&unpacked) {
        let of = |key: &str| row[key].as_str().expect("text");
        let task = by_question[of("prompt")];
        let check = task.answer.as_deref().expect("a program");
        assert!(check.starts_with(of("test").trim_end()), "{}", of("task_id"));
        assert!(check.ends_with(&format!("\n\ncheck({})\n", of("entry_point"))), "{}", of("task_id"));
        let labelled = matches!(task.split, Split::Easy | Split::Anchor);
        assert_eq!(task.solution.as_deref(), labelled.then_some(of("canonical_solution")));
    }
    assert!(improve::ensure_gradable(&tasks).is_err_and(|error| error.to_string().contains("ask for code")));
}
