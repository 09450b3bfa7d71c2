//! `autodidact generate` and `autodidact logprobs`: a policy as a filter over JSON lines.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::meter::Meter;
use super::policy::{Named, PolicyArgs};
use super::profile::{ProfileArgs, Profiler};
use super::progress::Shows;
use super::terminal::{json_line, note, print, safe};
use super::{Common, block_on, lines};
use crate::config::Config;
use crate::domain::{Address, AnswerMap, FinishReason, Purpose, ReadRequest, Sampling, Score, Tree};
use crate::improve::with_tools;
use crate::policy::Policy;
use crate::rollout::{self, Job};
use crate::score;
use crate::text::Text;

/// Most trajectories per line, and of all lines together.
const SAMPLES_MAX: i64 = 100_000;
const TRAJECTORIES_MAX: u64 = 10_000_000;

/// Sequences that `logprobs` reads in a call.
const LINES_MAX: usize = 1_000_000;

/// Trajectories that are drawn together; those of a line always are.
const TOGETHER: usize = 512;

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

/// A line that could not be asked; the others are.
#[derive(Serialize)]
struct Refused<'a> {
    line: usize,
    error: &'a str,
}

pub(super) fn perform(common: &Common, config: &Config, args: &GenerateArgs) -> Result<ExitCode> {
    let profiler = Profiler::start(args.profile);
    let text = args.policy.text(config)?;
    let Named { policy, name } = block_on(args.policy.load(config, &text))?;
    note(&format!("policy: {name}"));
    profiler.iter().for_each(|profiler| profiler.phase("open"));
    let typed = args.input.is_none() && std::io::stdin().is_terminal();
    if typed {
        note("Type a question and press Enter; end with Ctrl-D. `autodidact chat` keeps a conversation.");
    }
    let samples = u64::from(args.samples);
    let total = args.input.as_deref().map(count).transpose()?.map(|lines| lines * samples);
    check_count(total.unwrap_or(0))?;
    let people = std::io::stdout().is_terminal() && !common.json;
    // Where the answers appear there is no room for a bar.
    let meter = Meter::new("generate", total, if people { Shows::Nothing } else { common.shows() });
    let asker = Asker { config, text: &text, policy: &policy, args, meter: &meter };
    let together = if typed { 1 } else { (TOGETHER / args.samples as usize).max(1) };
    let mut numbered = lines::numbered(lines::open(args.input.as_deref())?).peekable();
    let (mut asked, mut refused) = (0, 0);
    while numbered.peek().is_some() {
        let mut unit: Vec<Result<(usize, String)>> = numbered.by_ref().take(together).collect();
        // What can't be read has nothing after it that can.
        let unread = unit.pop_if(|line| line.is_err());
        let unit: Vec<(usize, String)> = unit.into_iter().collect::<Result<_>>()?;
        asked += unit.len();
        check_count((asked as u64).saturating_mul(samples))?;
        refused += asker.answer(&unit, people)?;
        unread.transpose()?;
    }
    meter.finish();
    profiler.iter().for_each(|profiler| profiler.show("generate"));
    if refused > 0 {
        note(&format!("{refused} of {asked} lines could not be asked; their errors are in the output"));
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// Lines of a file that will be asked, up to the first that can't be read.
fn count(path: &Path) -> Result<u64> {
    Ok(lines::numbered(lines::open(Some(path))?).take_while(Result::is_ok).count() as u64)
}

fn check_count(trajectories: u64) -> Result<()> {
    ensure!(
        trajectories <= TRAJECTORIES_MAX,
        "all lines with all samples are {trajectories} trajectories; at most {TRAJECTORIES_MAX}: ask in parts"
    );
    Ok(())
}

/// What lines are answered with.
struct Asker<'a> {
    config: &'a Config,
    text: &'a Text,
    policy: &'a Policy,
    args: &'a GenerateArgs,
    meter: &'a Meter,
}

impl Asker<'_> {
    /// Draws for all lines together and writes what was drawn, in order; returns how many lines were
    /// refused.
    fn answer(&self, unit: &[(usize, String)], people: bool) -> Result<usize> {
        let jobs: Vec<Result<Vec<Job>>> =
            unit.iter().map(|(line, content)| self.jobs(*line, content)).collect();
        let drawn = self.draw(&jobs.iter().flatten().flatten().cloned().collect::<Vec<_>>());
        let trees = match drawn {
            Ok(trees) => trees,
            // The engine refuses all for one: one by one, each is answered or named.
            Err(_) if unit.len() > 1 => {
                return unit.iter().map(|line| self.answer(std::slice::from_ref(line), people)).sum();
            }
            Err(error) => return unit.iter().map(|(line, _)| refuse(*line, &error, people)).sum(),
        };
        self.meter.advance(trees.len());
        let (mut groups, mut refused) = (trees.chunks(self.args.samples as usize), 0);
        for ((line, content), jobs) in unit.iter().zip(jobs) {
            match jobs {
                Err(error) => refused += refuse(*line, &error, people)?,
                Ok(_) if people => print(&for_people(content, groups.next().unwrap_or_default()))?,
                Ok(_) => write_group(&mut std::io::stdout().lock(), groups.next().unwrap_or_default())?,
            }
        }
        std::io::stdout().flush()?;
        Ok(refused)
    }

    fn draw(&self, jobs: &[Job]) -> Result<Vec<Tree>> {
        let sampling = sampling(self.config, self.args.greedy);
        let on_tokens = |n| self.meter.tokens(n);
        with_tools(self.config, self.text, self.policy, sampling, &on_tokens, |tools| {
            rollout::chains(tools, jobs)
        })
    }

    /// A job for each sample of a line.
    fn jobs(&self, line: usize, content: &str) -> Result<Vec<Job>> {
        let start = start(self.text, self.args.no_special_tokens);
        let prompt_ids = prompt_ids(self.text, &start, content)?;
        let (tokens, context) = (prompt_ids.len(), self.policy.engine().context_max());
        ensure!(tokens < context, "the prompt has {tokens} tokens; the model's context is {context}");
        let job = |sample| Job {
            task_id: line.to_string(),
            kind: self.config.tasks.task_kind(),
            variant: None,
            answers: AnswerMap::new(),
            prompt_ids: prompt_ids.clone(),
            address: Address::new(self.config.run.seed, Purpose::Rollout, 0, &line.to_string(), &[sample]),
        };
        Ok((0..self.args.samples).map(job).collect())
    }
}

