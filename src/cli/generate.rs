//! `autodidact generate` and `autodidact logprobs`: a policy as a filter over JSON lines.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::policy::{Named, PolicyArgs};
use super::profile::{ProfileArgs, Profiler};
use super::terminal::{json_line, note};
use super::{block_on, lines};
use crate::config::Config;
use crate::domain::{Address, FinishReason, Purpose, ReadRequest, Sampling, Score, Tree};
use crate::improve::with_tools;
use crate::rollout::{self, Job};
use crate::score;
use crate::text::Text;

/// Most trajectories per line, and of all lines together.
const SAMPLES_MAX: i64 = 100_000;
const TRAJECTORIES_MAX: usize = 10_000_000;

/// Lines read before anything is drawn.
const LINES_MAX: usize = 1_000_000;

#[derive(Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// JSON lines with "question", "prompt" or "prompt_ids", or plain text, a question a line (default:
    /// standard input)
    #[arg(value_name = "FILE")]
    input: Option<PathBuf>,
    /// Trajectories per line
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=SAMPLES_MAX))]
    samples: u32,
    /// Decode greedily instead of with the configuration's [rollout] sampling
    #[arg(long)]
    greedy: bool,
    /// Put no beginning token before a "prompt", even if the model's tokenizer does
    #[arg(long)]
    no_special_tokens: bool,
    #[command(flatten)]
    profile: ProfileArgs,
}

#[derive(Args)]
pub(super) struct LogprobsArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// JSON lines with "ids" (and "from"), or with "prompt" and "completion" (default: standard input)
    #[arg(value_name = "FILE")]
    input: Option<PathBuf>,
    /// Put no beginning token before a "prompt", even if the model's tokenizer does
    #[arg(long)]
    no_special_tokens: bool,
}

/// One prompt: a question to render, a text as it is, or token ids.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptLine {
    question: Option<String>,
    prompt: Option<String>,
    prompt_ids: Option<Vec<u32>>,
}

#[derive(Serialize)]
struct Generated<'a> {
    /// Line of the input, from 1.
    line: usize,
    sample: u32,
    prompt_ids: &'a [u32],
    text: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish: FinishReason,
    answer: Option<String>,
    scores: serde_json::Map<String, serde_json::Value>,
}

pub(super) fn perform(config: &Config, args: &GenerateArgs) -> Result<ExitCode> {
    let profiler = Profiler::start(args.profile);
    let text = args.policy.text(config)?;
    let Named { policy, name } = block_on(args.policy.load(config, &text))?;
    note(&format!("policy: {name}"));
    profiler.iter().for_each(|profiler| profiler.phase("open"));
    let mut jobs = Vec::new();
    let input = read_lines(args.input.as_deref())?;
    let trajectories = input.len().saturating_mul(args.samples as usize);
    ensure!(
        trajectories <= TRAJECTORIES_MAX,
        "{} lines with {} samples each are {trajectories} trajectories; at most {TRAJECTORIES_MAX}",
        input.len(),
        args.samples
    );
    for (line, content) in input {
        let start = start(&text, args.no_special_tokens);
        let prompt_ids = prompt_ids(&text, &start, &content).with_context(|| format!("in line {line}"))?;
        for sample in 0..args.samples {
            jobs.push(Job {
                task_id: line.to_string(),
                kind: config.tasks.task_kind(),
                variant: None,
                prompt_ids: prompt_ids.clone(),
                address: Address::new(config.run.seed, Purpose::Rollout, 0, &line.to_string(), &[sample]),
            });
        }
    }
    let rollout = &config.rollout;
    let drawn = Sampling {
        temperature: rollout.temperature,
        top_k: rollout.top_k,
        top_p: rollout.top_p,
        min_p: rollout.min_p,
    };
    let sampling = if args.greedy { Sampling::GREEDY } else { drawn };
    let trees = with_tools(config, &text, &policy, sampling, &|_| (), |tools| rollout::chains(tools, &jobs))?;
    let mut out = std::io::stdout().lock();
    for group in trees.chunks(args.samples as usize) {
        write_group(&mut out, group)?;
    }
    profiler.iter().for_each(|profiler| profiler.show("generate"));
    Ok(ExitCode::SUCCESS)
}

