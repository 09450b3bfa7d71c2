//! Keys whose values are paths: where a relative one begins, and when two of them mean the same.

use std::path::Path;

/// Paths of the user's files and folders. In a configuration file they count from its folder.
const FILES: [&str; 4] = ["run.dir", "model.prompts", "tasks.file", "tasks.heldout_file"];
/// Models: a path, or a name that is none ("embedded", "policy", a model of the hub).
const MODELS: [&str; 4] = ["model.path", "model.adapter", "judge.model", "reference.model"];

/// Makes the relative paths of a file's table count from the folder that the file is in.
///
/// The name of a model is left as it is unless there is something at that path.
pub(super) fn from_folder(table: &mut toml::Table, folder: &Path) {
    if folder.as_os_str().is_empty() {
        return;
    }
    for (keys, must_exist) in [(FILES, false), (MODELS, true)] {
        for key in keys {
            let Some(value) = slot(table, key) else { continue };
            let Some(text) = value.as_str().filter(|text| !text.is_empty()) else { continue };
            let path = folder.join(text);
            if !must_exist || path.exists() {
                *value = toml::Value::String(path.display().to_string());
            }
        }
    }
}

/// The value of a key such as `run.dir`.
fn slot<'a>(table: &'a mut toml::Table, key: &str) -> Option<&'a mut toml::Value> {
    let (section, name) = key.split_once('.')?;
    table.get_mut(section)?.get_mut(name)
}

/// Whether two values of this key name one model on this disk, in different words.
pub(crate) fn is_same_model(key: &str, one: &str, other: &str) -> bool {
    let place = |path: &str| Path::new(path).canonicalize().ok();
    one == other || MODELS.contains(&key) && place(one).is_some_and(|one| place(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_count_from_the_folder_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("model")).unwrap();
        let text = "[run]\ndir = 'night'\nseed = 3\n[model]\npath = 'model'\nadapter = ''\nprompts = '/p'\n\
                    [judge]\nmodel = 'org/name'\n[tasks]\nfile = 7\n";
        let mut table: toml::Table = text.parse().unwrap();
        from_folder(&mut table, folder.path());
        let at = |name: &str| toml::Value::String(folder.path().join(name).display().to_string());
        assert_eq!(table["run"]["dir"], at("night"));
        assert_eq!(table["model"]["path"], at("model"));
        assert_eq!(table["model"]["adapter"].as_str(), Some(""));
        assert_eq!(table["model"]["prompts"].as_str(), Some("/p"));
        assert_eq!(table["judge"]["model"].as_str(), Some("org/name"), "nothing is there: a name");
        assert_eq!(table["tasks"]["file"].as_integer(), Some(7), "refused later, as what it is");
    }

    #[test]
    fn one_folder_in_two_words_is_one_model() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("model")).unwrap();
        let (plain, long) = (folder.path().join("model"), folder.path().join("model/../model"));
        let [plain, long] = [plain, long].map(|path| path.display().to_string());
        assert!(is_same_model("model.path", &plain, &long));
        assert!(!is_same_model("select.keep", &plain, &long));
        assert!(!is_same_model("model.path", &plain, "embedded"));
        assert!(is_same_model("model.path", "embedded", "embedded"));
        assert!(!is_same_model("model.path", "embedded", "org/name"));
    }
}
