//! A value as SQLite types it.

/// A cell of a table of answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL; never NaN, which SQLite stores as NULL.
    Real(f64),
    /// TEXT; what isn't UTF-8 in it is replaced.
    Text(String),
    /// BLOB: only its length, since it is nothing to read.
    Blob {
        /// Its length.
        bytes: usize,
    },
}

impl Value {
    /// What holding it takes, about.
    pub(super) fn size(&self) -> usize {
        let held = if let Self::Text(text) = self { text.len() } else { 0 };
        size_of::<Self>() + held
    }
}
