//! What overlaps with measuring rows, and what only looks like it.

use std::collections::BTreeMap;

use super::*;

#[test]
fn what_overlaps_with_measuring_rows_is_not_practised() {
    let long = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi";
    let row = |question: String, split: &str| {
        serde_json::json!({ "question": question, "answer": "1", "split": split }).to_string()
    };
    let mut lines = vec![
        row(format!("Held: {long}?"), "heldout"),
        row(format!("Practised, though: ALPHA {}.", &long[6..]), "train"),
        row("alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".into(), "train"),
        row("Something else entirely".into(), "train"),
        row("gate".into(), "gate"),
    ];
    // Wording that a whole family of tasks has is no overlap.
    let wording = "one two three four five six seven eight nine ten eleven twelve thirteen";
    lines
        .extend((0..12).map(|i| row(format!("{wording} case{i}"), if i == 0 { "heldout" } else { "train" })));
    let contents = lines.join("\n");
    let (tasks, report) = read_files(&config(&[]), vec![file("x", contents.as_str())]).unwrap();
    assert_eq!(report.overlaps.len(), 1, "{:?}", report.overlaps);
    let Overlap { removed, with, words, .. } = &report.overlaps[0];
    assert_eq!((removed.as_str(), with.as_str()), ("text/train/000002", "text/heldout/000001"));
    assert!(
        words.starts_with("alpha beta") && report.overlaps[0].to_string().contains("was removed from train")
    );
    assert_eq!(tasks.len(), lines.len() - 1);
    let off = [("tasks.overlap_words", "0")];
    assert_eq!(read_files(&config(&off), vec![file("x", contents)]).unwrap().0.len(), lines.len());
    // Equal questions in two files: the practised one goes, whatever the number of words.
    let row = |i: usize| serde_json::json!({ "question": format!("q {i}?"), "answer": "x\n#### 1" });
    let heldout = SourceFile { heldout: true, ..file("h", rows(20, row)) };
    let (tasks, report) = read_files(&config(&off), vec![file("t", rows(80, row)), heldout]).unwrap();
    assert_eq!((tasks.len(), report.overlaps.len()), (80, 20));
    assert_eq!(tasks.iter().filter(|task| task.split == Split::HeldOut).count(), 20);
}

/// Rows of one family: the same wording, a story of three names, and a question about one of them.
fn family(stories: usize, split: impl Fn(usize, usize) -> Option<&'static str>) -> String {
    let words = |n: usize| format!("cat{n} dog{n} owl{n}");
    let mut lines = Vec::new();
    for story in 0..stories {
        for (asked, name) in ["first", "second", "third"].into_iter().enumerate() {
            let question = format!(
                "the following paragraph describes a set of three objects in a fixed order and is consistent: here are \
                 {} and {} beside {} and also {} so which of them is the {name} one",
                words(story),
                words(story + 100),
                words(story + 200),
                words(story + 300)
            );
            lines.push(match split(story, asked) {
                Some(split) => serde_json::json!({ "question": question, "answer": "x", "split": split }),
                None => serde_json::json!({ "question": question, "answer": "x" }),
            });
        }
    }
    let own = (0..20).map(|i| serde_json::json!({ "question": format!("q {i}?"), "answer": "x" }));
    lines.into_iter().chain(own).map(|line| line.to_string()).collect::<Vec<_>>().join("\n")
}

#[test]
fn rows_of_a_family_are_told_apart_and_repetitions_of_a_story_stay_together() {
    let (tasks, report) = read_files(&config(&[]), vec![file("x", family(60, |_, _| None))]).unwrap();
    assert_eq!((tasks.len(), report.overlaps.len()), (200, 0), "{:?}", report.overlaps.first());
    let story = |task: &Task| {
        task.question.split_whitespace().find(|word| word.starts_with("cat")).map(str::to_owned)
    };
    let mut splits: BTreeMap<String, Vec<Split>> = BTreeMap::new();
    for task in &tasks {
        story(task).into_iter().for_each(|story| splits.entry(story).or_default().push(task.split));
    }
    assert_eq!(splits.len(), 60);
    assert!(splits.values().all(|s| s.len() == 3 && s.iter().all(|split| *split == s[0])), "{splits:?}");
    assert!(splits.values().any(|s| s[0] == Split::Train) && splits.values().any(|s| s[0] == Split::HeldOut));

    // Splits that the rows have are kept: then the repetitions to practise on go, and nothing else
    // of the family.
    let mixed = |story: usize, asked: usize| Some(if story < 5 && asked == 0 { "heldout" } else { "train" });
    let (tasks, report) = read_files(&config(&[]), vec![file("x", family(60, mixed))]).unwrap();
    assert_eq!((tasks.len(), report.overlaps.len()), (190, 10), "{:?}", report.overlaps);
}

#[test]
fn a_short_question_inside_a_long_text_overlaps_and_a_shared_phrase_does_not() {
    let question =
        "how many apples does the farmer have left when he has sold seven of his twelve to the baker";
    let story = |n: usize| (0..60).map(|i| format!("word{n}x{i}")).collect::<Vec<_>>().join(" ");
    let row = |question: String, split: &str| {
        serde_json::json!({ "question": question, "answer": "1", "split": split }).to_string()
    };
    let phrase = "thirteen words in a row that anybody might write at the end thanks";
    let lines = [
        row(question.to_owned(), "heldout"),
        row(format!("{} {question} {}", story(1), story(2)), "train"),
        row(format!("{} {phrase}", story(3)), "gate"),
        row(format!("{} {phrase}", story(4)), "train"),
    ];
    let (tasks, report) = read_files(&config(&[]), vec![file("x", lines.join("\n"))]).unwrap();
    assert_eq!(tasks.len(), 3);
    assert_eq!(report.overlaps[0].removed, "text/train/000002");
}
