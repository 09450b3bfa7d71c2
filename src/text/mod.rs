//! Text in, token ids out, and back: tokenizer, special tokens, prompt templates, chat templates,
//! and where thoughts end.
//!
//! Pretraining and the loop make the token ids of a task with the same two functions,
//! [`Text::prompt_ids_of`] and [`Text::completion_ids`]. Other prompts go through [`Text::asked`]
//! and [`Text::choice`]. Tokens that a policy drew are never tokenized again. If a checkpoint has a
//! chat template, the template writes the prompt, and only the template decides which special
//! tokens the prompt has. Without a chat template, the prompt begins with the beginning token if
//! the checkpoint's own tokenizer puts it there; the seed's tokenizer doesn't.

mod bytes;
mod chat;
mod chat_prompt;
mod files;
mod gguf;
#[cfg(test)]
mod hostile;
mod plain;
mod prompts;
#[cfg(test)]
mod seed;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokenizers::Tokenizer;

pub use chat::{ChatRequest, ChatTemplate, Date};
pub use chat_prompt::Turn;
pub use files::TokenizerFile;
pub use gguf::GgufVocabulary;
pub use prompts::{CRITIQUES, PROPOSE, Prompts, TEMPLATES, VALUE};
#[cfg(test)]
pub(crate) use seed::seed_tokenizer;
pub use settings::{ChatMode, Matmul, ModelSource, Quantize, Thinking};

use crate::domain::{Choice, Stops, TaskKind, caught};
use crate::profile::{self, Operator};
use bytes::Spelling;
use chat_prompt::ChatPrompt;
use plain::Renamed;

/// A tokenizer with its special tokens, and the template that prompts are made with.
#[derive(Clone)]
pub struct Text {
    tokenizer: Tokenizer,
    spelling: Spelling,
    /// The bytes of every token id; empty for special tokens.
    token_bytes: Arc<Vec<Vec<u8>>>,
    special: SpecialIds,
    /// Special tokens as they are written.
    special_texts: Vec<String>,
    /// Reads questions that contain such names; made when the first one is read.
    renamed: Arc<OnceLock<Result<Renamed, String>>>,
    /// Whether some token includes the blanks next to it, so that not every byte can be decoded
    /// again.
    strips: bool,
    prompts: Prompts,
    kind: TaskKind,
    /// The beginning token, if plain texts begin with it.
    leading_bos: Option<u32>,
    /// Writes prompts for a checkpoint with a chat template; `None` without one.
    chat: Option<ChatPrompt>,
    /// The files that a checkpoint needs so that other programs can use it.
    files: Vec<TokenizerFile>,
    hash: String,
}

/// Ids of the tokens that aren't text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpecialIds {
    pub pad: u32,
    pub bos: Option<u32>,
    /// Completions end with the first one; any of them ends a trajectory.
    pub eos: Vec<u32>,
}

impl Text {
    /// The seed model's tokenizer, which is embedded in the binary.
    pub fn embedded() -> Result<Self> {
        Self::from_files(files::embedded(), None).context("the embedded tokenizer is broken")
    }

    /// As [`Text::load_as`], with the default settings.
    #[cfg(test)]
    pub fn load(dir: &std::path::Path) -> Result<Self> {
        Self::load_as(dir, &crate::config::Config::load(None, &[])?.model)
    }

    /// The tokenizer of a Hugging Face checkpoint directory or of a GGUF file, with the chat settings of `cfg`.
    ///
    /// A directory needs `tokenizer.json`. `tokenizer_config.json`, `generation_config.json` and
    /// `config.json` are read for the special tokens, and `chat_template.jinja` for the chat
    /// template, if they are there. A `tokenizer.json` next to a GGUF file is used instead of the
    /// file's own.
    pub fn load_as(dir: &std::path::Path, cfg: &ModelSource) -> Result<Self> {
        let files = match crate::gguf::is_gguf(dir) && !dir.is_dir() {
            true => gguf::files(dir)?,
            false => files::read(dir)?,
        };
        Self::from_files(files, Some(cfg))
            .with_context(|| format!("the tokenizer in {} can't be used", dir.display()))
    }

