//! The hub's settings out of the environment, by the rules of Python's `huggingface_hub`.

use std::env;
use std::path::PathBuf;

use crate::hub::Settings;

const ENDPOINT: &str = "https://huggingface.co";

/// The hub's settings, from the variables that Python's `huggingface_hub` reads.
pub(super) fn settings() -> Settings {
    settings_from(|name| env::var_os(name).and_then(|value| value.into_string().ok()))
}

fn settings_from(get: impl Fn(&str) -> Option<String>) -> Settings {
    let var = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let is_on = |name: &str| {
        var(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()))
    };
    let home = || PathBuf::from(var("HOME").or_else(|| var("USERPROFILE")).unwrap_or_else(|| ".".to_owned()));
    let expanded = |path: String| match path.strip_prefix("~/") {
        Some(rest) => home().join(rest),
        None => PathBuf::from(path),
    };
    let folder = |name: &str| var(name).map(expanded);
    let hf_home = folder("HF_HOME").unwrap_or_else(|| {
        folder("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("huggingface")
    });
    let cache = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
    let from_file = || {
        let path = folder("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        let token = std::fs::read_to_string(path).ok()?.trim().to_owned();
        Some(token).filter(|token| !token.is_empty() && !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
    };
    let token = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN"));
    Settings {
        endpoint: var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()).trim_end_matches('/').to_owned(),
        token: token.or_else(from_file),
        cache: cache.unwrap_or_else(|| hf_home.join("hub")),
        offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn with(vars: &[(&str, &str)]) -> Settings {
        let get = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        settings_from(get)
    }

    #[test]
    fn the_environment_is_read_as_python_reads_it() {
        let cache = |vars: &[(&str, &str)]| with(vars).cache;
        assert_eq!(cache(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/f")]), Path::new("/h/f/hub"));
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(with(&[]).endpoint, "https://huggingface.co");
        assert_eq!(with(&[("HF_ENDPOINT", "http://mirror:1/")]).endpoint, "http://mirror:1");
        for (value, offline) in [("1", true), ("TRUE", true), ("0", false), ("", false), ("no", false)] {
            assert_eq!(with(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
    }

    #[test]
    fn the_token_comes_from_the_environment_or_its_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        assert_eq!(with(&[home]).token.as_deref(), Some("hf_file"));
        assert_eq!(with(&[home, ("HF_TOKEN", " hf_own ")]).token.as_deref(), Some("hf_own"));
        assert_eq!(with(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
        assert_eq!(with(&[("HF_TOKEN_PATH", "/absent"), home]).token, None);
    }
}
