//! What is kept of policies that answer by the place of an option, by its text, or always the same.

use std::collections::BTreeMap;

use super::*;
use crate::answer;
use crate::config::Config;
use crate::data::Variants;
use crate::domain::{Sampling, Split, Stops, Task, TaskKind, Tree};
use crate::engine::scripted::{Play, Script, Scripted};
use crate::rollout::{self, Job, Limits, Tools};

const EOS: u32 = 0;

fn config(more: &[(&str, &str)]) -> Config {
    let file = [("tasks.kind", "file"), ("tasks.file", "f")];
    let set = file.iter().chain(more).map(|(key, value)| (key.to_string(), value.to_string()));
    Config::load(None, &set.collect::<Vec<_>>()).unwrap()
}

/// Forty questions of four options; the right one has the text "right".
fn choices() -> Vec<Task> {
    let task = |i: usize| {
        let place = i * 7 % 4;
        let text = |p: usize| if p == place { "right".to_owned() } else { format!("wrong {p}") };
        let lines: Vec<String> =
            (0..4).map(|p| format!("({}) {}", ['A', 'B', 'C', 'D'][p], text(p))).collect();
        Task {
            id: format!("t/{i}"),
            kind: TaskKind::Choice,
            split: Split::Train,
            level: 1,
            question: format!("Question {i}?\n{}", lines.join("\n")),
            answer: Some(["A", "B", "C", "D"][place].to_owned()),
            solution: None,
        }
    };
    (0..40).map(task).collect()
}

/// Eight variants of each task, to which a scripted policy gives the answer that `reads` the
/// question, as the loop draws them.
fn drawn(config: &Config, tasks: &[Task], reads: impl Fn(&str) -> String) -> Vec<Tree> {
    let variants = Variants::new(&config.tasks);
    let (mut jobs, mut plays) = (Vec::new(), BTreeMap::new());
    for (task, v) in tasks.iter().flat_map(|task| (0..8).map(move |v| (task, v))) {
        let variant = variants.variant(task, &Address::new(0, Purpose::Variant, 1, &task.id, &[v]));
        let question = variant.as_ref().map_or(&task.question, |variant| &variant.question);
        let prompt_ids: Vec<u32> = question.bytes().chain([b'\n']).map(u32::from).collect();
        let claim = format!("The answer is {}.", reads(question));
        let solution: Vec<u32> = claim.bytes().map(u32::from).chain([EOS]).collect();
        plays.insert(prompt_ids.clone(), Play { solution, wrong: Vec::new() });
        let answers = variants.answers(task, question);
        let address = Address::new(0, Purpose::Rollout, 1, &task.id, &[v, 0]);
        let (task_id, kind) = (task.id.clone(), task.kind);
        jobs.push(Job { task_id, kind, variant, answers, prompt_ids, address });
    }
    let decode = |ids: &[u32]| {
        let bytes = ids.iter().filter(|&&id| id != EOS).map(|&id| id as u8).collect();
        Ok(String::from_utf8(bytes)?)
    };
    let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    let tools = Tools {
        engine: &Scripted::new(Script::table(plays), 1.0).unwrap(),
        decode: &decode,
        stops: &Stops { eos_ids: vec![EOS], ..Stops::default() },
        limits: Limits { sampling, tokens_max: 100, thoughts_max: 10 },
        answer: &answer::read,
        on_tokens: &|_| (),
    };
    rollout::chains(&tools, &jobs).unwrap()
}

/// The trees' highest vote, and how many trajectories the loop keeps for it.
fn kept(config: &Config, tasks: &[Task], trees: &[Tree]) -> (f64, usize) {
    let trajectories: Vec<Trajectory> = trees
        .iter()
        .enumerate()
        .map(|(id, tree)| {
            let task = tasks.iter().find(|task| task.id == tree.task_id).unwrap();
            Trajectory { id: id as i64, task, tree, leaf: &tree.leaves[0] }
        })
        .collect();
    let votes = score::votes(&trajectories);
    let rewards = trajectories.iter().zip(&votes).map(|(t, vote)| (t.id, vote.value)).collect();
    let answers = Answers { chances: chances(&trajectories), ..Answers::default() };
    let selections = select::by_reward(&trajectories, &rewards, &answers, &config.select);
    let highest = votes.iter().filter_map(|vote| vote.value.ok()).fold(0.0, f64::max);
    (highest, selections.iter().filter(|s| s.reason.is_kept()).count())
}

/// The letter of the option with this text.
fn letter_of(question: &str, text: &str) -> String {
    let line = question.lines().find(|line| line.ends_with(&format!(") {text}"))).unwrap();
    line[1..2].to_owned()
}

#[test]
fn a_liking_for_the_first_option_gets_a_vote_near_chance_and_is_not_kept() {
    let (config, tasks) = (config(&[("select.floor", "0")]), choices());
    let by_place = drawn(&config, &tasks, |_| "(A)".to_owned());
    assert_eq!(kept(&config, &tasks, &by_place), (0.25, 0));
    let by_text = drawn(&config, &tasks, |question| letter_of(question, "right"));
    let keep = config.select.keep;
    assert_eq!(kept(&config, &tasks, &by_text), (1.0, 40 * keep), "what the options state is agreed on");
    // Where options stay in their places the first one has all votes, and chance explains them.
    let fixed = self::config(&[("select.floor", "0"), ("tasks.permute_options", "false")]);
    let by_place = drawn(&fixed, &tasks, |_| "(A)".to_owned());
    assert_eq!(kept(&fixed, &tasks, &by_place), (1.0, 0));
    let all = self::config(&[("tasks.permute_options", "false"), ("select.chance_max", "1")]);
    assert!(kept(&all, &tasks, &by_place).1 > 0, "it would teach the first option");
}
