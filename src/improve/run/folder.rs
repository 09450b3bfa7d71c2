//! Files of tasks on this disk, and folders of them.
//!
//! Some benchmarks are published as one small file per row, thousands of them in folders of
//! folders. The files of such a folder are read together, as one file with a row per line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::data::SourceFile;

/// Most bytes of a file of tasks, packed or not, and of all files of a folder together.
const BYTES_MAX: u64 = 1 << 30;

/// Most files of a folder that are read one by one.
const FILES_MAX: usize = 1000;

/// Most entries of a folder and its subfolders.
const ENTRIES_MAX: usize = 200_000;

/// Most folders within each other.
const DEPTH_MAX: usize = 8;

/// Largest file that can be a single row, in bytes.
const ROW_BYTES_MAX: usize = 1 << 20;

/// Endings of files that a folder is searched for, before `.gz` and `.zst`.
const ENDINGS: [&str; 5] = ["jsonl", "json", "csv", "ndjson", "parquet"];

/// Words in the name of a file or a subfolder that mark all rows as held out.
const HELDOUT_NAMES: [&str; 5] = ["test", "heldout", "validation", "valid", "dev"];

/// One file.
pub(super) fn file(path: &Path, heldout: bool) -> Result<SourceFile> {
    let name = path.display().to_string();
    let context = || format!("cannot read the tasks in {name}");
    let bytes = path.metadata().with_context(context)?.len();
    ensure!(bytes <= BYTES_MAX, "{name} has {bytes} bytes; at most {BYTES_MAX}: split it into several files");
    let contents = std::fs::read(path).with_context(context)?;
    Ok(SourceFile { contents, name, heldout, rows: Vec::new() })
}

/// The files of a folder and its subfolders, in order of name. `by_name` holds out what is named so.
pub(super) fn read(dir: &Path, by_name: bool) -> Result<Vec<SourceFile>> {
    let (mut paths, mut entries) = (Vec::new(), 0);
    collect(dir, 0, &mut entries, &mut paths)?;
    ensure!(!paths.is_empty(), "{} holds no .{} file", dir.display(), ENDINGS.join(", ."));
    paths.sort();
    let mut bytes = 0;
    for path in &paths {
        bytes += path.metadata().map_or(0, |data| data.len());
    }
    ensure!(
        bytes <= BYTES_MAX,
        "the files of tasks in {} have {bytes} bytes together; at most {BYTES_MAX}",
        dir.display()
    );
    let mut files = Vec::new();
    for group in paths.chunk_by(|a, b| a.parent() == b.parent()) {
        match rows(group)? {
            Some(together) => files.push(together),
            None => files.extend(group.iter().map(|path| file(path, false)).collect::<Result<Vec<_>>>()?),
        }
    }
    ensure!(
        files.len() <= FILES_MAX,
        "{} holds {} files of tasks; at most {FILES_MAX}",
        dir.display(),
        files.len()
    );
    for file in &mut files {
        let below = Path::new(&file.name).strip_prefix(dir).unwrap_or(Path::new(&file.name));
        file.heldout = by_name && says_heldout(below);
    }
    Ok(files)
}

/// Adds the files of tasks below `dir`.
fn collect(dir: &Path, depth: usize, entries: &mut usize, paths: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read the folder {}", dir.display());
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        *entries += 1;
        ensure!(*entries <= ENTRIES_MAX, "{} holds more than {ENTRIES_MAX} entries", dir.display());
        if path.is_dir() {
            ensure!(depth < DEPTH_MAX, "{} is more than {DEPTH_MAX} folders deep", path.display());
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if !hidden {
                collect(&path, depth + 1, entries, paths)?;
            }
        } else if is_of_tasks(&path) {
            paths.push(path);
        }
    }
    Ok(())
}

fn is_of_tasks(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    path.is_file() && ENDINGS.iter().any(|ending| name.ends_with(&format!(".{ending}")))
}

