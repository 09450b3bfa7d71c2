//! `autodidact inspect trajectories`: which ones to list, and the command for the rest.

use anyhow::Result;
use clap::Args;

use super::super::terminal::pretty;
use super::{VERDICT, run_or_main};
use crate::domain::{Purpose, Split};
use crate::inspect::{self, Style};
use crate::report;
use crate::store::{CHUNK_ROWS_MAX, Reader, TrajectoryFilter, Window};

#[derive(Args)]
pub(super) struct ListArgs {
    /// Only this iteration
    #[arg(long, value_name = "N")]
    iteration: Option<u32>,
    /// Id of the run (default: the loop proper)
    #[arg(long, value_name = "ID")]
    run: Option<i64>,
    /// Only what selection kept
    #[arg(long, conflicts_with = "dropped")]
    kept: bool,
    /// Only what selection dropped
    #[arg(long)]
    dropped: bool,
    /// Only wrong answers, by gold answers
    #[arg(long, conflicts_with = "right")]
    wrong: bool,
    /// Only right answers, by gold answers
    #[arg(long)]
    right: bool,
    /// Only attempts at this task
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Only attempts at tasks of this split: easy, anchor, train, gate, heldout
    #[arg(long)]
    split: Option<Split>,
    /// Only where all these words occur, in the question, the thoughts or the answer
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only what was sampled for this: rollout, evaluation, bootstrap
    #[arg(long, default_value = "rollout", conflicts_with = "all")]
    purpose: Purpose,
    /// What was sampled for any purpose
    #[arg(long)]
    all: bool,
    /// Most trajectories to list
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CHUNK_ROWS_MAX)))]
    limit: u32,
    /// Only those after this one
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
}

/// The list as text or JSON.
pub(super) async fn perform(reader: &Reader, args: &ListArgs, json: bool, style: &Style) -> Result<String> {
    let run = run_or_main(reader, args.run).await?;
    if let Some(iteration) = args.iteration {
        report::known_iteration(reader, run, iteration).await?;
    }
    if let Some(task) = &args.task {
        report::known_task(reader, task).await?;
    }
    let filter = TrajectoryFilter {
        run: Some(run),
        iteration: args.iteration,
        purpose: (!args.all).then_some(args.purpose),
        task_id: args.task.clone(),
        split: args.split,
        kept: (args.kept || args.dropped).then_some(args.kept),
        search: args.search.clone(),
    };
    let right = (args.right || args.wrong).then_some(args.right);
    let window = Window { after: args.after, limit: args.limit };
    let page = report::trajectories(reader, &filter, right, window, VERDICT).await?;
    if json { pretty(&page) } else { Ok(inspect::trajectories(&page, &args.command(), style)) }
}

impl ListArgs {
    /// The command that lists the same.
    fn command(&self) -> String {
        let mut command = "autodidact inspect trajectories".to_owned();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                command += &format!(" --{name}");
                if !value.is_empty() {
                    let is_word =
                        value.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'));
                    command += &if is_word {
                        format!(" {value}")
                    } else {
                        format!(" '{}'", value.replace('\'', r"'\''"))
                    };
                }
            }
        };
        let flag = |is_set: bool| is_set.then(String::new);
        add("iteration", self.iteration.map(|n| n.to_string()));
        add("run", self.run.map(|id| id.to_string()));
        add("kept", flag(self.kept));
        add("dropped", flag(self.dropped));
        add("wrong", flag(self.wrong));
        add("right", flag(self.right));
        add("task", self.task.clone());
        add("split", self.split.map(|split| split.to_string()));
        add("search", self.search.clone());
        add("all", flag(self.all));
        add("purpose", (!self.all && self.purpose != Purpose::Rollout).then(|| self.purpose.to_string()));
        add("limit", (self.limit != 20).then(|| self.limit.to_string()));
        command
    }
}
