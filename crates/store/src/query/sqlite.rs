//! The few calls of SQLite's C interface that a user's own query needs and the driver doesn't offer:
//! one prepared statement, what it may do, and its rows as SQLite types them.
//!
//! Contract: a [`Guarded`] connection compiles nothing but reading. SQLite asks [`authorize`] about
//! every table, function and pragma of a statement while it is compiled, so nothing depends on how
//! the text is written. All calls are made while the connection's lock is held, on the caller's
//! thread: a failure here is an error of the caller, and no other thread waits for an answer.

#![allow(unsafe_code, reason = "the driver offers no authorizer, and hides where a statement ends")]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{NonNull, null, null_mut};

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;

use super::denied::{Action, denied};
use super::value::Value;

/// Longest text or blob that a function may make, in bytes. It bounds what one operation takes, in
/// memory and in time.
const VALUE_BYTES_MAX: c_int = 64 << 20;

/// Longest pattern of LIKE and GLOB, in bytes: their time grows with a power of it.
const PATTERN_BYTES_MAX: c_int = 1000;

/// A failed call.
#[derive(Debug)]
pub(super) struct Failure {
    /// SQLite's primary result code.
    pub code: c_int,
    /// SQLite's message.
    pub message: String,
    /// What the statement would have done and may not.
    pub denied: Option<String>,
}

/// A locked connection whose statements can only read.
pub(super) struct Guarded<'h> {
    db: NonNull<ffi::sqlite3>,
    /// What was denied first. Boxed, because SQLite holds its address.
    denied: Box<RefCell<Option<String>>>,
    locked: PhantomData<&'h mut ()>,
}

impl<'h> Guarded<'h> {
    /// Guards a connection. The limits that it sets stay: let the connection be closed afterwards.
    pub(super) fn new(handle: &'h mut LockedSqliteHandle<'_>) -> Self {
        let db = handle.as_raw_handle();
        let denied = Box::new(RefCell::new(None));
        let seen = (&raw const *denied).cast_mut().cast::<c_void>();
        // SAFETY: the connection is open, and locked for as long as `'h`. `authorize` is unset before
        // what it writes to is dropped.
        unsafe {
            ffi::sqlite3_set_authorizer(db.as_ptr(), Some(authorize), seen);
            ffi::sqlite3_limit(db.as_ptr(), ffi::SQLITE_LIMIT_ATTACHED, 0);
            ffi::sqlite3_limit(db.as_ptr(), ffi::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX);
            ffi::sqlite3_limit(db.as_ptr(), ffi::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES_MAX);
        }
        Self { db, denied, locked: PhantomData }
    }

    /// Compiles the first statement of `sql`, and returns the text after it. `None`: up to there are
    /// comments and blanks only.
    pub(super) fn prepare<'s>(&self, sql: &'s str) -> Result<(Option<Statement<'_, 'h>>, &'s str), Failure> {
        let bytes = c_int::try_from(sql.len()).map_err(|_| self.failure(ffi::SQLITE_TOOBIG))?;
        let (mut raw, mut tail) = (null_mut(), null());
        // SAFETY: the connection is open and locked, and the text has as many bytes as stated.
        let code = unsafe {
            ffi::sqlite3_prepare_v2(self.db.as_ptr(), sql.as_ptr().cast(), bytes, &raw mut raw, &raw mut tail)
        };
        if code != ffi::SQLITE_OK {
            return Err(self.failure(code));
        }
        let read = (tail as usize).saturating_sub(sql.as_ptr() as usize).min(sql.len());
        // A statement ends at an ASCII character or at the end.
        let rest = sql.get(read..).unwrap_or_default();
        Ok((NonNull::new(raw).map(|raw| Statement { raw, connection: self }), rest))
    }

    /// The connection's last failure.
    fn failure(&self, code: c_int) -> Failure {
        // SAFETY: the connection is open and locked; the message is copied before the next call.
        let message = unsafe { text(ffi::sqlite3_errmsg(self.db.as_ptr())) };
        Failure { code: code & 0xff, message, denied: self.denied.borrow().clone() }
    }
}

