//! What a completion thinks aloud is no answer: blocks between a model family's markers are left out.

use std::borrow::Cow;

/// Markers that open and close a block, in lower case. Any closing one closes any block.
const MARKERS: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reason>", "</reason>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<analysis>", "</analysis>"),
    ("<cot>", "</cot>"),
    ("<inner_monologue>", "</inner_monologue>"),
    ("<chain_of_thought>", "</chain_of_thought>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<ant_thinking>", "</ant_thinking>"),
    ("<antthinking>", "</antthinking>"),
    ("[think]", "[/think]"),
    ("[thinking]", "[/thinking]"),
    ("[reasoning]", "[/reasoning]"),
    ("◁think▷", "◁/think▷"),
    ("<|think|>", "<|/think|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|start_of_thought|>", "<|end_of_thought|>"),
    ("<begin_of_thought>", "<end_of_thought>"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|begin_thinking|>", "<|end_thinking|>"),
    ("<|thinking_start|>", "<|thinking_end|>"),
    ("<|thinking|>", "<|/thinking|>"),
    ("<think_start>", "<think_end>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<unused94>", "<unused95>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis", "<|channel|>final"),
    ("<|channel|>commentary", "<|channel|>final"),
];

/// The text without its thinking; `None` if a block is not closed.
///
/// A closing marker without an opening one ends a block that the prompt has opened, so all before
/// it is thinking.
pub(super) fn outside(text: &str) -> Option<Cow<'_, str>> {
    if let Some(shown) = harmony_in_words(text) {
        return shown.map(Cow::Borrowed);
    }
    if !text.contains(['<', '[', '◁']) {
        return Some(Cow::Borrowed(text));
    }
    // Only ASCII case: lower-casing all of Unicode would move byte positions.
    let lower = text.to_ascii_lowercase();
    let mut marks: Vec<(usize, usize, bool)> = Vec::new();
    for (open, close) in MARKERS {
        for (mark, opens) in [(open, true), (close, false)] {
            marks.extend(lower.match_indices(mark).map(|(at, _)| (at, at + mark.len(), opens)));
        }
    }
    if marks.is_empty() {
        return Some(Cow::Borrowed(text));
    }
    marks.sort_unstable();
    let (mut shown, mut from, mut inside) = (String::new(), 0, false);
    for (at, end, opens) in marks {
        if !inside && opens {
            shown.push_str(text.get(from..at).unwrap_or_default());
            inside = true;
        } else if !opens {
            if !inside {
                shown.clear();
            }
            inside = false;
            from = end;
        }
    }
    if inside {
        return None;
    }
    shown.push_str(&text[from..]);
    Some(Cow::Owned(shown))
}

/// Channels whose markers were stripped from the text: `analysisWe need…assistantfinal5`.
fn harmony_in_words(text: &str) -> Option<Option<&str>> {
    let thinks = text.trim_start().strip_prefix("analysis")?;
    thinks.starts_with(|c: char| c.is_uppercase()).then_some(())?;
    Some(thinks.rfind("assistantfinal").map(|at| &thinks[at + "assistantfinal".len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_outside_is_shown() {
        for (text, shown) in [
            ("no thinking", Some("no thinking")),
            ("<think>\n5?\n</think>\n\n7", Some("\n\n7")),
            ("still thinking 5</think>7", Some("7")),
            ("<THINK>5</THINK>7", Some("7")),
            ("a <thinking>5</thinking> b <thinking>6</thinking> c", Some("a  b  c")),
            ("<think>a <think>b</think> 5</think>7", Some("7")),
            ("[THINK]5[/THINK]7", Some("7")),
            ("◁think▷5◁/think▷7", Some("7")),
            ("<|begin_of_thought|>5<|end_of_thought|>7", Some("7")),
            ("<seed:think>5</seed:think>7", Some("7")),
            (
                "<|channel|>analysis<|message|>5<|end|><|start|>assistant<|channel|>final<|message|>7",
                Some("<|message|>7"),
            ),
            ("analysisWe think 5.assistantfinal7", Some("7")),
            ("analysisWe think 5.", None),
            ("<think>5", None),
            ("<think>5</think>7<think>8", None),
            ("a < b and c > d", Some("a < b and c > d")),
        ] {
            assert_eq!(outside(text).as_deref(), shown, "{text:?}");
        }
    }
}
