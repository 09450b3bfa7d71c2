//! Shell commands in documents: found in code blocks, and cut into words as a shell cuts them.

/// The program whose commands are looked for.
const PROGRAM: &str = "autodidact";

/// The lines of each code block of a Markdown page that is marked `sh` or not marked, with
/// continued lines joined.
pub fn blocks(page: &str) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    // The mark of the block that is open.
    let mut open: Option<String> = None;
    for line in page.replace("\\\n", " ").lines().map(str::trim) {
        match (line.strip_prefix("```"), &open) {
            (Some(_), Some(_)) => open = None,
            (Some(mark), None) => {
                open = Some(mark.to_owned());
                if is_shell(mark) {
                    found.push(Vec::new());
                }
            }
            (None, Some(mark)) if is_shell(mark) => {
                found.extend(found.is_empty().then(Vec::new));
                found.last_mut().expect("a block is open").push(line.to_owned());
            }
            _ => {}
        }
    }
    found
}

fn is_shell(mark: &str) -> bool {
    matches!(mark, "" | "sh" | "bash" | "console")
}

/// The words of every call of the program in a line, the program's name first: without comments,
/// redirections, and what is piped to or from other programs.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for part in words(line).split(|word| matches!(word, Word::Operator(op) if op != "<" && op != ">")) {
        let mut args = Vec::new();
        let mut rest = part.iter();
        while let Some(word) = rest.next() {
            match word {
                // Its target is a file.
                Word::Operator(_) => drop(rest.next()),
                Word::Text(text) => args.push(text.clone()),
            }
        }
        let is_before = |word: &String| word == "$" || word == "time" || word.contains('=');
        let at = args.iter().position(|word| !is_before(word)).unwrap_or(0);
        let is_program = |word: &String| word == PROGRAM || word.ends_with(&format!("/{PROGRAM}"));
        if args.get(at).is_some_and(is_program) {
            found.push(args.split_off(at));
        }
    }
    found
}

enum Word {
    Text(String),
    Operator(String),
}

fn words(line: &str) -> Vec<Word> {
    let mut out = Vec::new();
    let mut chars = line.chars().peekable();
    // The word that is open; quotes open an empty one.
    let mut word: Option<String> = None;
    while let Some(c) = chars.next() {
        match c {
            '\'' => word.get_or_insert_default().extend(chars.by_ref().take_while(|c| *c != '\'')),
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    word.extend(if c == '\\' { chars.next() } else { Some(c) });
                }
            }
            '#' if word.is_none() => break,
            '|' | '<' | '>' | ';' | '&' => {
                out.extend(word.take().map(Word::Text));
                let mut operator = c.to_string();
                while chars.peek() == Some(&c) {
                    chars.next();
                    operator = if c == '>' { operator } else { format!("{operator}{c}") };
                }
                out.push(Word::Operator(operator));
            }
            c if c.is_whitespace() => out.extend(word.take().map(Word::Text)),
            c => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word.map(Word::Text));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_blocks_only() {
        let page = "autodidact prose\n```sh\n$ autodidact run --seed 1 # go\nX=1 ./a/autodidact inspect \\\n  runs | less\n\
                    cd autodidact\n```\n```text\nautodidact output\n```\n";
        let found: Vec<_> = blocks(page).concat().iter().flat_map(|line| commands(line)).collect();
        assert_eq!(
            found,
            [vec!["autodidact", "run", "--seed", "1"], vec!["./a/autodidact", "inspect", "runs"]]
        );
    }

    #[test]
    fn words_are_cut_as_a_shell_cuts_them() {
        let line = r#"echo '{"a": "b c"}' | autodidact sql "SELECT 'x' # y" --set=a=1 >> out.csv && autodidact gc < in"#;
        let expected = [vec!["autodidact", "sql", "SELECT 'x' # y", "--set=a=1"], vec!["autodidact", "gc"]];
        assert_eq!(commands(line), expected);
    }
}