impl Drop for Guarded<'_> {
    fn drop(&mut self) {
        // SAFETY: the connection is still open and locked.
        unsafe { ffi::sqlite3_set_authorizer(self.db.as_ptr(), None, null_mut()) };
    }
}

/// A compiled statement.
pub(super) struct Statement<'g, 'h> {
    raw: NonNull<ffi::sqlite3_stmt>,
    connection: &'g Guarded<'h>,
}

impl Statement<'_, '_> {
    /// Whether it leaves the file, and every other file, as they are.
    pub(super) fn only_reads(&self) -> bool {
        // SAFETY: the statement is not finalized before `self` is dropped; so in every call below.
        unsafe { ffi::sqlite3_stmt_readonly(self.raw.as_ptr()) != 0 }
    }

    /// The names of its columns.
    pub(super) fn columns(&self) -> Vec<String> {
        // SAFETY: the index is below the number of columns; the name is copied at once.
        (0..self.width()).map(|i| unsafe { text(ffi::sqlite3_column_name(self.raw.as_ptr(), i)) }).collect()
    }

    /// The next row, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Value>>, Failure> {
        // SAFETY: no other thread uses the statement.
        match unsafe { ffi::sqlite3_step(self.raw.as_ptr()) } {
            ffi::SQLITE_ROW => (0..self.width()).map(|i| self.value(i)).collect::<Result<_, _>>().map(Some),
            ffi::SQLITE_DONE => Ok(None),
            code => Err(self.connection.failure(code)),
        }
    }

    fn width(&self) -> c_int {
        // SAFETY: as in `only_reads`.
        unsafe { ffi::sqlite3_column_count(self.raw.as_ptr()) }
    }

    /// A value of the current row.
    fn value(&self, column: c_int) -> Result<Value, Failure> {
        let raw = self.raw.as_ptr();
        // SAFETY: there is a current row, and the index is below the number of columns. Texts and
        // blobs are copied before the next call; their length is asked for after their address, as
        // SQLite wants it.
        unsafe {
            Ok(match ffi::sqlite3_column_type(raw, column) {
                ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_column_int64(raw, column)),
                ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_column_double(raw, column)),
                ffi::SQLITE_TEXT => {
                    let start = ffi::sqlite3_column_text(raw, column);
                    let bytes = ffi::sqlite3_column_bytes(raw, column);
                    if start.is_null() {
                        return Err(self.connection.failure(ffi::SQLITE_NOMEM));
                    }
                    let bytes = std::slice::from_raw_parts(start, usize::try_from(bytes).unwrap_or(0));
                    Value::Text(String::from_utf8_lossy(bytes).into_owned())
                }
                ffi::SQLITE_BLOB => {
                    let bytes = ffi::sqlite3_column_bytes(raw, column);
                    Value::Blob { bytes: usize::try_from(bytes).unwrap_or(0) }
                }
                _ => Value::Null,
            })
        }
    }
}

impl Drop for Statement<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: it is finalized once, before the connection is unlocked.
        unsafe { ffi::sqlite3_finalize(self.raw.as_ptr()) };
    }
}

/// A copy of a C string.
///
/// # Safety
/// It is null, or ends with a zero byte.
unsafe fn text(start: *const c_char) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned()
}

/// SQLite's question, for every action of a statement that it compiles.
unsafe extern "C" fn authorize(
    seen: *mut c_void,
    code: c_int,
    first: *const c_char,
    second: *const c_char,
    _database: *const c_char,
    _trigger: *const c_char,
) -> c_int {
    // SAFETY: `Guarded::new` passes the address, and unsets this function before it is freed. SQLite
    // passes null or C strings.
    let (seen, first, second) =
        unsafe { (&*seen.cast::<RefCell<Option<String>>>(), text(first), text(second)) };
    let Some(deed) = denied(Action { code, first: &first, second: &second }) else { return ffi::SQLITE_OK };
    if let Ok(mut seen) = seen.try_borrow_mut() {
        seen.get_or_insert(deed);
    }
    ffi::SQLITE_DENY
}
