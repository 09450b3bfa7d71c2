//! Where tasks are made and where they are graded are strangers: here they must agree.

use autodidact::config::{Config, TasksConfig};
use autodidact::domain::{Address, Criteria, Purpose, Split, Task, TaskKind};
use autodidact::text::Prompts;
use autodidact::{answer, data, score};

const GOOD: Criteria = Criteria { coherence: true, accuracy: true, completeness: true };

fn config(kind: &str) -> TasksConfig {
    let pairs = [("tasks.kind", kind), ("tasks.train", "40"), ("tasks.gate", "10"), ("tasks.heldout", "10")];
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Config::load(None, &pairs).expect("a valid configuration").tasks
}

/// Every task of both built-in datasets.
fn tasks() -> Vec<Task> {
    let of = |kind| data::dataset(&config(kind), Vec::new()).expect("a built-in dataset").tasks;
    ["relations", "countdown"].into_iter().flat_map(of).collect()
}

fn thoughts(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn address(task: &Task, draw: u32) -> Address {
    Address::new(1, Purpose::Bootstrap, 0, &task.id, &[draw])
}

#[test]
fn gold_solutions_are_right_in_every_criterion() {
    for task in tasks() {
        assert_eq!(score::grade(&task, task.answer.as_deref()).correct(), Some(true), "{task:?}");
        let Some(solution) = &task.solution else { continue };
        let answer = answer::read(task.kind, solution);
        assert_eq!(answer, task.answer, "{task:?}");
        let judged = score::criteria(&task, &thoughts(solution)).expect("a built-in task is understood");
        assert!(judged.iter().all(|c| *c == GOOD), "{solution}\n{judged:?}");
    }
}

#[test]
fn variants_have_the_same_answer() {
    let config = Config::load(None, &[]).unwrap();
    let mut varied = 0;
    for task in tasks() {
        let place = Address { purpose: Purpose::Variant, ..address(&task, 1) };
        let Some(variant) = data::Variants::new(&config.tasks).variant(&task, &place) else {
            continue;
        };
        let asked = Task { question: variant.question, ..task };
        assert_eq!(score::grade(&asked, asked.answer.as_deref()).correct(), Some(true), "{asked:?}");
        varied += 1;
    }
    assert!(varied > 100, "{varied} variants");
}

#[test]
fn corrupted_solutions_are_caught() {
    let (mut made, mut wrong) = (0, 0);
    for task in tasks().iter().filter(|task| task.solution.is_some()) {
        for draw in 0..4 {
            let Some(corrupted) = data::corrupted(task, &address(task, draw)) else { continue };
            let judged = score::criteria(task, &thoughts(&corrupted)).expect("a built-in task is understood");
            assert!(
                judged.iter().any(|c| *c != GOOD),
                "nothing is wrong with\n{}\n{corrupted}",
                task.question
            );
            let answer = answer::read(task.kind, &corrupted);
            wrong += usize::from(score::grade(task, answer.as_deref()).correct() == Some(false));
            made += 1;
        }
    }
    assert!(made > 1000 && wrong * 10 >= made * 9, "{wrong} of {made} have a wrong answer");
}

#[test]
fn the_examples_in_prompts_are_right_and_answered_as_answers_are_read() {
    let prompts = Prompts::embedded().expect("the embedded templates").few_shot(true);
    for (kind, golds) in [
        (TaskKind::Number, &["31", "4.6", "95"][..]),
        (TaskKind::Choice, &["B", "B", "C"]),
        (TaskKind::Math, &["5", "\\frac{1}{2}"]),
        (TaskKind::Exact, &["false", "apple fig pear"]),
        (TaskKind::Game24, &["24", "24"]),
    ] {
        let prompt = prompts.question(kind, "?").expect("a template that renders");
        let examples: Vec<&str> = prompt.split("Question: ").skip(1).collect();
        assert_eq!(examples.len(), golds.len() + 1, "{prompt}");
        for (example, gold) in examples.iter().zip(golds) {
            let (question, solution) = example.split_once("\n\n").expect("a question and its solution");
            let task = Task {
                id: String::new(),
                kind,
                split: Split::Easy,
                level: 1,
                question: question.to_owned(),
                answer: Some(gold.to_string()),
                solution: None,
            };
            let answer = answer::read(kind, solution);
            assert_eq!(score::grade(&task, answer.as_deref()).correct(), Some(true), "{example}\n{answer:?}");
        }
    }
}
