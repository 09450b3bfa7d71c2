//! A formula as tokens: spacing, sizes and fonts gone, one token for each way to write a thing.

use super::words::{self, Meaning};

/// Deepest nesting of arguments.
const DEPTH_MAX: usize = 12;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Digits with a point: `12.5`, `0.(3)`.
    Number(String),
    /// A letter, perhaps with an index or a bar: `x`, `\pi`, `x_{1}`.
    Symbol(String),
    /// Words, in lower case; one letter keeps its case.
    Text(String),
    /// A named function, such as `sin`.
    Function(String),
    Sign(char),
    /// Begin and end of a matrix.
    Begin(String),
    End,
}

/// Signs that stand for what has no sign in ASCII.
pub(super) mod sign {
    pub(in super::super) const FRACTION: char = '⁄';
    pub(in super::super) const BINOMIAL: char = '⨁';
    pub(in super::super) const ROOT: char = '√';
    pub(in super::super) const ANGLE: (char, char) = ('⟨', '⟩');
    /// Around the degree of a root.
    pub(in super::super) const DEGREE: (char, char) = ('⟦', '⟧');
    pub(in super::super) const SET: (char, char) = ('⦃', '⦄');
    pub(in super::super) const ABSOLUTE: (char, char) = ('‹', '›');
    pub(in super::super) const ROW: char = '\n';
    pub(in super::super) const AND: char = '∧';
    pub(in super::super) const OR: char = '∨';
}

/// The tokens of a formula; `None` for what can't be one.
pub(super) fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut lexer = Lexer { rest: text, brackets: 0, depth: 0, found: Vec::new() };
    lexer.run()?;
    Some(lexer.found)
}