/// The trajectories of one line, with their vote among each other.
fn write_group(out: &mut impl Write, trees: &[Tree]) -> Result<()> {
    let leaves: Vec<_> = trees.iter().filter_map(|tree| Some((tree, tree.leaves.first()?))).collect();
    let answers: Vec<Option<&str>> = leaves.iter().map(|(_, leaf)| leaf.answer.as_deref()).collect();
    let votes = score::vote(&answers);
    for (sample, ((tree, leaf), vote)) in leaves.iter().zip(votes).enumerate() {
        let logprobs = tree.completion_logprobs(leaf);
        let thoughts: Vec<_> = tree.path(leaf).into_iter().map(|i| &tree.thoughts[i]).collect();
        let scores = score::logprob_scores(&thoughts).into_iter().chain([vote]);
        let row = Generated {
            line: tree.task_id.parse().unwrap_or_default(),
            sample: sample as u32,
            prompt_ids: &tree.prompt_ids,
            text: tree.completion_text(leaf),
            token_ids: tree.completion_ids(leaf),
            logprobs,
            finish: leaf.finish,
            answer: leaf.answer.clone(),
            scores: scores.map(|s| (s.scorer.to_string(), json(s))).collect(),
        };
        json_line(out, &row)?;
    }
    Ok(())
}

fn json(score: Score) -> serde_json::Value {
    match score.value {
        Ok(value) => serde_json::json!(value),
        Err(error) => serde_json::json!({ "error": error }),
    }
}

/// How a "prompt" becomes token ids.
fn start(text: &Text, no_special_tokens: bool) -> impl Fn(&str) -> Result<Vec<u32>> {
    move |prompt| if no_special_tokens { text.encode(prompt) } else { text.encode_start(prompt) }
}

fn prompt_ids(text: &Text, start: &impl Fn(&str) -> Result<Vec<u32>>, content: &str) -> Result<Vec<u32>> {
    if !content.trim_start().starts_with('{') {
        return text.prompt_ids(content);
    }
    let line: PromptLine = serde_json::from_str(content).context("not a prompt")?;
    match (line.question, line.prompt, line.prompt_ids) {
        (Some(question), None, None) => text.prompt_ids(&question),
        (None, Some(prompt), None) => start(&prompt),
        (None, None, Some(ids)) => Ok(ids),
        _ => anyhow::bail!("give exactly one of \"question\", \"prompt\" and \"prompt_ids\""),
    }
}

/// Lines that aren't blank, with their numbers from 1.
fn read_lines(path: Option<&Path>) -> Result<Vec<(usize, String)>> {
    let mut found = Vec::new();
    for numbered in lines::numbered(lines::open(path)?) {
        found.push(numbered?);
        ensure!(found.len() <= LINES_MAX, "the input has more than {LINES_MAX} lines; split it");
    }
    Ok(found)
}

/// A sequence to read: ids as they are, or texts to tokenize.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SequenceLine {
    ids: Option<Vec<u32>>,
    /// First position whose log-probability is wanted; 1 when left out.
    from: Option<usize>,
    prompt: Option<String>,
    completion: Option<String>,
}

#[derive(Serialize)]
struct LogprobsLine<'a> {
    line: usize,
    ids: &'a [u32],
    /// Position of the first log-probability.
    from: usize,
    logprobs: &'a [f32],
    sum: f32,
}

pub(super) fn logprobs(config: &Config, args: &LogprobsArgs) -> Result<ExitCode> {
    let text = args.policy.text(config)?;
    let Named { policy, name } = block_on(args.policy.load(config, &text))?;
    note(&format!("policy: {name}"));
    let (mut numbers, mut requests) = (Vec::new(), Vec::new());
    for (line, content) in read_lines(args.input.as_deref())? {
        let start = start(&text, args.no_special_tokens);
        requests.push(sequence(&text, &start, &content).with_context(|| format!("in line {line}"))?);
        numbers.push(line);
    }
    let readings = policy.engine().read(&requests)?;
    let mut out = std::io::stdout().lock();
    for ((line, request), reading) in numbers.iter().zip(&requests).zip(&readings) {
        let logprobs = &reading.logprobs;
        let row = LogprobsLine {
            line: *line,
            ids: &request.ids,
            from: request.from,
            logprobs,
            sum: logprobs.iter().sum(),
        };
        json_line(&mut out, &row)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn sequence(text: &Text, start: &impl Fn(&str) -> Result<Vec<u32>>, content: &str) -> Result<ReadRequest> {
    let line: SequenceLine = serde_json::from_str(content).context("not a sequence")?;
    let (ids, from) = match (line.ids, line.prompt, line.completion) {
        (Some(ids), None, None) => (ids, line.from.unwrap_or(1)),
        (None, Some(prompt), Some(completion)) => {
            let prompt = start(&prompt)?;
            let from = prompt.len();
            ([prompt, text.encode(&completion)?].concat(), from)
        }
        _ => anyhow::bail!("give \"ids\" (and \"from\"), or \"prompt\" and \"completion\""),
    };
    ensure!(
        (1..=ids.len()).contains(&from),
        "\"from\" is {from} for {} tokens; nothing predicts the first token, so give 1 to {}",
        ids.len(),
        ids.len()
    );
    Ok(ReadRequest { ids, from, hidden_at: Vec::new() })
}