/// The files of one folder as one, if there are several and each is a single row.
fn rows(paths: &[PathBuf]) -> Result<Option<SourceFile>> {
    let is_json = |path: &PathBuf| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let Some(dir) = paths[0].parent().filter(|_| paths.len() > 1 && paths.iter().all(is_json)) else {
        return Ok(None);
    };
    let (mut contents, mut rows) = (Vec::new(), Vec::new());
    for path in paths {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some(row) = row(&text) else { return Ok(None) };
        contents.extend_from_slice(row.to_string().as_bytes());
        contents.push(b'\n');
        rows.push(path.display().to_string());
    }
    Ok(Some(SourceFile { name: dir.display().to_string(), contents, heldout: false, rows }))
}

/// The object that is the whole text and no list of examples.
fn row(text: &[u8]) -> Option<Value> {
    let object: Value = serde_json::from_slice(text).ok().filter(|_| text.len() <= ROW_BYTES_MAX)?;
    let is_row = object.as_object().is_some_and(|object| !object.values().any(Value::is_array));
    is_row.then_some(object)
}

/// Whether the name of the file has `test` or the like among its words; if it doesn't have `train`
/// either, the name of the nearest folder that has one decides.
fn says_heldout(below: &Path) -> bool {
    let decided = below.iter().rev().find_map(|name| {
        let name = name.to_string_lossy().to_lowercase();
        let mut words = name.split(|c: char| !c.is_alphanumeric());
        words.find_map(|word| match word {
            "train" => Some(false),
            word => HELDOUT_NAMES.contains(&word).then_some(true),
        })
    });
    decided.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, name: &str, contents: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    fn names(files: &[SourceFile], dir: &Path) -> Vec<(String, bool, usize)> {
        let below = |file: &SourceFile| {
            let name = Path::new(&file.name).strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            (name, file.heldout, file.rows.len())
        };
        files.iter().map(below).collect()
    }

    #[test]
    fn folders_of_single_rows_are_one_file_each() {
        let dir = tempfile::tempdir().unwrap();
        let row = "{\n  \"problem\": \"1 + 1?\",\n  \"solution\": \"$\\\\boxed 2$\"\n}\n";
        for name in
            ["train/algebra/1.json", "train/algebra/2.json", "test/algebra/1.json", "test/algebra/7.json"]
        {
            put(dir.path(), name, row);
        }
        put(dir.path(), ".git/x/y.json", row);
        put(dir.path(), "README.md", "read me");
        let files = read(dir.path(), true).unwrap();
        let expected = [("test/algebra".into(), true, 2), ("train/algebra".into(), false, 2)];
        assert_eq!(names(&files, dir.path()), expected);
        assert_eq!(String::from_utf8_lossy(&files[0].contents).lines().count(), 2);
        assert!(files[0].rows[1].ends_with("7.json"));
        assert!(read(dir.path(), false).unwrap().iter().all(|file| !file.heldout));
    }

    #[test]
    fn other_files_stay_apart() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "a.json", "{\"examples\": []}");
        put(dir.path(), "b.json", "{\"question\": \"?\"}");
        put(dir.path(), "c_test.jsonl", "{\"question\": \"?\"}\n");
        let files = read(dir.path(), true).unwrap();
        let expected =
            [("a.json".into(), false, 0), ("b.json".into(), false, 0), ("c_test.jsonl".into(), true, 0)];
        assert_eq!(names(&files, dir.path()), expected);
        let error = read(&dir.path().join("none"), true).unwrap_err().to_string();
        assert!(error.contains("cannot read the folder"), "{error}");
    }

    #[test]
    fn names_say_what_is_held_out() {
        for (name, heldout) in [
            ("gsm8k/test.jsonl", true),
            ("abstract_algebra_test.csv", true),
            ("test/train.jsonl", false),
            ("latest.json", false),
            ("test/algebra", true),
            ("train/test_bench", true),
            ("arc-validation.jsonl.gz", true),
        ] {
            assert_eq!(says_heldout(Path::new(name)), heldout, "{name}");
        }
    }

    #[test]
    fn folders_give_their_files_of_tasks_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), true).unwrap_err().to_string().contains("holds no .jsonl"));
        for name in ["b.jsonl.gz", "a.csv", "README.md", "c.json.zst", "e.json/f.csv"] {
            put(dir.path(), name, "x");
        }
        let files = read(dir.path(), true).unwrap();
        let names: Vec<_> = names(&files, dir.path()).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["a.csv", "b.jsonl.gz", "c.json.zst", "e.json/f.csv"]);
    }
}
