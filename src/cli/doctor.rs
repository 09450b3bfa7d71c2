//! `autodidact doctor`: the machine, the configuration, and what a run will need, measured by a short probe.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Common;
use super::hub::{self, HubReport};
use super::lengths::{self, SplitLengths};
use crate::config::{Config, Matmul};
use crate::data::{Dataset, FileReport, Report};
use crate::domain::{Address, Purpose, Sampling, Split, Task};
use crate::improve::{
    Lengths, Policy, PolicyKind, Use, check_aux_models, check_tasks, dataset, ensure_space, memory_advice,
    memory_needed, replay_notice, trainable, with_tools,
};
use crate::rollout::{self, Job};
use crate::text::Text;
use crate::train::{self, Group, Hyper, Trainer};

/// Rows left out that are spelled out on the terminal; `--json` has them all.
const LEFT_OUT_SHOWN: usize = 10;

/// Trajectories of the probe.
const PROBE_JOBS: usize = 64;

/// What a run will need, and whether it is there.
#[derive(Serialize)]
struct Diagnosis {
    threads: usize,
    /// Instruction set that the kernels use.
    cpu: &'static str,
    /// How products with the model's matrices are computed.
    matmul: Matmul,
    memory_free_mib: u64,
    disk_free_mib: u64,
    model: String,
    /// The configured models that are the hub's.
    hub: Vec<HubReport>,
    parameters: usize,
    /// Those that training changes: all, or an adapter's.
    trained_parameters: usize,
    tasks: usize,
    /// Whether questions are asked through the checkpoint's chat template.
    chat: bool,
    prompt_tokens_max: usize,
    /// Token lengths by split.
    tokens: Vec<SplitLengths>,
    left_out: LeftOut,
    context_max: usize,
    generation_tokens_per_s: f64,
    training_tokens_per_s: f64,
    memory_needed_mib: u64,
    disk_needed_mib: u64,
    estimated_seconds: f64,
    /// What is worth knowing and no problem.
    notes: Vec<String>,
    problems: Vec<String>,
}

/// What the files of tasks are, and which of their rows are not used.
#[derive(Serialize)]
struct LeftOut {
    /// Name, format and number of rows of each file.
    files: Vec<String>,
    /// Rows that overlap with measuring ones, and with which.
    overlaps: Vec<String>,
    repeated: Vec<String>,
    beyond_split_max: usize,
}

