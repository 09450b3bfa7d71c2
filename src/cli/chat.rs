//! `autodidact chat`: a conversation with a policy, through its chat template, as it is drawn.
//!
//! The reply is drawn in pieces of a few tokens. The engine remembers the keys and values of what it
//! read, so a piece costs little more than its tokens.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use super::generate::sampling;
use super::policy::{Named, PolicyArgs};
use super::terminal::{json_line, note, print, safe};
use super::{Common, block_on, lines};
use crate::config::Config;
use crate::domain::{Address, FinishReason, Purpose, Request, Stops};
use crate::policy::Policy;
use crate::text::{Text, Turn};

/// Tokens that are drawn before they are shown.
const PIECE: usize = 8;

#[derive(Args)]
pub(super) struct ChatArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Decode greedily instead of with the configuration's [rollout] sampling
    #[arg(long)]
    greedy: bool,
    /// System message (default: model.system)
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
}

/// What `--json` prints for each message.
#[derive(Serialize)]
struct Reply<'a> {
    message: &'a str,
    reply: &'a str,
    tokens: usize,
    finish: FinishReason,
}

pub(super) fn perform(common: &Common, config: &Config, args: &ChatArgs) -> Result<ExitCode> {
    let mut config = config.clone();
    if let Some(system) = &args.system {
        config.model.system = system.clone();
    }
    let text = args.policy.text(&config)?;
    let Named { policy, name } = block_on(args.policy.load(&config, &text))?;
    note(&format!("policy: {name}"));
    if !text.is_chat() {
        note("This model has no chat template: each message is asked by itself, as a question.");
    }
    let typed = std::io::stdin().is_terminal();
    if typed {
        note("/reset forgets the conversation; /exit or Ctrl-D ends.");
    }
    let stops = text.stops(config.tasks.task_kind(), &config.rollout.stop)?;
    let mut chat =
        Chat { config: &config, text: &text, policy: &policy, stops, args, turns: Vec::new(), asked: 0 };
    let mut reader = lines::open(None)?;
    loop {
        if typed {
            prompt()?;
        }
        let Some(message) = next_message(&mut reader)? else { break };
        match message.trim() {
            "" => {}
            "/exit" | "/quit" => break,
            "/reset" => {
                chat.turns.clear();
                note("forgotten");
            }
            message => chat.answer(message, common.json)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prompt() -> Result<()> {
    let mut err = std::io::stderr().lock();
    err.write_all(b"\n> ")?;
    Ok(err.flush()?)
}

fn next_message(reader: &mut impl BufRead) -> Result<Option<String>> {
    lines::numbered(reader).next().map(|line| line.map(|(_, text)| text)).transpose()
}

struct Chat<'a> {
    config: &'a Config,
    text: &'a Text,
    policy: &'a Policy,
    stops: Stops,
    args: &'a ChatArgs,
    turns: Vec<Turn>,
    asked: u32,
}

impl Chat<'_> {
    /// Draws the reply and shows it piece by piece; with `json`, a line at its end.
    fn answer(&mut self, message: &str, json: bool) -> Result<()> {
        self.turns.push(Turn::user(message));
        let prompt = match self.prompt(message) {
            Ok(prompt) => prompt,
            Err(error) => {
                // The conversation goes on without the message.
                self.turns.pop();
                note(&format!("error: {error:#}"));
                return Ok(());
            }
        };
        self.asked += 1;
        let mut shown = 0;
        let (ids, finish) = self.draw(prompt, &mut |reply| {
            if !json {
                show(reply.get(shown..).unwrap_or_default())?;
                shown = reply.len();
            }
            Ok(())
        })?;
        let reply = self.text.decode(&ids)?;
        match json {
            true => json_line(
                &mut std::io::stdout().lock(),
                &Reply { message, reply: &reply, tokens: ids.len(), finish },
            )?,
            false => show(&format!("{}\n", reply.get(shown..).unwrap_or_default()))?,
        }
        if finish == FinishReason::TokensMax {
            note(&format!("(cut after rollout.tokens_max = {} tokens)", self.config.rollout.tokens_max));
        }
        self.turns.push(Turn::assistant(reply.trim_end()));
        Ok(())
    }

    /// The conversation up to the reply.
    fn prompt(&self, message: &str) -> Result<Vec<u32>> {
        let prompt = match self.text.is_chat() {
            true => self.text.conversation(&self.turns)?,
            false => self.text.prompt_ids(message)?,
        };
        let (tokens, context) = (prompt.len(), self.policy.engine().context_max());
        ensure!(
            tokens < context,
            "the conversation has {tokens} tokens and the model's context {context}: /reset, or a shorter message"
        );
        Ok(prompt)
    }

    /// The reply's tokens; `each` sees the text so far, whole characters only.
    fn draw(
        &self,
        prompt: Vec<u32>,
        each: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<(Vec<u32>, FinishReason)> {
        let (begin, most) = (prompt.len(), self.config.rollout.tokens_max);
        let most = most.min(self.policy.engine().context_max() - begin);
        let (mut ids, mut piece) = (prompt, 0);
        loop {
            let left = begin + most - ids.len();
            let request = Request {
                context_ids: ids.clone(),
                // Each piece has its part of the random stream.
                address: Address::new(
                    self.config.run.seed,
                    Purpose::Rollout,
                    0,
                    "chat",
                    &[self.asked, piece],
                ),
                sampling: sampling(self.config, self.args.greedy),
                tokens_max: PIECE.min(left),
                // So the engine remembers what it read.
                stop_at_boundary: true,
            };
            let drawn = self.policy.engine().generate(&[request], &self.stops, &|_| ())?.remove(0);
            ids.extend(&drawn.token_ids);
            let goes_on = matches!(drawn.finish, FinishReason::TokensMax | FinishReason::Boundary);
            if !goes_on || ids.len() >= begin + most || drawn.token_ids.is_empty() {
                let finish = if goes_on { FinishReason::TokensMax } else { drawn.finish };
                return Ok((ids.split_off(begin), finish));
            }
            // A character may end in the next piece.
            let text = self.text.decode(&ids[begin..])?;
            each(text.trim_end_matches('\u{fffd}'))?;
            piece += 1;
        }
    }
}

/// Writes a part of a reply at once, without anything that a terminal would act on.
fn show(part: &str) -> Result<()> {
    print(&safe(part, false))
}
