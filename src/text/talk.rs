//! How a question is put to a checkpoint that has a chat template: one user message, perhaps a system message
//! before it, and the assistant's turn.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use minijinja::Value;

use super::chat::{ChatRequest, ChatTemplate};
use super::files::{self, TokenizerFile};
use crate::config::{ChatMode, ModelSource, Thinking};

/// An answer that no template writes by itself: what follows it is how a turn ends.
const ANSWER: &str = "autodidact";

#[derive(Clone)]
pub(super) struct Talk {
    template: ChatTemplate,
    request: ChatRequest,
    system: String,
    identity: String,
}

impl Talk {
    /// `None` if the checkpoint has no chat template, or none is wanted.
    pub fn new(files: &[TokenizerFile], cfg: &ModelSource) -> Result<Option<Self>> {
        if cfg.chat == ChatMode::Plain {
            return Ok(None);
        }
        let way_out = "set model.chat = \"plain\" to do without the chat template";
        let Some(source) = files::chat_template(files).context(way_out)? else { return Ok(None) };
        let date = cfg.date.parse().map_err(|error| anyhow!("model.date: {error}"))?;
        let template = ChatTemplate::new(&source, files::special_texts(files)?, date).context(way_out)?;
        let thinking = match cfg.thinking {
            Thinking::Auto => None,
            Thinking::On => Some(true),
            Thinking::Off => Some(false),
        };
        let variables = thinking.map(|on| ("enable_thinking".to_owned(), Value::from(on)));
        let request = ChatRequest {
            add_generation_prompt: true,
            variables: variables.into_iter().collect(),
            tools: None,
        };
        let identity = format!("{source}\0{}\0{thinking:?}\0{date}", cfg.system);
        let talk = Self { template, request, system: cfg.system.clone(), identity };
        // A template that refuses a single question refuses every task.
        talk.prompt("?").context(way_out)?;
        Ok(Some(talk))
    }

    /// Everything that decides what a prompt becomes.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The conversation up to where the assistant speaks, special tokens included.
    pub fn prompt(&self, question: &str) -> Result<String> {
        self.template.render(&self.messages(question, None), &self.request)
    }

    /// What the template writes after an answer: the token that ends a turn, and whatever comes next. `None` if
    /// it writes the answer in no recognisable way.
    pub fn after_answer(&self) -> Option<String> {
        let request = ChatRequest { add_generation_prompt: false, ..self.request.clone() };
        let text = self.template.render(&self.messages("?", Some(ANSWER)), &request).ok()?;
        text.rfind(ANSWER).map(|at| text[at + ANSWER.len()..].to_owned())
    }

    fn messages(&self, question: &str, answer: Option<&str>) -> Value {
        let system = (!self.system.is_empty()).then_some(("system", self.system.as_str()));
        let turns =
            system.into_iter().chain([("user", question)]).chain(answer.map(|text| ("assistant", text)));
        let message = |(role, content): (&str, &str)| {
            Value::from(BTreeMap::from([("role", Value::from(role)), ("content", Value::from(content))]))
        };
        Value::from(turns.map(message).collect::<Vec<_>>())
    }
}