/// Writes why a line could not be asked; it counts as one.
fn refuse(line: usize, error: &anyhow::Error, people: bool) -> Result<usize> {
    let error = format!("{error:#}");
    match people {
        true => print(&format!("line {line}: error: {error}\n\n"))?,
        false => json_line(&mut std::io::stdout().lock(), &Refused { line, error: &error })?,
    }
    Ok(1)
}

/// The sampling of rollouts, or greedy.
pub(super) fn sampling(config: &Config, greedy: bool) -> Sampling {
    let rollout = &config.rollout;
    match greedy {
        true => Sampling::GREEDY,
        false => Sampling {
            temperature: rollout.temperature,
            top_k: rollout.top_k,
            top_p: rollout.top_p,
            min_p: rollout.min_p,
        },
    }
}

/// A question with its answers, as text.
fn for_people(question: &str, trees: &[Tree]) -> String {
    let mut out = format!("> {}\n", safe(question, false));
    for (tree, leaf) in trees.iter().filter_map(|tree| Some((tree, tree.leaves.first()?))) {
        let answer =
            leaf.answer.as_deref().map_or_else(|| "no answer read".to_owned(), |a| format!("answer: {a}"));
        let cut = if leaf.finish == FinishReason::Eos {
            String::new()
        } else {
            format!(" · cut: {}", leaf.finish)
        };
        out += &format!(
            "{}\n[{answer} · {} tokens{cut}]\n\n",
            safe(tree.completion_text(leaf).trim_end(), false),
            tree.drawn_tokens()
        );
    }
    out
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
