//! The public benchmarks as they are published: read whole, and their gold answers are found and right.
//!
//! The files are no part of the project: where there is no folder `shared/data` beside it, nothing is checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autodidact::config::Config;
use autodidact::data::Dataset;
use autodidact::domain::{Split, Task, TaskKind};
use autodidact::{grade, improve};

/// The path of a published file, if it is there.
fn shared(name: &str) -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1);
    above.map(|dir| dir.join("shared/data").join(name)).find(|path| path.exists())
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

/// Whether a completion that ends in the gold answer, as the prompts ask for it, is graded as right.
fn is_right(task: &Task, completion: &str) -> bool {
    let answer = grade::answer(task.kind, completion);
    grade::grade(task, answer.as_deref()).correct == Some(true)
}

#[test]
fn gsm8k_is_read_whole_and_every_gold_solution_gives_its_answer() {
    let (Some(train), Some(test)) = (shared("gsm8k/train.jsonl"), shared("gsm8k/test.jsonl")) else { return };
    let Dataset { tasks, report } = dataset(&[("file", &train), ("heldout_file", &test)]);
    assert_eq!(report.files.iter().map(|file| file.rows).collect::<Vec<_>>(), [7473, 1319]);
    assert_eq!(count(&tasks, Split::HeldOut), 1319);
    assert_eq!(tasks.len() + report.overlaps.len() + report.repeated.len(), 7473 + 1319);
    println!("{} overlaps, such as {:?}", report.overlaps.len(), report.overlaps.first());
    let by_question: BTreeMap<&str, &Task> =
        tasks.iter().map(|task| (task.question.as_str(), task)).collect();
    let mut checked = 0;
    for line in std::fs::read_to_string(&test).expect("a readable file").lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("a row");
        let (question, solution) =
            (row["question"].as_str().expect("text"), row["answer"].as_str().expect("text"));
        let task = by_question[question];
        assert_eq!(task.kind, TaskKind::Number);
        assert!(
            is_right(task, solution),
            "{solution}\nread {:?}, gold {:?}",
            grade::answer(task.kind, solution),
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
fn choices_puzzles_and_code_are_read() {
    if let Some(path) = shared("commonsenseqa/commonsenseqa_200.jsonl") {
        let Dataset { tasks, report } = dataset(&[("file", &path)]);
        assert_eq!((report.files[0].rows, report.files[0].format.name()), (200, "commonsenseqa"));
        for task in &tasks {
            let gold = task.answer.as_deref().unwrap_or_default();
            assert!(
                is_right(task, &format!("The answer is ({gold}).")) && !is_right(task, "The answer is (F).")
            );
        }
    }
    if let Some(path) = shared("game24/24.csv") {
        let Dataset { tasks, report } = dataset(&[("file", &path)]);
        assert_eq!(
            (report.files[0].rows, tasks.len(), report.files[0].format.name()),
            (1362, 1362, "game24")
        );
        let task =
            tasks.iter().find(|task| task.question == "Use 1 1 4 6 to make 24.").expect("the first puzzle");
        assert!(
            is_right(task, "The answer is 4 * 6 * 1 * 1 = 24.") && !is_right(task, "The answer is 4 * 6.")
        );
    }
    if let Some(path) = shared("humaneval/HumanEval.jsonl.gz") {
        let Dataset { tasks, report } = dataset(&[("file", &path)]);
        assert_eq!((report.files[0].rows, report.files[0].format.name()), (164, "humaneval"));
        assert_eq!(tasks.len() + report.overlaps.len(), 164);
        assert!(
            improve::ensure_gradable(&tasks).is_err_and(|error| error.to_string().contains("ask for code"))
        );
    }
}
