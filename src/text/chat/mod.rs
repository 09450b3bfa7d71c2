//! Chat templates: a checkpoint's own Jinja program that writes a conversation as one text.
//!
//! The result is byte for byte that of `transformers` (`apply_chat_template` of 5.23.0, Jinja2's
//! sandbox): blocks are trimmed, `tojson` has no HTML escapes, values are printed as Python prints
//! them. A template runs with bounded fuel and reads no file and no clock: `strftime_now` has a
//! fixed date, so that a prompt is the same every day.
//!
//! Left out: `documents`, assistant masks (`{% generation %}` is read and changes nothing), tuples
//! (they print as lists), and the results of Jinja2's `~` and `join` for values that are not texts.

mod date;
mod methods;
mod python;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

pub use date::Date;

/// Most instructions one rendering may take; a long conversation takes some ten thousand.
const FUEL: u64 = 10_000_000;

/// Largest template that is read, in bytes; the largest published ones have about 30 kB.
const SOURCE_BYTES_MAX: usize = 1 << 20;

const NAME: &str = "chat_template";

/// A chat template, ready to render.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    /// The special tokens by name, as `bos_token`; templates write them out.
    special_tokens: BTreeMap<String, String>,
    environment: Environment<'static>,
}

/// The inputs of a rendering other than the messages.
#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    /// JSON schemas of functions; `None` is Python's `None`.
    pub tools: Option<Value>,
    /// Whether the text ends with the beginning of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Further variables, such as `enable_thinking`.
    pub variables: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// Compiles a template; `date` is the day that it sees as today.
    ///
    /// # Errors
    /// If the source is not valid Jinja, or too large.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>, date: Date) -> Result<Self> {
        let bytes = source.len();
        ensure!(bytes <= SOURCE_BYTES_MAX, "the chat template has {bytes} bytes; at most {SOURCE_BYTES_MAX}");
        let mut environment = environment(date)?;
        environment
            .add_template_owned(NAME, without_generation_tags(&with_line_feeds(source)))
            .map_err(|error| anyhow!("the chat template is not valid Jinja: {error}"))?;
        Ok(Self { source: source.to_owned(), special_tokens, environment })
    }

    /// The source of the template, as in the checkpoint.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Writes `messages` (a list of objects with at least `role` and `content`) as one text,
    /// special tokens included.
    ///
    /// # Errors
    /// If the template refuses the conversation (`raise_exception`) or fails.
    pub fn render(&self, messages: &Value, request: &ChatRequest) -> Result<String> {
        let own = [
            ("messages", messages.clone()),
            ("tools", request.tools.clone().unwrap_or_else(none)),
            ("documents", none()),
            ("add_generation_prompt", Value::from(request.add_generation_prompt)),
        ];
        let mut values: BTreeMap<String, Value> = self
            .special_tokens
            .iter()
            .map(|(name, token)| (name.clone(), Value::from(token.as_str())))
            .collect();
        values.extend(request.variables.clone());
        values.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let template = self.environment.get_template(NAME).context("the chat template is gone")?;
        template.render(Value::from(values)).map_err(|error| match refusal(&error) {
            Some(message) => anyhow!("the chat template refuses the conversation: {message}"),
            None => anyhow!("the chat template can't be rendered: {error}"),
        })
    }
}

/// Python's `None`.
fn none() -> Value {
    Value::from(())
}

/// The message of `raise_exception`, if it is somewhere in the chain of causes.
fn refusal(error: &Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(detail) = error.downcast_ref::<Error>().and_then(Error::detail)
            && let Some(message) = detail.strip_prefix(RAISED)
        {
            return Some(message.to_owned());
        }
        cause = error.source();
    }
    None
}

const RAISED: &str = "raise_exception: ";

/// Jinja2 as `transformers` sets it up (`_compile_jinja_template`).
fn environment(date: Date) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(|out, _, value| {
        out.write_str(&python::text(value))
            .map_err(|error| Error::new(ErrorKind::WriteFailure, error.to_string()))
    });
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Value| python::text(value));
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    environment.add_test("iterable", |value: &Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        matches!(value.kind(), String | Seq | Map | Iterable | Undefined)
    });
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", move |format: &str| {
        date.strftime(format).map_err(|error| Error::new(ErrorKind::InvalidOperation, error))
    });
    Ok(environment)
}

/// Python's methods of texts, lists and dictionaries.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let (Some(text), [affix]) = (value.as_str(), args)
        && let Some(affix) = affix.as_str()
    {
        match name {
            "removeprefix" => return Ok(Value::from(text.strip_prefix(affix).unwrap_or(text))),
            "removesuffix" => return Ok(Value::from(text.strip_suffix(affix).unwrap_or(text))),
            _ => {}
        }
    }
    if let Some(text) = value.as_str()
        && let Some(result) = methods::call(text, name, args)
    {
        return result;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// `json.dumps(value, ensure_ascii=…, indent=…, separators=…, sort_keys=…)`.
fn tojson(
    value: &Value,
    positional: minijinja::value::Rest<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let flag = |name: &str, at: usize| -> Result<bool, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(named.or_else(|| positional.get(at).cloned()).is_some_and(|value| value.is_true()))
    };
    let (ensure_ascii, sort_keys) = (flag("ensure_ascii", 0)?, flag("sort_keys", 3)?);
    let indent: Option<Value> = options.get("indent")?;
    let indent = match indent.or_else(|| positional.get(1).cloned()).filter(|value| !value.is_none()) {
        None => None,
        Some(value) => match (value.as_str(), value.as_usize()) {
            (Some(text), _) => Some(text.to_owned()),
            (None, Some(width)) if width <= 64 => Some(" ".repeat(width)),
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "tojson: indent is not a width from 0 to 64",
                ));
            }
        },
    };
    let separators: Option<Value> = options.get("separators")?;
    let separators = match separators.or_else(|| positional.get(2).cloned()).filter(|value| !value.is_none())
    {
        None => None,
        Some(pair) => {
            let text = |i: usize| pair.get_item_by_index(i).ok().and_then(|v| v.as_str().map(str::to_owned));
            let broken =
                || Error::new(ErrorKind::InvalidOperation, "tojson: separators are not a pair of texts");
            Some((text(0).ok_or_else(broken)?, text(1).ok_or_else(broken)?))
        }
    };
    options.assert_all_used()?;
    python::Json::new(ensure_ascii, sort_keys, indent, separators).dumps(value)
}

/// The source with the line breaks that Jinja2 makes of all others.
fn with_line_feeds(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// The source with `{% generation %}` as a scope that changes nothing: only training masks need it.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let body = tag[2..end].trim_end_matches("%}").trim_matches(['-', '+']).trim();
        let plain = match body {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => {
                out.push_str(&tag[..2]);
                rest = &tag[2..];
                continue;
            }
        };
        out.push_str(&tag[..end].replacen(body, plain, 1));
        rest = &tag[end..];
    }
    out + rest
}