    /// A tokenizer from the contents of a `tokenizer.json` only, with the ids that end a
    /// trajectory.
    #[cfg(test)]
    pub(crate) fn from_tokenizer_json(json: &[u8], eos_ids: &[u32]) -> Result<Self> {
        let generation = serde_json::json!({ "eos_token_id": eos_ids }).to_string();
        let files = vec![
            TokenizerFile { name: "tokenizer.json".to_owned(), contents: json.to_vec() },
            TokenizerFile { name: "generation_config.json".to_owned(), contents: generation.into_bytes() },
        ];
        Self::from_files(files, None)
    }

    /// Without `cfg` no chat template is used.
    fn from_files(files: Vec<TokenizerFile>, cfg: Option<&ModelSource>) -> Result<Self> {
        caught("the tokenizer", || Self::read(files, cfg))
    }

    fn read(mut files: Vec<TokenizerFile>, cfg: Option<&ModelSource>) -> Result<Self> {
        let json = files::find(&files, "tokenizer.json").context("there is no tokenizer.json")?;
        let mut tokenizer =
            Tokenizer::from_bytes(json).map_err(|error| anyhow!("tokenizer.json can't be read: {error}"))?;
        files::refuse_dropout(&tokenizer)?;
        // The file may have the settings of a training run; a prompt is never truncated or padded.
        tokenizer
            .with_truncation(None)
            .map_err(|error| anyhow!("truncation can't be turned off: {error}"))?;
        tokenizer.with_padding(None);
        let special = files::special_ids(&files, &tokenizer)?;
        files.retain(|file| file.name != files::MODEL_CONFIG);
        let added = tokenizer.get_added_tokens_decoder();
        let special_texts = added.values().filter(|t| t.special).map(|t| t.content.clone()).collect();
        let spelling = Spelling::of(&tokenizer);
        let token_bytes = Arc::new(bytes::table(&tokenizer, spelling)?);
        let chat = cfg.map(|cfg| ChatPrompt::new(&files, cfg)).transpose()?.flatten();
        let leading_bos = match files::adds_bos(&files)? {
            Some(adds) => special.bos.filter(|_| adds),
            None => own_first_token(&tokenizer)?.filter(|&first| Some(first) == special.bos),
        };
        let mut text = Self {
            leading_bos,
            tokenizer,
            spelling,
            token_bytes,
            special,
            special_texts,
            renamed: Arc::default(),
            strips: added.values().any(|token| token.lstrip || token.rstrip),
            prompts: Prompts::embedded()?,
            kind: TaskKind::Relations,
            chat,
            files,
            hash: String::new(),
        };
        text.end_turns()?;
        text.hash = text.identity();
        Ok(text)
    }

    /// With a chat template, completions end with the token that the template writes after an
    /// answer.
    fn end_turns(&mut self) -> Result<()> {
        let Some(after) = self.chat.as_ref().and_then(ChatPrompt::after_answer) else { return Ok(()) };
        let first = self.encode_parsing(after.trim_start())?.first().copied();
        if let Some(end) = first.filter(|id| self.is_special(*id)) {
            self.special.eos.retain(|&id| id != end);
            self.special.eos.insert(0, end);
        }
        Ok(())
    }

    fn is_special(&self, id: u32) -> bool {
        let text = self.tokenizer.id_to_token(id);
        text.is_some_and(|text| self.special_texts.contains(&text))
    }

    /// The same tokenizer, with `prompts` for questions of `kind`.
    ///
    /// [`Text::embedded`] and [`Text::load_as`] use the prompt of the built-in tasks: the question and
    /// a line break.
    pub fn asking(mut self, kind: TaskKind, prompts: Prompts) -> Self {
        self.kind = kind;
        self.prompts = prompts;
        self.hash = self.identity();
        self
    }

