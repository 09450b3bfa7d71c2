//! Renderings equal to those of `transformers`, byte for byte, and what a template may not do.

use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// A file that `tests/golden/chat_templates.py` made.
#[derive(Deserialize)]
struct Golden {
    date: String,
    special_tokens: BTreeMap<String, String>,
    template: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    title: String,
    messages: Value,
    tools: Option<Value>,
    #[serde(default)]
    add_generation_prompt: bool,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
    rendered: Option<String>,
    error: Option<String>,
}

fn compiled(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, BTreeMap::new(), "2024-07-26".parse().unwrap()).unwrap()
}

fn rendered(source: &str, messages: serde_json::Value) -> Result<String> {
    compiled(source).render(&serde_json::from_value(messages).unwrap(), &ChatRequest::default())
}

#[test]
fn renderings_are_those_of_transformers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let (mut checked, mut problems) = (0, Vec::new());
    for path in &paths {
        let name = path.file_stem().unwrap().to_string_lossy();
        let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let date = golden.date.parse().unwrap();
        let template = ChatTemplate::new(&golden.template, golden.special_tokens, date).unwrap();
        for case in golden.cases {
            let request = ChatRequest {
                tools: case.tools,
                add_generation_prompt: case.add_generation_prompt,
                variables: case.variables,
            };
            let ours = template.render(&case.messages, &request).map_err(|error| error.to_string());
            let same = match (&ours, &case.rendered, &case.error) {
                (Ok(ours), Some(theirs), _) => ours == theirs,
                (Err(ours), None, Some(theirs)) => ours.ends_with(theirs.as_str()),
                _ => false,
            };
            if !same {
                let theirs = case.rendered.or(case.error);
                problems.push(format!("{name}, {}:\n  ours   {ours:?}\n  theirs {theirs:?}", case.title));
            }
            checked += 1;
        }
    }
    assert!(problems.is_empty(), "{} of {checked} differ:\n{}", problems.len(), problems.join("\n"));
    assert!(checked > 140, "only {checked} renderings");
}

#[test]
fn generation_tags_change_nothing_but_the_scope() {
    let source = "a\n  {%- generation -%}  b{% endgeneration %}\nc{% generation %}\n\nd{%endgeneration%}{% if true %}e{% endif %}";
    assert_eq!(rendered(source, serde_json::json!([])).unwrap(), "abc\nde");
    let open = ChatTemplate::new("{% generation %}", BTreeMap::new(), "2024-07-26".parse().unwrap());
    assert!(open.unwrap_err().to_string().contains("not valid Jinja"));
}

#[test]
fn what_cannot_be_rendered_says_why() {
    let error = |source| rendered(source, serde_json::json!([{"role": "user"}])).unwrap_err().to_string();
    let refused = error("{% macro m() %}{{ raise_exception('Only ' + 'two roles') }}{% endmacro %}{{ m() }}");
    assert_eq!(refused, "the chat template refuses the conversation: Only two roles");
    assert!(error("{{ messages[0].content.strip() }}").contains("can't be rendered"));
    let endless =
        error("{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}");
    assert!(endless.contains("fuel"), "{endless}");
    assert!(error("{{ strftime_now('%Q') }}").contains("`%Q`"));
    assert!(error("{{ nothing|tojson }}").contains("tojson"));
    let broken = ChatTemplate::new("{% if %}", BTreeMap::new(), "2024-07-26".parse().unwrap()).unwrap_err();
    assert!(broken.to_string().contains("not valid Jinja"), "{broken}");
}

#[test]
fn days_are_those_of_the_calendar() {
    // date -d 2000-02-29 '+%a %j'; date -d 1900-03-01 '+%a %j'
    let format = |day: &str| day.parse::<Date>().unwrap().strftime("%a %j %u %w %e %-m").unwrap();
    assert_eq!(format("2000-02-29"), "Tue 060 2 2 29 2");
    assert_eq!(format("1900-03-01"), "Thu 060 4 4  1 3");
    assert_eq!(format("2026-12-31"), "Thu 365 4 4 31 12");
    for wrong in
        ["2023-02-29", "2024-13-01", "2024-00-10", "24-01-01", "2024-1-1", "today", "", "2024-01-01x"]
    {
        assert!(wrong.parse::<Date>().is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_conversation_is_rendered_or_refused(role in "\\PC{0,8}", content: String, more: String) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat");
        for name in ["qwen3", "mistral", "python_values"] {
            let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
            let messages = serde_json::json!([
                {"role": "user", "content": content}, {"role": role, "content": more}, {"role": "assistant", "content": content},
            ]);
            let _ = rendered(&source, messages);
        }
    }

    #[test]
    fn any_source_compiles_or_not(source in "(\\{%|%\\}|\\{\\{|\\}\\}|generation|endgeneration|if|-|\\PC| ){0,30}") {
        if let Ok(template) = ChatTemplate::new(&source, BTreeMap::new(), "2024-07-26".parse().unwrap()) {
            let _ = template.render(&Value::from(()), &ChatRequest::default());
        }
    }
}

/// The values are Python 3.11's.
#[test]
fn methods_of_texts_are_pythons() {
    for (expression, expected) in [
        ("'a=b=c'.partition('=')", "['a', '=', 'b=c']"),
        ("'a=b=c'.rpartition('=')", "['a=b', '=', 'c']"),
        ("'abc'.partition('=')", "['abc', '', '']"),
        ("'abc'.rpartition('=')", "['', '', 'abc']"),
        ("'a/b/c'.rsplit('/', 1)", "['a/b', 'c']"),
        ("'a/b/c'.rsplit('/')", "['a', 'b', 'c']"),
        ("' a  b c '.rsplit()", "['a', 'b', 'c']"),
        ("' a  b c '.rsplit(None, 1)", "[' a  b', 'c']"),
        ("'7'.zfill(3)", "007"),
        ("'-7'.zfill(4)", "-007"),
        ("'ab'.ljust(4) ~ '|'", "ab  |"),
        ("'ab'.rjust(4, '.')", "..ab"),
        ("'ab'.center(5, '.')", "..ab."),
        ("'abc'.center(6, '.')", ".abc.."),
        ("'Straße'.casefold()", "strasse"),
        ("'aB'.swapcase()", "Ab"),
        ("'äbc'.index('c')", "2"),
        ("'abab'.rindex('b')", "3"),
        ("'12'.isdecimal()", "True"),
    ] {
        let source = format!("{{{{ {expression} }}}}");
        assert_eq!(rendered(&source, serde_json::json!([])).unwrap(), expected, "{expression}");
    }
    for wrong in ["'a'.ljust(10000000)", "'a'.partition('')", "'a'.index('b')", "'a'.center(3, '')"] {
        rendered(&format!("{{{{ {wrong} }}}}"), serde_json::json!([])).unwrap_err();
    }
}

#[test]
fn line_breaks_of_other_systems_are_line_feeds() {
    let source = "{% for m in messages %}\r\n{{ m.role }}\r\n{% endfor %}\rend";
    let plain = source.replace("\r\n", "\n").replace('\r', "\n");
    let messages = serde_json::json!([{ "role": "user", "content": "?" }]);
    let text = rendered(source, messages.clone()).unwrap();
    assert_eq!(text, rendered(&plain, messages).unwrap());
    assert_eq!(text, "user\nend");
}
