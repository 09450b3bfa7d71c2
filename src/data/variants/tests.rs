//! Variants of tasks from files.

use super::*;
use crate::config::Config;
use crate::domain::{Purpose, Split};

fn config(more: &[(&str, &str)]) -> Config {
    let file = [("tasks.kind", "file"), ("tasks.file", "f")];
    let set: Vec<_> = file.iter().chain(more).map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Config::load(None, &set).unwrap()
}

fn task(kind: TaskKind, question: &str) -> Task {
    Task {
        id: "t/1".into(),
        kind,
        split: Split::Train,
        level: 1,
        question: question.into(),
        answer: None,
        solution: None,
    }
}

fn place(nth: u32) -> Address {
    Address::new(3, Purpose::Variant, 1, "t/1", &[nth])
}

fn meaning(answers: &AnswerMap, letter: &str) -> String {
    answers.get(letter).cloned().unwrap_or_else(|| letter.to_owned())
}

const NEGATED: (&str, &str) = (
    "tasks.variants",
    "[{ question = \"not ( {question} )\", answers = { True = \"False\", False = \"True\" } }]",
);

#[test]
fn a_declared_form_takes_turns_with_the_own_words_and_maps_its_answers() {
    let config = config(&[NEGATED]);
    let variants = Variants::new(&config.tasks);
    let task = task(TaskKind::Exact, "True and False");
    assert_eq!(variants.variant(&task, &place(0)), None);
    let asked = variants.variant(&task, &place(1)).unwrap().question;
    assert_eq!(asked, "not ( True and False )");
    assert_eq!(variants.variant(&task, &place(2)), None);
    let answers = variants.answers(&task, &asked);
    let claimed = answer::read(TaskKind::Exact, "The answer is True.").unwrap();
    assert_eq!(answers.get(&claimed), answer::gold(TaskKind::Exact, "False").as_ref());
    assert!(variants.answers(&task, &task.question).is_empty());
    assert!(variants.renaming(&task, &task.question, &asked).is_none(), "its chain can't be rewritten");
}

#[test]
fn options_move_within_declared_forms_too() {
    let forms = ("tasks.variants", "[{ question = \"Choose well.\\n{question}\" }]");
    let config = config(&[forms]);
    let variants = Variants::new(&config.tasks);
    let task = task(TaskKind::Choice, "Which is red?\n(A) sky\n(B) blood\n(C) grass");
    let asked: Vec<String> =
        (0..6).map(|nth| variants.variant(&task, &place(nth)).unwrap().question).collect();
    assert!(asked[..3].iter().all(|question| question.starts_with("Which")), "{asked:?}");
    assert!(asked[3..].iter().all(|question| question.starts_with("Choose well.\nWhich")), "{asked:?}");
    for half in asked.chunks(3) {
        let mut first: Vec<String> =
            half.iter().map(|question| meaning(&variants.answers(&task, question), "A")).collect();
        first.sort();
        assert_eq!(first, ["A", "B", "C"], "the first option is each of them once");
    }
    for from in &asked {
        for to in &asked {
            let (here, there) = (variants.answers(&task, from), variants.answers(&task, to));
            let renaming = variants.renaming(&task, from, to).unwrap();
            for letter in ["A", "B", "C"] {
                let renamed = renaming.apply(letter);
                assert_eq!(meaning(&there, &renamed), meaning(&here, letter), "the same option");
            }
        }
    }
    assert!(variants.renaming(&task, &asked[0], "Which is blue?\n(A) sky\n(B) sea").is_none());
}

#[test]
fn nothing_moves_unless_it_is_asked_for() {
    let config = config(&[("tasks.permute_options", "false")]);
    let variants = Variants::new(&config.tasks);
    let choice = task(TaskKind::Choice, "Which is red?\n(A) sky\n(B) blood");
    assert_eq!(variants.variant(&choice, &place(1)), None);
    assert!(!variants.exist_for([&choice].into_iter()));
    let number = task(TaskKind::Number, "Which?\n(A) sky\n(B) blood");
    let config = self::config(&[]);
    let variants = Variants::new(&config.tasks);
    assert_eq!(variants.variant(&number, &place(1)), None);
    assert!(variants.exist_for([&number, &choice].into_iter()));
}

#[test]
fn forms_that_mean_nothing_are_refused() {
    let refused = |value: &str| {
        let set = [("tasks.kind", "file"), ("tasks.file", "f"), ("tasks.variants", value)];
        Config::load(None, &set.map(|(k, v)| (k.to_string(), v.to_string()))).unwrap_err().to_string()
    };
    assert!(refused("[{ question = \"no place\" }]").contains("tasks.variants"));
    let merged = "[{ question = \"{question}\", answers = { a = \"x\", b = \"x\" } }]";
    assert!(refused(merged).contains("answers that mean different ones"));
}