    fn identity(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("autodidact 2026 tokenizer and template v1");
        let special = format!("{:?}", self.special);
        let json = files::find(&self.files, "tokenizer.json").unwrap_or_default();
        let question = self.prompts.question_source(self.kind);
        let chat = self.chat.as_ref().map(|chat| chat.identity().as_bytes());
        for part in [json, special.as_bytes(), question.as_bytes()].into_iter().chain(chat) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Hash of everything that decides the token ids of a task: tokenizer, special tokens,
    /// templates.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Token ids of plain text, without special tokens.
    ///
    /// # Errors
    /// If the text contains a special token's name, or something that this tokenizer can't write.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.refuse_special(text)?;
        self.encode_parsing(text)
    }

    /// Token ids of a text that begins a sequence: those of [`Self::encode`], after the beginning
    /// token if this tokenizer puts one before a text, as transformers' `tokenizer(text)` does.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_start(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode(text)?;
        Ok(self.leading_bos.into_iter().chain(ids).collect())
    }

    /// The name of a special token that the text contains.
    pub fn special_in(&self, text: &str) -> Option<&str> {
        self.special_texts.iter().map(String::as_str).find(|special| text.contains(special))
    }

    fn refuse_special(&self, text: &str) -> Result<()> {
        match self.special_in(text) {
            Some(special) => {
                bail!("the text contains the special token {special}, which isn't text: {text:?}")
            }
            None => Ok(()),
        }
    }

    /// Token ids of a text in which the names of special tokens stand for those tokens.
    fn encode_parsing(&self, text: &str) -> Result<Vec<u32>> {
        let _span = profile::span(Operator::Text);
        let failed = |error| anyhow!("{text:?} can't be tokenized: {error}");
        let encoding = caught("the tokenizer", || self.tokenizer.encode_fast(text, false).map_err(failed))?;
        let ids = encoding.get_ids().to_vec();
        self.check_written(text, &ids)?;
        Ok(ids)
    }

    /// The same, with marked names as plain text.
    fn encode_marked(&self, text: &str) -> Result<Vec<u32>> {
        let json = files::find(&self.files, "tokenizer.json").context("there is no tokenizer.json")?;
        let renamed = self.renamed.get_or_init(|| Renamed::of(json).map_err(|error| format!("{error:#}")));
        let ids = renamed.as_ref().map_err(|error| anyhow!("{error}"))?.encode(text)?;
        self.check_written(&plain::unmarked(text), &ids)?;
        Ok(ids)
    }

    fn check_written(&self, text: &str, ids: &[u32]) -> Result<()> {
        // Byte-pair encoding without an unknown token drops what it can't write, without an error.
        if self.spelling == Spelling::ByteLevel && !self.strips && self.tokenizer.get_normalizer().is_none() {
            self.check_complete(text, ids)?;
        }
        Ok(())
    }

    fn check_complete(&self, text: &str, ids: &[u32]) -> Result<()> {
        let mut written: Vec<u8> = Vec::with_capacity(text.len() + 1);
        for &id in ids {
            match self.token_bytes.get(id as usize) {
                Some(bytes) if !bytes.is_empty() => written.extend_from_slice(bytes),
                _ => written.extend_from_slice(self.tokenizer.id_to_token(id).unwrap_or_default().as_bytes()),
            }
        }
        // Some tokenizers put a space before every text.
        if written.len() == text.len() + 1 && written[0] == b' ' {
            written.remove(0);
        }
        let differs = written.iter().zip(text.as_bytes()).position(|(a, b)| a != b);
        let at = differs.unwrap_or(written.len().min(text.len()));
        let at = (0..=at).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        match text[at..].chars().next() {
            Some(missing) if written != text.as_bytes() => {
                bail!("this tokenizer has no token for {missing:?} (byte {at} of {text:?})")
            }
            _ => Ok(()),
        }
    }

    /// The text of token ids. Special tokens, and ids that no token has, are left out.
    ///
    /// The texts of parts concatenate to the text of the whole, unless a part ends within a
    /// character.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let _span = profile::span(Operator::Text);
        if self.spelling == Spelling::Opaque {
            let text = self.tokenizer.decode(ids, true);
            return text.map_err(|error| anyhow!("token ids {ids:?} can't be decoded: {error}"));
        }
        let bytes: Vec<u8> =
            ids.iter().filter_map(|&id| self.token_bytes.get(id as usize)).flatten().copied().collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The prompt for a question of the kind that was passed to [`Text::asking`].
    pub fn prompt_ids(&self, question: &str) -> Result<Vec<u32>> {
        self.prompt_ids_of(self.kind, question)
    }

    /// The prompt for a question: the rendered template as a chat message, or else as plain text,
    /// after the beginning token if this tokenizer puts one before a text.
    pub fn prompt_ids_of(&self, kind: TaskKind, question: &str) -> Result<Vec<u32>> {
        let _span = profile::span(Operator::Text);
        let ids = match self.special_in(question) {
            None => self.wrapped(&self.prompts.question(kind, question)?, "")?,
            Some(_) => {
                let marked = plain::marked(question, &self.special_texts)?;
                let asked = self.prompts.question(kind, &marked)?;
                self.wrapped_by(|text| self.encode_marked(text), &asked, "")?
            }
        };
        ensure!(!ids.is_empty(), "the prompt for {question:?} is empty; check the template");
        Ok(ids)
    }

    /// The prompt for the next turn of a conversation, through the chat template. Names of special
    /// tokens in the messages are plain text.
    ///
    /// # Errors
    /// There is no chat template, or it refuses the conversation.
    pub fn conversation(&self, turns: &[Turn]) -> Result<Vec<u32>> {
        let chat = self.chat.as_ref().context("the model has no chat template")?;
        let ids = match turns.iter().any(|turn| self.special_in(turn.content()).is_some()) {
            false => self.encode_parsing(&chat.conversation(turns)?)?,
            true => {
                let marked =
                    turns.iter().map(|turn| turn.with(|text| plain::marked(text, &self.special_texts)));
                self.encode_marked(&chat.conversation(&marked.collect::<Result<Vec<_>>>()?)?)?
            }
        };
        Ok(ids)
    }

    /// A rendered template as a chat message, or else as plain text. The answer already begins with
    /// `begun`.
    fn wrapped(&self, asked: &str, begun: &str) -> Result<Vec<u32>> {
        self.wrapped_by(|text| self.encode_parsing(text), asked, begun)
    }

    fn wrapped_by(
        &self,
        encode: impl Fn(&str) -> Result<Vec<u32>>,
        asked: &str,
        begun: &str,
    ) -> Result<Vec<u32>> {
        let _span = profile::span(Operator::Text);
        let ids = match &self.chat {
            Some(chat) => encode(&(chat.prompt(asked.trim())? + begun))?,
            None => encode(&[asked, begun].concat())?,
        };
        let bos = self.leading_bos.filter(|bos| self.chat.is_none() && ids.first() != Some(bos));
        Ok(bos.into_iter().chain(ids).collect())
    }

    /// The prompt of a rendered template other than a task's.
    ///
    /// # Errors
    /// If it contains a special token's name, or something that this tokenizer can't write.
    pub fn asked(&self, prompt: &str) -> Result<Vec<u32>> {
        self.refuse_special(prompt)?;
        self.wrapped(prompt, "")
    }

    /// The prompt of a rendered template whose last line begins the answer, and the `words` that
    /// may be the answer.
    ///
    /// Tokens with which all words begin (mostly a space) belong to the prompt, so that options are
    /// as short as possible.
    ///
    /// # Errors
    /// As [`Self::asked`]; and if one word's tokens are the beginning of another's.
    pub fn choice(&self, prompt: &str, words: &[&str]) -> Result<Choice> {
        self.refuse_special(prompt)?;
        let cut = prompt.rfind('\n').map_or(0, |at| at + 1);
        let (asked, begun) = prompt.split_at(cut);
        let answered = |word: &&str| self.wrapped(asked, &format!("{begun} {word}"));
        let mut options: Vec<Vec<u32>> = words.iter().map(answered).collect::<Result<_>>()?;
        let Some((first, others)) = options.split_first() else { bail!("a choice between no words") };
        let same = |at: &usize| others.iter().all(|ids| ids.get(*at) == first.get(*at));
        let shared = (0..first.len()).take_while(same).count();
        let context_ids = first[..shared].to_vec();
        options.iter_mut().for_each(|ids| drop(ids.drain(..shared)));
        ensure!(
            shared > 0 && !options.iter().any(Vec::is_empty),
            "this tokenizer can't tell {words:?} apart after {begun:?}"
        );
        Ok(Choice { context_ids, options })
    }

    /// Whether questions are asked through the checkpoint's chat template.
    pub fn is_chat(&self) -> bool {
        self.chat.is_some()
    }

    /// The token ids of a solution, and the end-of-sequence token.
    pub fn completion_ids(&self, solution: &str) -> Result<Vec<u32>> {
        let mut ids = self.encode(solution)?;
        ids.push(self.eos_id());
        Ok(ids)
    }

    /// Where trajectories and thoughts end. A thought of every kind is a line: any token that ends
    /// in a line break closes one.
    pub fn stops(&self, _kind: TaskKind, stop_strings: &[String]) -> Result<Stops> {
        ensure!(!stop_strings.iter().any(String::is_empty), "a stop string is empty");
        let closes = |bytes: &Vec<u8>| bytes.last() == Some(&b'\n');
        let boundary_ids: Vec<u32> =
            (0..).zip(self.token_bytes.iter()).filter(|(_, bytes)| closes(bytes)).map(|(id, _)| id).collect();
        ensure!(
            !boundary_ids.is_empty(),
            "no token of this tokenizer ends in a line break, so no thought would end"
        );
        Ok(Stops {
            eos_ids: self.special.eos.clone(),
            boundary_ids,
            strings: stop_strings.iter().map(|stop| stop.as_bytes().to_vec()).collect(),
            token_bytes: Arc::clone(&self.token_bytes),
        })
    }

    /// The token that pads the rows of a batch.
    #[cfg(test)]
    pub(crate) fn pad_id(&self) -> u32 {
        self.special.pad
    }

    /// The token that begins a text, if the tokenizer has one.
    #[cfg(test)]
    pub(crate) fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }

    /// Every token that ends a completion.
    pub fn eos_ids(&self) -> &[u32] {
        &self.special.eos
    }

    /// The token that completions end with.
    pub fn eos_id(&self) -> u32 {
        self.special.eos[0]
    }

    /// One more than the highest token id. A model's output layer must be at least as wide.
    pub fn vocab_size(&self) -> usize {
        self.token_bytes.len()
    }

    /// The templates, for prompts other than a task's question.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// The files that belong in a checkpoint's directory, `tokenizer.json` first.
    pub fn files(&self) -> &[TokenizerFile] {
        &self.files
    }

    /// Writes [`Text::files`] into `dir`.
    pub fn save(&self, dir: &std::path::Path) -> Result<()> {
        for file in self.files.iter().filter(|f| f.name != "config.json") {
            let path = dir.join(&file.name);
            std::fs::write(&path, &file.contents)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// The token that the tokenizer puts before every text, if it does.
fn own_first_token(tokenizer: &Tokenizer) -> Result<Option<u32>> {
    let empty = tokenizer.encode_fast("", true).map_err(|error| anyhow!("tokenizing nothing: {error}"))?;
    Ok(empty.get_ids().first().copied())
}
