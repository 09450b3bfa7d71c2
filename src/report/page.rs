//! A part of a list: what every list is read in.

use serde::Serialize;

use crate::store::Chunk;

/// A part of a list, in order of insertion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Length of the whole list, as it was when the page was read.
    pub total: u64,
    /// Where the next page begins: pass it as [`after`](crate::store::Window::after). Null on the
    /// last page.
    pub next: Option<i64>,
}

impl<T> Page<T> {
    /// The page of `chunk`, each row made an item.
    pub(super) fn of<R>(chunk: Chunk<R>, total: u64, item: impl FnMut(R) -> T) -> Self {
        Self { items: chunk.rows.into_iter().map(item).collect(), total, next: chunk.next }
    }
}
