//! The documentation's promises: every configuration key is documented, every link leads
//! somewhere, and the README is short.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use autodidact::config::{Config, DEFAULT_TOML};

use super::generated::anchor;
use super::none;

const README_LINES_MAX: usize = 150;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Path and text of README, CHANGELOG and every page of `docs/`.
pub(super) fn documents() -> Vec<(String, String)> {
    let folder = root().join("docs").read_dir().expect("docs/ is there");
    let names = folder.map(|entry| entry.expect("a page").file_name().to_string_lossy().into_owned());
    let pages = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let mut paths: Vec<String> = pages.chain(["README.md".into(), "CHANGELOG.md".into()]).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), text(&path))).collect()
}

/// `section.key` of every value.
fn keys(table: &toml::Table) -> BTreeSet<String> {
    let values = table.iter().flat_map(|(section, value)| match value {
        toml::Value::Table(inner) => keys(inner).into_iter().map(|key| format!("{section}.{key}")).collect(),
        _ => vec![section.clone()],
    });
    values.collect()
}

#[test]
fn the_readme_is_short() {
    let lines = text("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines; at most {README_LINES_MAX}");
}

#[test]
fn every_configuration_key_is_documented() {
    let config = Config::load(None, &[]).expect("the defaults are valid");
    let mut known = keys(&toml::Table::try_from(&config).expect("a configuration is a table"));
    known.extend(keys(&DEFAULT_TOML.parse().expect("default.toml is TOML")));
    // The keys within `tasks.fields` are documented together.
    known.retain(|key| !key.starts_with("tasks.fields."));
    let reference = text("docs/configuration.md");
    let missing = known.into_iter().filter(|key| !reference.contains(&format!("| `{key}` |")));
    none(missing.collect(), "not in docs/configuration.md");
}

#[test]
fn every_bench_and_script_in_the_documentation_exists() {
    let manifest = text("Cargo.toml");
    let mut problems = Vec::new();
    for (page, text) in documents() {
        let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || "`()|,;".contains(c)).collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "--bench") {
            if !manifest.contains(&format!("[[bench]]\nname = \"{}\"", pair[1])) {
                problems.push(format!("{page}: no bench `{}`", pair[1]));
            }
        }
        let paths = words.iter().map(|word| word.trim_end_matches(['.', ':']));
        let is_path = |w: &&str| ["benches/", "tests/", "assets/"].iter().any(|start| w.starts_with(start));
        let missing = paths.filter(is_path).filter(|path| !root().join(path).exists());
        problems.extend(missing.map(|path| format!("{page}: no file {path}")));
    }
    none(problems, "benches and files that don't exist");
}

/// The targets of a page's links, outside of code.
fn links(page: &str) -> Vec<String> {
    let prose = page.split("```").step_by(2);
    let links = prose.flat_map(|text| text.split("](").skip(1));
    links.filter_map(|link| link.split(')').next()).map(str::to_owned).collect()
}

fn anchors(page: &str) -> Vec<String> {
    let prose = page.split("```").step_by(2);
    let headings = prose.flat_map(str::lines).filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let mut problems = Vec::new();
    for (page, text) in documents() {
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, place) = link.split_once('#').map_or((link.as_str(), None), |(f, p)| (f, Some(p)));
            let target: PathBuf = match file {
                "" => root().join(&page),
                file => root().join(&page).parent().expect("a page has a folder").join(file),
            };
            let is_there = match place {
                None => target.exists(),
                Some(place) => std::fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).iter().any(|anchor| anchor == place)),
            };
            if !is_there {
                problems.push(format!("{page}: {link}"));
            }
        }
    }
    none(problems, "links to nothing");
}

#[test]
fn every_page_is_one_click_from_the_index() {
    let index = text("docs/README.md");
    let linked = links(&index);
    let pages = documents().into_iter().filter_map(|(path, _)| path.strip_prefix("docs/").map(str::to_owned));
    let missing = pages.filter(|page| page != "README.md" && !linked.contains(page));
    none(missing.collect(), "not linked from docs/README.md");
    let readme = links(&text("README.md"));
    let wanted =
        ["models", "tasks", "inspector", "operations", "export", "limits", "configuration", "performance"];
    let missing = wanted.iter().map(|page| format!("docs/{page}.md")).filter(|page| !readme.contains(page));
    none(missing.collect(), "not linked from README.md");
}

#[test]
fn links_are_read_from_the_right_places() {
    let page = "prose\n```sh\n[no](link.md)\n```\n## A `b`, c!\n[x](y.md#z) ![p](q.svg)\n";
    assert_eq!(links(page), ["y.md#z", "q.svg"]);
    assert_eq!(anchors(page), ["a-b-c"]);
}
