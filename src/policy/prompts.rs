//! The prompt templates: those in the binary, each replaced by a file of its name in the folder
//! `model.prompts`.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::config::Config;
use crate::text::{Prompts, TEMPLATES};

/// The configured templates.
///
/// # Errors
/// `model.prompts` is not a folder, a file in it can't be read, or it is not a valid template.
pub(super) fn prompts(config: &Config) -> Result<Prompts> {
    let dir = Path::new(&config.model.prompts);
    if config.model.prompts.is_empty() {
        return Prompts::embedded();
    }
    ensure!(dir.is_dir(), "model.prompts = {:?} is not a folder", config.model.prompts);
    let mut replaced = Vec::new();
    for (name, _) in TEMPLATES {
        let path = dir.join(name);
        if path.exists() {
            let source =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            replaced.push((name.to_owned(), source));
        }
    }
    Prompts::with(&replaced).with_context(|| format!("cannot use the prompts in {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(folder: &Path) -> Result<Prompts> {
        let folder = folder.display().to_string();
        prompts(&Config::load(None, &[("model.prompts".into(), folder)]).unwrap())
    }

    #[test]
    fn a_file_in_the_folder_replaces_the_template_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<&str> = TEMPLATES.iter().map(|(name, _)| *name).collect();
        let hash = |prompts: &Prompts| prompts.hash_of(&names);
        let embedded = hash(&Prompts::embedded().unwrap());
        assert_eq!(hash(&configured(dir.path()).unwrap()), embedded, "an empty folder replaces nothing");
        let (name, source) = TEMPLATES[0];
        std::fs::write(dir.path().join(name), format!("{source} ")).unwrap();
        std::fs::write(dir.path().join("unknown.txt"), "{{").unwrap();
        assert_ne!(hash(&configured(dir.path()).unwrap()), embedded);
        std::fs::write(dir.path().join(name), "{{").unwrap();
        let error = format!("{:#}", configured(dir.path()).map(drop).unwrap_err());
        assert!(error.contains("cannot use the prompts in") && error.contains(name), "{error}");
        let error = configured(&dir.path().join("absent")).map(drop).unwrap_err().to_string();
        assert!(error.contains("model.prompts") && error.contains("is not a folder"), "{error}");
    }
}