impl LeftOut {
    fn of(report: &Report) -> Self {
        let file = |file: &FileReport| {
            let by = file.recognised_by.map(|by| format!(", recognised by {by}")).unwrap_or_default();
            format!("{}: {} rows of format {}{by}", file.name, file.rows, file.format.name())
        };
        Self {
            files: report.files.iter().map(file).collect(),
            overlaps: report.overlaps.iter().map(ToString::to_string).collect(),
            repeated: report.repeated.clone(),
            beyond_split_max: report.beyond_max,
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.files.iter().map(|file| format!("file         {file}")).collect();
        for (what, rows) in [("overlapping", &self.overlaps), ("repeated", &self.repeated)] {
            if !rows.is_empty() {
                lines.push(format!("left out     {} {what} rows, such as:", rows.len()));
                lines.extend(rows.iter().take(LEFT_OUT_SHOWN).map(|row| format!("             {row}")));
            }
        }
        if self.beyond_split_max > 0 {
            lines.push(format!("left out     {} rows beyond tasks.split_max", self.beyond_split_max));
        }
        lines
    }
}

/// Prints the diagnosis; exit code 1 when a run could not work.
pub fn perform(common: &Common, mut config: Config) -> Result<ExitCode> {
    let hub = hub::look(&mut config)?;
    if !hub.iter().all(HubReport::is_cached) {
        return not_here(common, &hub);
    }
    let config = &config;
    let diagnosis = diagnose(config, hub)?;
    if common.json {
        super::print(&(serde_json::to_string_pretty(&diagnosis)? + "\n"))?;
    } else {
        super::print(&text(config, &diagnosis))?;
    }
    Ok(if diagnosis.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Without the model nothing can be measured, and fetching it is for the commands that use it.
fn not_here(common: &Common, hub: &[HubReport]) -> Result<ExitCode> {
    if common.json {
        let json = serde_json::json!({ "hub": hub, "problems": [] });
        super::print(&(serde_json::to_string_pretty(&json)? + "\n"))?;
    } else {
        let mut lines: Vec<String> = hub.iter().flat_map(HubReport::lines).collect();
        lines.push(
            "not measured: `autodidact run` or `autodidact generate` fetches it; then ask again".to_owned(),
        );
        super::print(&(lines.join("\n") + "\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn diagnose(config: &Config, hub: Vec<HubReport>) -> Result<Diagnosis> {
    let memory_free = memory_free()?;
    let text = PolicyKind::Model.text(config)?;
    let policy = PolicyKind::Model.base(config, &text, Use::Train, None)?;
    let Dataset { tasks, report } = dataset(config)?;
    let (generation, drawn) = probe_generation(config, &text, &policy, &tasks)?;
    let training = probe_training(config, &text, &policy, &tasks)?;
    let Policy::Model(model) = &policy else { anyhow::bail!("only a model can be diagnosed") };
    let parameters = model.body.parameter_count();
    let work = Work::of(config, &tasks, drawn);
    let tokens = lengths::measure(&tasks, &text)?;

    let dir = existing_parent(Path::new(&config.run.dir));
    let trained_parameters = trainable(model, config, 1)?.element_count();
    let prompt_tokens_max = tokens.iter().map(|split| split.prompt.max).max().unwrap_or(0);
    let longest = prompt_tokens_max + config.rollout.tokens_max;
    let (memory_needed, _) =
        memory_needed(config, model, &tasks, Lengths { longest, drawn: drawn.ceil() as usize })?;
    let checkpoints = (config.checkpoints.keep as u64 + 3) * trained_parameters as u64 * 4;
    let mut diagnosis = Diagnosis {
        threads: rayon::current_num_threads(),
        cpu: crate::ops::kernels::instruction_set(),
        matmul: config.model.matmul,
        memory_free_mib: memory_free >> 20,
        disk_free_mib: fs4::available_space(dir)? >> 20,
        model: config.model.path.clone(),
        hub,
        parameters,
        trained_parameters,
        tasks: tasks.len(),
        chat: text.is_chat(),
        prompt_tokens_max,
        tokens,
        left_out: LeftOut::of(&report),
        context_max: policy.engine().context_max(),
        generation_tokens_per_s: generation,
        training_tokens_per_s: training,
        memory_needed_mib: memory_needed as u64 >> 20,
        disk_needed_mib: (checkpoints + work.stored_bytes()) >> 20,
        estimated_seconds: work.drawn_tokens / generation + work.trained_tokens / training,
        notes: replay_notice(config, &tasks).into_iter().collect(),
        problems: Vec::new(),
    };
    diagnosis.problems = problems(config, &diagnosis, dir);
    let context_max = diagnosis.context_max;
    diagnosis.problems.extend(check_tasks(&tasks, &text, context_max).err().map(|e| format!("{e:#}")));
    diagnosis.problems.extend(check_aux_models(config, &policy, &text).err().map(|e| format!("{e:#}")));
    Ok(diagnosis)
}

/// Bytes of memory that are free.
pub(super) fn memory_free() -> Result<u64> {
    let mut system = sysinfo::System::new().context("cannot ask for the memory")?;
    system.refresh_memory();
    Ok(system.available_memory())
}

fn problems(config: &Config, d: &Diagnosis, dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    if d.memory_needed_mib > d.memory_free_mib {
        problems.push(memory_advice(d.memory_needed_mib, d.memory_free_mib));
    }
    if let Err(error) = ensure_space(dir, d.disk_needed_mib << 20) {
        problems.push(error.to_string());
    }
    let longest = d.prompt_tokens_max + config.rollout.tokens_max;
    if longest > d.context_max {
        problems.push(format!(
            "the longest prompt and rollout.tokens_max make {longest} tokens, more than the model's {}: lower \
             rollout.tokens_max",
            d.context_max
        ));
    }
    problems
}

/// How much a run will do.
struct Work {
    drawn_tokens: f64,
    trained_tokens: f64,
    thoughts: f64,
}

impl Work {
    /// `drawn` is the mean length of a probe's trajectory, in tokens.
    fn of(config: &Config, tasks: &[Task], drawn: f64) -> Self {
        let iterations = f64::from(config.run.iterations);
        let rollout = &config.rollout;
        let per_iteration = rollout.tasks as f64 * f64::from(rollout.variants) * f64::from(rollout.samples);
        let measured = tasks.iter().filter(|t| matches!(t.split, Split::Gate | Split::HeldOut)).count()
            as f64
            + f64::from(config.eval.samples) * config.eval.sampled_tasks as f64;
        let trajectories = iterations * per_iteration + (iterations + 1.0) * measured;
        let trained = iterations * f64::from(config.train.steps) * config.train.step_tokens as f64;
        Self {
            drawn_tokens: trajectories * drawn,
            trained_tokens: trained,
            thoughts: trajectories * drawn / 8.0,
        }
    }

    /// Rough size of the rows, from the measured size of a thought's row.
    fn stored_bytes(&self) -> u64 {
        (self.thoughts * 700.0) as u64
    }
}

/// Tokens per second of drawing, and the mean number of tokens drawn.
fn probe_generation(config: &Config, text: &Text, policy: &Policy, tasks: &[Task]) -> Result<(f64, f64)> {
    let job = |(i, task): (usize, &Task)| {
        Ok(Job {
            task_id: task.id.clone(),
            kind: task.kind,
            variant: None,
            prompt_ids: text.prompt_ids_of(task.kind, &task.question)?,
            address: Address::new(config.run.seed, Purpose::Evaluation, 0, &task.id, &[i as u32]),
        })
    };
    let train: Vec<&Task> = tasks.iter().filter(|t| t.split == Split::Train).collect();
    let jobs: Vec<Job> =
        train.into_iter().cycle().take(PROBE_JOBS).enumerate().map(job).collect::<Result<_>>()?;
    let sampling = Sampling { temperature: config.rollout.temperature, ..Sampling::GREEDY };
    let began = Instant::now();
    let trees = with_tools(config, text, policy, sampling, &|_| (), |tools| rollout::chains(tools, &jobs))?;
    let tokens = trees.iter().map(|t| t.drawn_tokens()).sum::<usize>() as f64;
    Ok((tokens / began.elapsed().as_secs_f64(), tokens / trees.len() as f64))
}

/// Tokens per second of training, over one update on easy tasks, or on train tasks' questions if no easy task has
/// a solution.
fn probe_training(config: &Config, text: &Text, policy: &Policy, tasks: &[Task]) -> Result<f64> {
    let Policy::Model(model) = policy else { anyhow::bail!("only a model can be trained") };
    let mut examples: Vec<Group> = Vec::new();
    for task in tasks.iter().filter(|t| t.split == Split::Easy) {
        let Some(solution) = &task.solution else { continue };
        let (prompt, completion) =
            (text.prompt_ids_of(task.kind, &task.question)?, text.completion_ids(solution)?);
        examples.push(train::example_from_solution(&prompt, &completion, &task.id).into());
    }
    if examples.is_empty() {
        for task in tasks.iter().filter(|t| t.split == Split::Train).take(PROBE_JOBS) {
            let (prompt, again) =
                (text.prompt_ids_of(task.kind, &task.question)?, text.completion_ids(&task.question)?);
            examples.push(train::example_from_solution(&prompt, &again, &task.id).into());
        }
    }
    anyhow::ensure!(!examples.is_empty(), "there is no task to probe training with");
    let (mut batch, mut tokens) = (Vec::new(), 0);
    for example in examples.iter().cycle() {
        if !batch.is_empty() && tokens + example.tokens() > config.train.step_tokens {
            break;
        }
        tokens += example.tokens();
        batch.push(example);
    }
    let trainable = trainable(model, config, 1)?;
    let mut trainer = Trainer::new(trainable, Hyper::from(&config.train), config.train.steps)?
        .in_passes((&config.train).into());
    let began = Instant::now();
    let report = trainer.step(&batch)?;
    Ok(report.tokens as f64 / began.elapsed().as_secs_f64())
}

/// The nearest folder that exists.
fn existing_parent(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."))
}

fn text(config: &Config, d: &Diagnosis) -> String {
    let mut lines = Vec::new();
    lines.push(format!("threads      {} ({})", d.threads, d.cpu));
    if d.matmul.parts().is_some() {
        lines.push(format!("matmul       {}, by tiles of bf16 (model.matmul)", d.matmul.name()));
    }
    lines.push(format!(
        "memory       about {} MiB needed, {} MiB free",
        d.memory_needed_mib, d.memory_free_mib
    ));
    lines.push(format!(
        "disk         about {} MiB needed, {} MiB free in {}",
        d.disk_needed_mib, d.disk_free_mib, config.run.dir
    ));
    lines.push(format!(
        "model        {} ({} parameters, {} trained, context {} tokens)",
        d.model, d.parameters, d.trained_parameters, d.context_max
    ));
    lines.extend(d.hub.iter().flat_map(HubReport::lines));
    lines
        .push(format!("asked        {}", if d.chat { "through its chat template" } else { "as plain text" }));
    lines.push(format!("tasks        {} (longest prompt {} tokens)", d.tasks, d.prompt_tokens_max));
    lines.extend(d.left_out.lines());
    lines.extend(lengths::lines(&d.tokens));
    lines.push(format!("generation   {:.0} tokens/s", d.generation_tokens_per_s));
    lines.push(format!("training     {:.0} tokens/s", d.training_tokens_per_s));
    lines.push(format!("estimated    {:.0} s for {} iterations", d.estimated_seconds, config.run.iterations));
    lines.extend(d.notes.iter().map(|note| format!("note         {note}")));
    for problem in &d.problems {
        lines.push(format!("problem: {problem}"));
    }
    if d.problems.is_empty() {
        lines.push("ready: `autodidact run`".to_owned());
    }
    lines.join("\n") + "\n"
}