struct Lexer<'a> {
    rest: &'a str,
    /// Open brackets in which a comma separates, and thousands are not separated by one.
    brackets: usize,
    depth: usize,
    found: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Option<()> {
        while let Some(c) = self.rest.chars().next() {
            if c.is_ascii_digit() || (c == '.' && self.rest[1..].starts_with(|d: char| d.is_ascii_digit())) {
                self.number();
            } else if c == '\\' {
                self.command()?;
            } else if c.is_ascii_alphabetic() {
                self.letters();
            } else {
                self.rest = &self.rest[c.len_utf8()..];
                self.character(c)?;
            }
        }
        Some(())
    }

    fn sign(&mut self, sign: char) {
        self.found.push(Token::Sign(sign));
    }

    fn character(&mut self, c: char) -> Option<()> {
        match c {
            '¥' | '₹' | '$' | '%' | '°' | '~' | '"' | '“' | '”' | '€' | '£' | '?' => {}
            c if c.is_whitespace() => {}
            '(' | '[' => {
                self.brackets += 1;
                self.sign(c);
            }
            ')' | ']' => {
                self.brackets = self.brackets.saturating_sub(1);
                self.sign(c);
            }
            '*' => {
                self.rest = self.rest.strip_prefix('*').map_or(self.rest, |rest| {
                    self.found.push(Token::Sign('^'));
                    rest
                });
                if self.found.last() != Some(&Token::Sign('^')) {
                    self.sign('*');
                }
            }
            '<' | '>' | '!' | '=' => self.relation(c),
            '^' => self.power()?,
            '_' => self.index()?,
            '{' | '}' | '+' | '-' | '/' | ',' | ';' | ':' | '|' | '\'' | '&' | '≈' | '∈' | '∪' | '∩'
            | '±' | '∓' | '√' | '≤' | '≥' | '≠' => self.sign(c),
            // A full stop within a formula ends nothing.
            '.' if self.rest.trim().is_empty() => {}
            c if words::superscript(c).is_some() => self.superscripts(c)?,
            c => {
                let replaced = words::character(c)?;
                self.nested(replaced)?;
            }
        }
        Some(())
    }

    /// `<=`, `>=`, `!=`, `==`, or the sign as it is.
    fn relation(&mut self, c: char) {
        let joined = match (c, self.rest.chars().next()) {
            ('<', Some('=')) => '≤',
            ('>', Some('=')) => '≥',
            ('!', Some('=')) => '≠',
            ('=', Some('=')) => '=',
            _ => return self.sign(c),
        };
        self.rest = &self.rest[1..];
        self.sign(joined);
    }

    /// The tokens of another text, in place.
    fn nested(&mut self, text: &str) -> Option<()> {
        if self.depth >= DEPTH_MAX {
            return None;
        }
        let mut inner =
            Lexer { rest: text, brackets: self.brackets, depth: self.depth + 1, found: Vec::new() };
        inner.run()?;
        self.found.append(&mut inner.found);
        Some(())
    }

    /// The tokens of an argument, in braces.
    fn braced(&mut self, text: &str) -> Option<()> {
        self.sign('{');
        self.nested(text)?;
        self.sign('}');
        Some(())
    }

    /// The next argument of a command: a group, a command, or one character.
    fn argument(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        let length = match self.rest.chars().next()? {
            '{' => {
                let end = closing(self.rest)?;
                let inner = &self.rest[1..end];
                self.rest = &self.rest[end + 1..];
                return Some(inner);
            }
            '\\' => 1 + name(&self.rest[1..]).len(),
            c => c.len_utf8(),
        };
        let (argument, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(argument)
    }

    /// A power; a degree sign is none.
    fn power(&mut self) -> Option<()> {
        let trimmed = self.rest.trim_start();
        for degree in ["\\circ", "{\\circ}", "\\degree", "{\\degree}", "{o}", "{\\,\\circ}", "{ \\circ }"] {
            if let Some(rest) = trimmed.strip_prefix(degree) {
                self.rest = rest;
                return Some(());
            }
        }
        self.sign('^');
        if trimmed.starts_with('{') {
            let inner = self.argument()?;
            self.braced(inner)?;
        }
        Some(())
    }

    /// A power in raised digits, such as the 10 of 2¹⁰.
    fn superscripts(&mut self, first: char) -> Option<()> {
        let mut power: String = words::superscript(first)?.to_string();
        while let Some((c, digit)) = self.rest.chars().next().and_then(|c| Some((c, words::superscript(c)?)))
        {
            power.push(digit);
            self.rest = &self.rest[c.len_utf8()..];
        }
        self.sign('^');
        self.braced(&power)
    }

    /// An index belongs to the symbol or number before it; the base of a logarithm is an argument.
    fn index(&mut self) -> Option<()> {
        let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let index = match digits {
            0 => self.argument()?,
            digits => {
                let (index, rest) = self.rest.split_at(digits);
                self.rest = rest;
                index
            }
        };
        let index: String = words::bare(index).chars().filter(|c| !c.is_whitespace()).collect();
        match self.found.pop()? {
            Token::Symbol(name) if !name.contains('_') => {
                self.found.push(Token::Symbol(format!("{name}_{{{index}}}")));
            }
            Token::Number(digits) => {
                self.found.push(Token::Symbol(format!("{digits}_{{{index}}}")));
            }
            Token::Function(name) if name == "log" => {
                self.found.push(Token::Function("log_".into()));
                self.braced(&index)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Letters without a command: words, functions, or symbols that are multiplied.
    fn letters(&mut self) {
        let end = self.rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        let after_interval = matches!(self.found.last(), Some(Token::Sign(')' | ']')));
        match words::meaning(run) {
            Some(meaning) => self.push(meaning),
            None if run == "U" && after_interval => self.sign('∪'),
            None if words::is_word(run) || (run.len() == 3 && self.counts() && words::is_unit(run)) => {
                self.found.push(Token::Text(run.to_lowercase()))
            }
            None => self.found.extend(run.chars().map(|c| Token::Symbol(c.to_string()))),
        }
    }

    /// Whether a unit may follow what was read last.
    fn counts(&self) -> bool {
        matches!(self.found.last(), Some(Token::Number(_) | Token::Text(_)))
    }

    fn push(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::Sign(sign) => self.sign(sign),
            Meaning::Symbol(name) => self.found.push(Token::Symbol(name.to_owned())),
            Meaning::Function(name) => self.found.push(Token::Function(name.to_owned())),
            Meaning::Unit(name) => self.found.push(Token::Text(name.to_owned())),
            Meaning::Nothing => {}
        }
    }

    fn command(&mut self) -> Option<()> {
        let name = name(&self.rest[1..]);
        self.rest = &self.rest[1 + name.len()..];
        match name {
            "frac" | "dfrac" | "tfrac" | "cfrac" | "binom" | "dbinom" | "tbinom" => {
                self.sign(if name.ends_with("frac") { sign::FRACTION } else { sign::BINOMIAL });
                for _ in 0..2 {
                    let argument = self.argument()?;
                    self.braced(argument)?;
                }
            }
            "sqrt" => self.root()?,
            "left" | "right" | "bigl" | "bigr" | "Bigl" | "Bigr" | "big" | "Big" | "middle" => {
                self.rest = self.rest.trim_start();
                if let Some(rest) = self.rest.strip_prefix('.') {
                    self.rest = rest;
                } else if let Some(rest) = self.rest.strip_prefix(['<', '>']) {
                    self.rest = rest;
                    let (open, close) = sign::ANGLE;
                    self.sign(if name == "left" { open } else { close });
                } else if let Some(rest) = self.rest.strip_prefix('|') {
                    self.rest = rest;
                    let (open, close) = sign::ABSOLUTE;
                    self.sign(if name == "left" { open } else { close });
                }
            }
            "begin" => self.environment()?,
            "end" => {
                self.argument()?;
                self.found.push(Token::End);
            }
            "\\" => {
                self.sign(sign::ROW);
                // The space after a row, as in `\\[2pt]`.
                if let Some(rest) = self.rest.strip_prefix('[') {
                    self.rest = &rest[rest.find(']')? + 1..];
                }
            }
            "{" | "}" => {
                let open = name == "{";
                self.brackets = if open { self.brackets + 1 } else { self.brackets.saturating_sub(1) };
                self.sign(if open { sign::SET.0 } else { sign::SET.1 });
            }
            "color" | "hspace" | "vspace" | "phantom" | "hphantom" | "label" | "tag" => {
                self.argument()?;
            }
            "textcolor" | "colorbox" => {
                self.argument()?;
                let inner = self.argument()?;
                self.braced(inner)?;
            }
            "angle" | "measuredangle" | "triangle" | "odot" | "arc" => self.figure(name)?,
            "overline" | "bar" | "hat" | "vec" | "overrightarrow" | "tilde" | "mathbb" | "mathcal"
            | "mathfrak" | "mathscr" => {
                let inner: String = self.argument()?.chars().filter(|c| !c.is_whitespace()).collect();
                self.found.push(Token::Symbol(format!("\\{name}{{{inner}}}")));
            }
            _ if words::is_font(name) => self.font(name)?,
            _ => match words::command(name) {
                Some(meaning) => self.push(meaning),
                None => self.found.push(Token::Symbol(format!("\\{name}"))),
            },
        }
        Some(())
    }

    /// A figure by its points: `\angle ABC`.
    fn figure(&mut self, name: &str) -> Option<()> {
        self.rest = self.rest.trim_start();
        let letters = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let points = if letters == 0 { self.argument()? } else { self.rest.get(..letters)? };
        self.rest = self.rest.get(letters..)?;
        self.found.push(Token::Symbol(format!("\\{name}{{{}}}", points.trim())));
        Some(())
    }

    fn root(&mut self) -> Option<()> {
        self.sign(sign::ROOT);
        self.rest = self.rest.trim_start();
        if let Some(rest) = self.rest.strip_prefix('[') {
            let (degree, rest) = rest.split_once(']')?;
            self.rest = rest;
            self.sign(sign::DEGREE.0);
            self.nested(degree)?;
            self.sign(sign::DEGREE.1);
        }
        self.rest = self.rest.trim_start();
        let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 1 {
            let (inner, rest) = self.rest.split_at(digits);
            self.rest = rest;
            return self.braced(inner);
        }
        if self.rest.starts_with('(') {
            return Some(());
        }
        let inner = self.argument()?;
        self.braced(inner)
    }

    fn environment(&mut self) -> Option<()> {
        let name = self.argument()?;
        if name == "array" {
            // The columns' alignment.
            self.argument()?;
        }
        let kind = match name.trim_end_matches('*') {
            "pmatrix" | "bmatrix" | "matrix" | "array" | "smallmatrix" | "Bmatrix" => "pmatrix",
            "vmatrix" => "vmatrix",
            _ => return None,
        };
        self.found.push(Token::Begin(kind.to_owned()));
        Some(())
    }

    /// Text, and letters in another font.
    fn font(&mut self, name: &str) -> Option<()> {
        let inner = self.argument()?;
        let word = inner.trim_matches([' ', '~']).trim_end_matches(['.', ',']);
        let is_word = word.len() > 1 && word.bytes().all(|b| b.is_ascii_alphabetic());
        let is_text = words::is_text(name);
        if is_text && words::only_introduces(word) {
            // `\text{about }5`
            return Some(());
        }
        match words::meaning(word).filter(|_| is_word) {
            Some(meaning) => self.push(meaning),
            None if is_word => self.found.push(Token::Text(word.to_lowercase())),
            None if word.len() == 1
                && word.as_bytes()[0].is_ascii_alphabetic()
                && (is_text || words::is_unit_letter(name, word)) =>
            {
                self.found.push(Token::Text(word.to_owned()));
            }
            None if is_text => self.text(inner)?,
            None => self.nested(inner)?,
        }
        Some(())
    }

    /// What stands in `\text{…}`: an option, a number, or words.
    fn text(&mut self, inner: &str) -> Option<()> {
        let word = inner.trim();
        let letter = word.trim_matches(['(', ')', '[', ']', '.', ' ']);
        if word.is_empty() {
            return Some(());
        }
        if matches!(word, "," | ";") {
            self.sign(',');
        } else if word == ":" {
            self.sign(':');
        } else if letter.len() == 1 && letter.as_bytes()[0].is_ascii_alphabetic() {
            self.found.push(Token::Text(letter.to_owned()));
        } else if word.bytes().all(|b| b.is_ascii_digit() || b".,-+/:".contains(&b)) {
            self.nested(word)?;
        } else if let Some((first, rest)) = word.split_once(", ") {
            self.text(first)?;
            self.sign(',');
            self.text(rest)?;
        } else if word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '$')) {
            self.nested(word)?;
        } else {
            self.found.push(Token::Text(words::plain(word)));
        }
        Some(())
    }

    /// A number with its thousands separators and decimals.
    fn number(&mut self) {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (first, mut rest) = self.rest.split_at(digits(self.rest));
        let mut number = first.to_owned();
        if (1..=3).contains(&first.len())
            && !first.starts_with('0')
            && let Some((groups, after)) = self.groups(rest)
        {
            number.push_str(&groups);
            rest = after;
        }
        if let Some(part) = rest.strip_prefix('.') {
            let length = digits(part);
            if length > 0 {
                number.push('.');
                number.push_str(&part[..length]);
                rest = &part[length..];
            }
            let repeating = ["\\overline{", "\\bar{"]
                .iter()
                .find_map(|mark| rest.strip_prefix(mark).or_else(|| part.strip_prefix(mark)));
            if let Some((repeating, after)) = repeating.and_then(|text| text.split_once('}')) {
                let point = if number.contains('.') { "" } else { "." };
                number.push_str(&format!("{point}({repeating})"));
                rest = after;
            }
        }
        self.rest = rest;
        self.found.push(Token::Number(number));
    }

    /// Groups of three digits after the first, if every group has the same separator.
    fn groups(&self, text: &'a str) -> Option<(String, &'a str)> {
        // A bare comma or blank within brackets is between two elements.
        let bare: &[&str] = if self.brackets == 0 { &[",", " "] } else { &[] };
        let written = [
            "{,}", ",\\!", "\\!,", "{,\\!}", "\\,", "\\!", "\\ ", "~", "{\\,}", "\u{a0}", "\u{202f}",
            "\u{2009}", "’",
        ];
        let separator = written.iter().chain(bare).find(|mark| text.starts_with(**mark))?;
        let (mut joined, mut rest) = (String::new(), text);
        while let Some(after) = rest.strip_prefix(*separator) {
            let length = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            if length == 0 && *separator != "," {
                break;
            }
            if length != 3 {
                return None;
            }
            joined.push_str(&after[..3]);
            rest = &after[3..];
        }
        // `2,100, 5` is a list of three.
        (!joined.is_empty()).then_some((joined, rest))
    }
}

/// The name of a command: letters, or one other character.
fn name(text: &str) -> &str {
    let letters = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    match letters {
        0 => &text[..text.chars().next().map_or(0, char::len_utf8)],
        letters => &text[..letters],
    }
}

/// Where the group that begins the text is closed.
pub(in crate::answer) fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut escaped) = (0usize, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' if depth <= 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}
