//! Metadata values, as wide as what is read needs, and the getters that name the key when one doesn't fit.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// A metadata value. Integers and floats of every width are read; written are u32, i32 and f32, which is what other
/// programs expect.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    /// Arrays of arrays, which nothing needs; they are read over.
    Nested,
}

impl Value {
    /// What it is, for messages; long ones in short.
    pub fn describe(&self) -> String {
        match self {
            Self::Unsigned(n) => n.to_string(),
            Self::Signed(n) => n.to_string(),
            Self::Float(x) => x.to_string(),
            Self::Bool(b) => b.to_string(),
            Self::Text(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
            Self::Texts(all) => format!("a list of {} texts", all.len()),
            Self::Integers(all) => format!("a list of {} integers", all.len()),
            Self::Floats(all) => format!("a list of {} numbers", all.len()),
            Self::Bools(all) => format!("a list of {} flags", all.len()),
            Self::Nested => "a list of lists".to_owned(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Self::Unsigned(n as u64)
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Unsigned(n.into())
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

/// All metadata of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    pub values: BTreeMap<String, Value>,
}

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    fn wrong<T>(key: &str, value: &Value, wanted: &str) -> Result<T> {
        bail!("{key} is {}; it must be {wanted}", value.describe())
    }

    /// A non-negative integer.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(n)) => Ok(Some(*n)),
            Some(Value::Signed(n)) if *n >= 0 => Ok(Some(*n as u64)),
            Some(other) => Self::wrong(key, other, "a non-negative integer"),
        }
    }

    /// A token id.
    pub fn id(&self, key: &str) -> Result<Option<u32>> {
        let id = self.unsigned(key)?;
        id.map(|id| u32::try_from(id).with_context(|| format!("{key} is {id}; it must be a token id")))
            .transpose()
    }

    /// A number. Those stored as f32 come as the shortest decimal that means the same, so that 1e-5 is 1e-5 again.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) => Ok(Some(*x)),
            Some(Value::Unsigned(n)) => Ok(Some(*n as f64)),
            Some(Value::Signed(n)) => Ok(Some(*n as f64)),
            Some(other) => Self::wrong(key, other, "a number"),
        }
    }

    /// A truth value; an error if it is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Self::wrong(key, other, "true or false"),
        }
    }

    /// A string; an error if it is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Self::wrong(key, other, "a text"),
        }
    }

    /// An array of strings; an error if it is something else.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(other) => Self::wrong(key, other, "a list of texts"),
        }
    }

    /// An array of integers; an error if it is something else.
    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integers(numbers)) => Ok(Some(numbers)),
            Some(other) => Self::wrong(key, other, "a list of integers"),
        }
    }

    /// An array of floating-point numbers; an error if it is something else.
    pub fn numbers(&self, key: &str) -> Result<Option<&[f64]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Floats(numbers)) => Ok(Some(numbers)),
            Some(other) => Self::wrong(key, other, "a list of numbers"),
        }
    }

    /// A list of flags; some programs write them as integers.
    pub fn flags(&self, key: &str) -> Result<Option<Vec<bool>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bools(flags)) => Ok(Some(flags.clone())),
            Some(Value::Integers(flags)) => Ok(Some(flags.iter().map(|&flag| flag != 0).collect())),
            Some(other) => Self::wrong(key, other, "a list of flags"),
        }
    }
}
