//! The prompt for a checkpoint with a chat template: one user message, after a system message if
//! there is one, and the beginning of the assistant's turn.

use anyhow::{Context, Result, anyhow};
use minijinja::{Value, context};

use super::chat::{ChatRequest, ChatTemplate};
use super::files::{self, TokenizerFile};
use super::settings::{ChatMode, ModelSource, Thinking};

/// An answer that no template writes by itself. The text after it is how a turn ends.
const ANSWER: &str = "autodidact";

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    role: &'static str,
    content: String,
}

impl Turn {
    /// What the user writes.
    pub fn user(content: &str) -> Self {
        Self { role: "user", content: content.to_owned() }
    }

    /// What the model wrote.
    pub fn assistant(content: &str) -> Self {
        Self { role: "assistant", content: content.to_owned() }
    }

    /// The same message with another text.
    pub(super) fn with(&self, content: impl FnOnce(&str) -> Result<String>) -> Result<Self> {
        Ok(Self { role: self.role, content: content(&self.content)? })
    }

    /// Its text.
    pub fn content(&self) -> &str {
        &self.content
    }
}

/// Writes questions as conversations, in the way that the checkpoint and the configuration ask for.
#[derive(Clone)]
pub(super) struct ChatPrompt {
    template: ChatTemplate,
    request: ChatRequest,
    system: String,
    identity: String,
}

impl ChatPrompt {
    /// `None` if the checkpoint has no chat template, or if `model.chat` is `plain`.
    pub(super) fn new(files: &[TokenizerFile], cfg: &ModelSource) -> Result<Option<Self>> {
        if cfg.chat == ChatMode::Plain {
            return Ok(None);
        }
        let remedy = "set model.chat = \"plain\" to do without the chat template";
        let Some(source) = files::chat_template(files).context(remedy)? else { return Ok(None) };
        let date = cfg.date.parse().map_err(|error| anyhow!("model.date: {error}"))?;
        let template = ChatTemplate::new(&source, files::special_texts(files)?, date).context(remedy)?;
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
        let chat = Self { template, request, system: cfg.system.clone(), identity };
        // A template that refuses a single question refuses every task.
        chat.prompt("?").context(remedy)?;
        Ok(Some(chat))
    }

    /// Everything that decides the text of a prompt, apart from the question.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// The conversation up to the assistant's answer, special tokens included.
    pub(super) fn prompt(&self, question: &str) -> Result<String> {
        self.conversation(&[Turn::user(question)])
    }

    /// The conversation up to the assistant's next turn, special tokens included.
    pub(super) fn conversation(&self, turns: &[Turn]) -> Result<String> {
        self.template.render(&self.messages(turns), &self.request)
    }

    /// The text that the template writes after an answer, which begins with the token that ends a
    /// turn. `None` if the answer is not found in what the template writes.
    pub(super) fn after_answer(&self) -> Option<String> {
        let request = ChatRequest { add_generation_prompt: false, ..self.request.clone() };
        let text = self
            .template
            .render(&self.messages(&[Turn::user("?"), Turn::assistant(ANSWER)]), &request)
            .ok()?;
        text.rfind(ANSWER).map(|at| text[at + ANSWER.len()..].to_owned())
    }

    fn messages(&self, turns: &[Turn]) -> Value {
        let system = (!self.system.is_empty()).then_some(("system", self.system.as_str()));
        let turns = system.into_iter().chain(turns.iter().map(|turn| (turn.role, turn.content.as_str())));
        let message = |(role, content): (&str, &str)| {
            // In this order: some templates write a message as JSON.
            context! { role, content }
        };
        Value::from(turns.map(message).collect::<Vec<_>>())
    }
}
