//! What a user's own query may do: read. Everything else is put in words, for the error.

use std::ffi::c_int;

use libsqlite3_sys as ffi;

/// An action that SQLite asks about while it compiles a statement.
pub(super) struct Action<'a> {
    /// One of SQLite's action codes.
    pub code: c_int,
    /// Of a table, a pragma, a file: its name. Empty if there is none.
    pub first: &'a str,
    /// Of a pragma its argument, of a call the function. Empty if there is none.
    pub second: &'a str,
}

/// Pragmas that report something, and change it if they are given an argument.
const WITHOUT_ARGUMENT: [&str; 20] = [
    "application_id",
    "auto_vacuum",
    "busy_timeout",
    "cache_size",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "encoding",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "journal_mode",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "query_only",
    "schema_version",
    "user_version",
];

/// Pragmas that report something, and whose argument states about what.
const WITH_ARGUMENT: [&str; 10] = [
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Completes "it would …", if the action may not be done.
pub(super) fn denied(action: Action<'_>) -> Option<String> {
    let Action { code, first, second } = action;
    let allowed = match code {
        ffi::SQLITE_SELECT | ffi::SQLITE_READ | ffi::SQLITE_RECURSIVE => true,
        ffi::SQLITE_FUNCTION => !second.eq_ignore_ascii_case("load_extension"),
        ffi::SQLITE_PRAGMA => {
            let name = first.to_ascii_lowercase();
            let is_one_of = |names: &[&str]| names.contains(&name.as_str());
            is_one_of(&WITH_ARGUMENT) || (second.is_empty() && is_one_of(&WITHOUT_ARGUMENT))
        }
        _ => false,
    };
    (!allowed).then(|| match code {
        ffi::SQLITE_DELETE => format!("delete from `{first}`"),
        ffi::SQLITE_INSERT => format!("insert into `{first}`"),
        ffi::SQLITE_UPDATE => format!("update `{first}`"),
        ffi::SQLITE_ATTACH => format!("open another file, `{first}`"),
        ffi::SQLITE_DETACH => "detach a database".to_owned(),
        ffi::SQLITE_PRAGMA => format!("run the pragma `{first}`, which is not one of those that only report"),
        ffi::SQLITE_FUNCTION => format!("call `{second}`"),
        ffi::SQLITE_TRANSACTION | ffi::SQLITE_SAVEPOINT => "begin or end a transaction".to_owned(),
        _ => "change the schema".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(code: c_int, first: &str, second: &str) -> Option<String> {
        denied(Action { code, first, second })
    }

    #[test]
    fn reading_is_all_that_is_allowed() {
        for (code, first, second) in [
            (ffi::SQLITE_SELECT, "", ""),
            (ffi::SQLITE_READ, "runs", "id"),
            (ffi::SQLITE_RECURSIVE, "", ""),
            (ffi::SQLITE_FUNCTION, "", "group_concat"),
            (ffi::SQLITE_PRAGMA, "Table_Info", "runs"),
            (ffi::SQLITE_PRAGMA, "user_version", ""),
        ] {
            assert_eq!(ask(code, first, second), None, "{code} {first}");
        }
        for (code, first, second, deed) in [
            (ffi::SQLITE_DELETE, "runs", "", "delete from `runs`"),
            (ffi::SQLITE_ATTACH, "copy.db", "", "open another file, `copy.db`"),
            (ffi::SQLITE_PRAGMA, "query_only", "off", "run the pragma `query_only`"),
            (ffi::SQLITE_PRAGMA, "writable_schema", "", "run the pragma `writable_schema`"),
            (ffi::SQLITE_FUNCTION, "", "Load_Extension", "call `Load_Extension`"),
        ] {
            let said = ask(code, first, second).unwrap_or_default();
            assert!(said.starts_with(deed), "{said}");
        }
        // Codes of a later SQLite, too.
        for code in (1..=100).filter(|code| ![19, 20, 21, 31, 33].contains(code)) {
            assert!(ask(code, "", "").is_some(), "{code}");
        }
    }
}
