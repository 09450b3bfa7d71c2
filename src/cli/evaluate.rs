//! `autodidact eval`: measures a policy on tasks, without touching any store.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::inspect::{VERDICT, style};
use super::meter::Meter;
use super::policy::{Named, PolicyArgs};
use super::profile::{ProfileArgs, Profiler};
use super::terminal::{pretty, print};
use super::{Common, block_on};
use crate::config::Config;
use crate::domain::{Address, AnswerMap, Purpose, Sampling, Split, Task};
use crate::eval::{self, Answered, Attempts, Constant, Figure, Readable};
use crate::improve::{dataset, ensure_gradable, with_tools};
use crate::inspect;
use crate::policy::Policy;
use crate::report::EvaluationLine;
use crate::rollout::{self, Job};
use crate::score;
use crate::text::Text;

/// Trajectories that are drawn between two signs of progress.
const TOGETHER: usize = 1024;

#[derive(Args)]
pub(super) struct EvalArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Split to measure on: easy, anchor, train, gate or heldout
    #[arg(long, default_value = "heldout")]
    split: Split,
    /// Most tasks to measure on (0: the whole split)
    #[arg(long, default_value_t = 0)]
    tasks: usize,
    /// Also sample this many trajectories per task, for pass@k and maj@k
    #[arg(long, default_value_t = 0)]
    samples: u32,
    #[command(flatten)]
    profile: ProfileArgs,
}

pub(super) fn perform(common: &Common, config: &Config, args: &EvalArgs) -> Result<ExitCode> {
    let profiler = Profiler::start(args.profile);
    let text = args.policy.text(config)?;
    let Named { policy, name } = block_on(args.policy.load(config, &text))?;
    let limit = if args.tasks == 0 { usize::MAX } else { args.tasks };
    let tasks: Vec<Task> =
        dataset(config)?.tasks.into_iter().filter(|t| t.split == args.split).take(limit).collect();
    ensure_gradable(&tasks)?;
    profiler.iter().for_each(|profiler| profiler.phase("open"));
    let per_task = 1 + u64::from(args.samples);
    let meter = Meter::new("evaluate", Some(tasks.len() as u64 * per_task), common.shows());
    let attempt = |branches, sampling| attempt(config, (&text, &policy), &tasks, branches, sampling, &meter);
    let greedy = attempt(0..1, Sampling::GREEDY)?;
    let mut figures = eval::greedy(args.split, &greedy);
    if args.samples > 0 {
        let warm = Sampling { temperature: config.eval.temperature, ..Sampling::GREEDY };
        figures.extend(eval::sampled(args.split, &attempt(1..args.samples + 1, warm)?));
    }
    meter.finish();
    let (constant, profile) = (eval::best_constant(tasks.iter(), VERDICT), profile(&tasks, &greedy));
    if common.json {
        let rows: Vec<_> = figures.iter().map(json).collect();
        let out = serde_json::json!({
            "policy_hash": policy.hash(),
            "policy": name,
            "split": args.split,
            "figures": rows,
            "constant": constant.map(|c| serde_json::json!({ "answer": c.answer, "pass1": c.pass1 })),
            "readable": profile.as_ref().map(|p| p.readable),
            "right_if_readable": profile.as_ref().and_then(|p| p.right_if_readable),
            "answers": profile.as_ref().map(|p| &p.answers),
            "entropy_bits": profile.as_ref().map(|p| p.entropy_bits),
        });
        print(&pretty(&out)?)?;
    } else {
        let hash: String = policy.hash().chars().take(10).collect();
        let samples = if args.samples > 0 { format!(" and {} samples", args.samples) } else { String::new() };
        print(&format!("policy {hash} · {name}\n{}, {} tasks, greedy{samples}\n", args.split, tasks.len()))?;
        print(&inspect::figures(&figures.iter().map(line).collect::<Vec<_>>(), &style()))?;
        print(&explained(constant.as_ref(), profile.as_ref()))?;
    }
    profiler.iter().for_each(|profiler| profiler.show("evaluate"));
    Ok(ExitCode::SUCCESS)
}

/// What the greedy answers are.
fn profile(tasks: &[Task], greedy: &[Attempts]) -> Option<eval::Profile> {
    let readable = Readable::of(tasks.iter());
    let answered = |attempts: &Attempts| {
        let (answer, right) = attempts.answers.first()?;
        Some(Answered { answer: answer.clone(), readable: readable.is(answer.as_deref()), right: *right })
    };
    let answered: Vec<Answered> = greedy.iter().filter_map(answered).collect();
    eval::profile(answered.iter())
}

/// What pass@1 is to be compared with: the best constant answer, and how many answers can be read.
fn explained(constant: Option<&Constant>, profile: Option<&eval::Profile>) -> String {
    let mut parts = Vec::new();
    if let Some(Constant { answer, pass1 }) = constant {
        parts.push(format!("best constant answer {:.1} % ({answer})", 100.0 * pass1));
    }
    if let Some(eval::Profile { readable, right_if_readable, .. }) = profile {
        parts.push(format!("readable {:.1} %", 100.0 * readable));
        parts.extend(right_if_readable.map(|right| format!("right among readable {:.1} %", 100.0 * right)));
    }
    match parts.is_empty() {
        true => String::new(),
        false => inspect::dotted("", parts.into_iter(), &style()) + "\n",
    }
}

fn attempt<'t>(
    config: &Config,
    (text, policy): (&Text, &Policy),
    tasks: &'t [Task],
    branches: std::ops::Range<u32>,
    sampling: Sampling,
    meter: &Meter,
) -> Result<Vec<Attempts<'t>>> {
    let per_task = branches.len();
    let mut jobs = Vec::new();
    for task in tasks {
        for branch in branches.clone() {
            jobs.push(Job {
                task_id: task.id.clone(),
                kind: task.kind,
                variant: None,
                answers: AnswerMap::new(),
                prompt_ids: text.prompt_ids_of(task.kind, &task.question)?,
                address: Address::new(config.run.seed, Purpose::Evaluation, 0, &task.id, &[branch]),
            });
        }
    }
    let on_tokens = |n| meter.tokens(n);
    let mut trees = Vec::with_capacity(jobs.len());
    for unit in jobs.chunks(TOGETHER) {
        trees.extend(with_tools(config, text, policy, sampling, &on_tokens, |tools| {
            rollout::chains(tools, unit)
        })?);
        meter.advance(unit.len());
    }
    let of_task = |(task, trees): (&'t Task, &[crate::domain::Tree])| {
        let leaves = trees.iter().flat_map(|tree| &tree.leaves);
        let answers = leaves.map(|l| (l.answer.clone(), score::grade(task, l.answer.as_deref()).is_right()));
        Attempts { task, answers: answers.collect() }
    };
    Ok(tasks.iter().zip(trees.chunks(per_task)).map(of_task).collect())
}

fn line(figure: &Figure) -> EvaluationLine {
    EvaluationLine {
        split: figure.split,
        decoding: figure.decoding,
        metric: figure.metric.clone(),
        level: figure.level,
        n: figure.tasks as u32,
        value: figure.value,
        lo: figure.lo,
        hi: figure.hi,
    }
}

fn json(figure: &Figure) -> serde_json::Value {
    serde_json::json!({
        "decoding": figure.decoding,
        "metric": figure.metric,
        "level": figure.level,
        "n": figure.tasks,
        "value": figure.value,
        "lo": figure.lo,
        "hi": figure.hi,
    })
}
