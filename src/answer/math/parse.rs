//! From tokens to a tree, by recursive descent.
//!
//! list = item {(, | ; | and | or) item}, item = side {relation side}, side = sum {∪ sum}, sum =
//! product {(+|-) product}, product = power {[* | /] power}, power = primary {! | ^ power}.

use super::lex::{Token, sign};
use super::node::Node;
use super::words;

/// Deepest nesting.
pub(super) const DEPTH_MAX: usize = 24;

/// Most tokens of a formula.
const TOKENS_MAX: usize = 1500;

/// The tree of a formula; `None` if a token is left over or out of place.
pub(super) fn tree(tokens: &[Token]) -> Option<Node> {
    if tokens.len() > TOKENS_MAX || tokens.is_empty() {
        return None;
    }
    let mut parser = Parser { tokens, at: 0, depth: 0, bars: 0, minus: None };
    let whole = parser.list()?;
    (parser.at == tokens.len()).then_some(whole)
}

pub(super) struct Parser<'t> {
    pub tokens: &'t [Token],
    pub at: usize,
    pub depth: usize,
    /// Open `|`.
    pub bars: usize,
    /// In an item with ±: whether it is read as -.
    minus: Option<bool>,
}

/// What separates the items of a list.
fn is_separator(token: &Token) -> bool {
    matches!(token, Token::Sign(',' | ';' | sign::AND | sign::OR))
}

fn is_relation(c: char) -> bool {
    matches!(c, '<' | '>' | '≤' | '≥' | '=' | '≠' | '≈' | '∈')
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn peek_sign(&self) -> Option<char> {
        match self.peek() {
            Some(Token::Sign(c)) => Some(*c),
            _ => None,
        }
    }

    pub(super) fn take(&mut self, wanted: char) -> bool {
        let found = self.peek_sign() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn list(&mut self) -> Option<Node> {
        let (items, any_or) = self.items(true)?;
        let inequality = |signs: &[char]| signs.iter().all(|sign| matches!(sign, '<' | '>' | '≤' | '≥'));
        let is_range = |item: &Node| match item {
            Node::Relation(_, signs) => inequality(signs),
            item => matches!(item, Node::Interval(..) | Node::Union(..)),
        };
        match <[Node; 1]>::try_from(items) {
            Ok([item]) => Some(item),
            Err(items) if any_or && items.iter().any(is_range) => Some(Node::Union(items)),
            Err(items) => Some(Node::Set(items)),
        }
    }

    /// Items up to what closes them, and whether an "or" stands between two. In a list or a set, an
    /// item with ± is two; elsewhere the sign is one of the whole.
    pub(super) fn items(&mut self, doubles: bool) -> Option<(Vec<Node>, bool)> {
        self.depth += 1;
        let (mut items, mut any_or) = (Vec::new(), false);
        while self.depth <= DEPTH_MAX {
            if doubles {
                self.signed_item(&mut items)?;
            } else {
                items.push(self.item()?);
            }
            let mut separated = false;
            // `, and` is one separator.
            while self.peek().is_some_and(is_separator) {
                any_or |= self.take(sign::OR);
                if self.peek().is_some_and(is_separator) {
                    self.at += 1;
                }
                separated = true;
            }
            // A separator at the end separates nothing.
            if !separated || self.peek().is_none() {
                self.depth -= 1;
                return Some((items, any_or));
            }
        }
        None
    }

    /// One item; with ± it is two.
    fn signed_item(&mut self, items: &mut Vec<Node>) -> Option<()> {
        let start = self.at;
        let outer = self.minus.take();
        let first = self.item()?;
        let seen = self.minus.is_some();
        items.push(first);
        if seen {
            let end = self.at;
            (self.at, self.minus) = (start, Some(true));
            items.push(self.item()?);
            if self.at != end {
                return None;
            }
        }
        self.minus = outer;
        Some(())
    }

    fn item(&mut self) -> Option<Node> {
        // `= 5` without what it equals.
        let _ = self.take('=') || self.take('≈');
        let mut sides = vec![self.side()?];
        let mut signs = Vec::new();
        while let Some(c) = self.peek_sign().filter(|c| is_relation(*c)) {
            self.at += 1;
            if self.peek().is_none() && c == '∈' {
                // Inches at the end.
                break;
            }
            signs.push(c);
            sides.push(self.side()?);
        }
        let first = if sides.len() == 1 { sides.pop() } else { None };
        Some(first.unwrap_or(Node::Relation(sides, signs)))
    }

    fn side(&mut self) -> Option<Node> {
        let first = self.ratio()?;
        let mut parts = vec![first];
        while self.take('∪') {
            parts.push(self.ratio()?);
        }
        match <[Node; 1]>::try_from(parts) {
            Ok([part]) => Some(part),
            Err(parts) => Some(Node::Union(parts)),
        }
    }

    fn ratio(&mut self) -> Option<Node> {
        let mut parts = vec![self.sum()?];
        while self.take(':') {
            parts.push(self.sum()?);
        }
        match <[Node; 1]>::try_from(parts) {
            Ok([part]) => Some(part),
            Err(parts) => Some(Node::Ratio(parts)),
        }
    }

    pub(super) fn sum(&mut self) -> Option<Node> {
        let mut terms = Vec::new();
        loop {
            let negative = match self.peek_sign() {
                Some('+') => Some(false),
                Some('-') => Some(true),
                Some('±') => Some(*self.minus.get_or_insert(false)),
                Some('∓') => Some(!*self.minus.get_or_insert(false)),
                _ => None,
            };
            match negative {
                Some(_) => self.at += 1,
                None if terms.is_empty() => {}
                None => break,
            }
            let term = self.product()?;
            terms.push(if negative == Some(true) { term.negated() } else { term });
        }
        match <[Node; 1]>::try_from(terms) {
            Ok([term]) => Some(term),
            Err(terms) => Some(Node::Sum(terms)),
        }
    }

    fn product(&mut self) -> Option<Node> {
        let mut factors = Vec::new();
        loop {
            let sign = self.peek_sign().filter(|c| matches!(c, '*' | '/'));
            if !factors.is_empty() && self.unit()? {
                continue;
            }
            match sign {
                Some(_) if factors.is_empty() => return None,
                Some(_) => self.at += 1,
                None if factors.is_empty() || self.starts_factor(factors.last()?) => {}
                None => break,
            }
            // `2 * -3`
            let negative = sign.is_some() && self.take('-');
            let mixed = sign.is_none() && factors.last().is_some_and(|last| self.starts_fraction(last));
            let mut factor = if mixed { self.fraction()? } else { self.power()? };
            if negative {
                factor = factor.negated();
            }
            if sign.is_none() && self.is_mixed(factors.last(), &factor) {
                let whole = factors.pop()?;
                factor = Node::Sum(vec![whole, factor]);
            }
            factors.push(if sign == Some('/') { factor.inverted() } else { factor });
        }
        match <[Node; 1]>::try_from(factors) {
            Ok([factor]) => Some(factor),
            Err(factors) => Some(Node::Product(factors)),
        }
    }

    /// Whether a factor follows without a sign. Two numbers side by side are none.
    pub(super) fn starts_factor(&self, last: &Node) -> bool {
        match self.peek() {
            // `2^n 3^m`
            Some(Token::Number(_)) if matches!(last, Node::Power(_, e) if !matches!(**e, Node::Number(_))) => {
                true
            }
            Some(Token::Number(_)) => self.starts_fraction(last),
            Some(Token::Symbol(_) | Token::Function(_) | Token::Begin(_) | Token::Text(_)) => true,
            Some(Token::Sign(c)) => match c {
                '|' => self.bars == 0,
                c => matches!(
                    *c,
                    '(' | '[' | '{' | sign::FRACTION | sign::BINOMIAL | sign::ROOT | '⌊' | '⌈' | '⟨' | '‹'
                ),
            },
            _ => false,
        }
    }

    /// The `1/2` of `3 1/2`.
    fn starts_fraction(&self, last: &Node) -> bool {
        let whole = matches!(last, Node::Number(value) if value.as_whole().is_some());
        let rest = &self.tokens[self.at..];
        let ends = !matches!(rest.get(3), Some(Token::Sign('/' | '^' | '*')));
        whole && ends && matches!(rest, [Token::Number(_), Token::Sign('/'), Token::Number(_), ..])
    }

    /// `1/2`
    fn fraction(&mut self) -> Option<Node> {
        let top = self.primary()?;
        self.take('/').then_some(())?;
        Some(Node::Product(vec![top, self.primary()?.inverted()]))
    }

    /// `2\frac{1}{2}` and `2 1/2` are sums.
    fn is_mixed(&self, last: Option<&Node>, factor: &Node) -> bool {
        let whole = |node: &Node| matches!(node, Node::Number(value) if value.as_whole().is_some());
        if !last.is_some_and(whole) {
            return false;
        }
        match factor {
            Node::Product(parts) => {
                matches!(&parts[..], [top, Node::Power(bottom, _)] if whole(top) && whole(bottom))
            }
            _ => false,
        }
    }

    /// Takes the words after a value that only name its unit, with the unit's power.
    fn unit(&mut self) -> Option<bool> {
        let start = self.at;
        // `/` before a unit belongs to it.
        let slash = self.take('/');
        match self.peek() {
            Some(Token::Text(text)) if words::is_unit(text) && (slash || !self.names_more()) => {
                self.at += 1;
                if self.take('^') {
                    self.power_argument()?;
                }
                Some(true)
            }
            _ => {
                self.at = start;
                Some(false)
            }
        }
    }

    /// Whether a symbol or number follows the words: then they are no unit.
    fn names_more(&self) -> bool {
        matches!(self.tokens.get(self.at + 1), Some(Token::Number(_) | Token::Symbol(_) | Token::Function(_)))
    }

    pub(super) fn power(&mut self) -> Option<Node> {
        let mut base = self.primary()?;
        loop {
            if self.take('^') {
                // `2^3^2` is read in two ways.
                if matches!(base, Node::Power(..))
                    && matches!(self.tokens.get(self.at - 2), Some(Token::Number(_)))
                {
                    return None;
                }
                let exponent = self.power_argument()?;
                base = Node::Power(Box::new(base), Box::new(exponent));
            } else if self.take('!') {
                base = Node::Call("!".into(), vec![base]);
            } else if self.peek_sign() == Some('\'') {
                let Node::Symbol(name) = &mut base else { return None };
                self.at += 1;
                name.push('\'');
            } else {
                return Some(base);
            }
        }
    }

    pub(super) fn power_argument(&mut self) -> Option<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let negative = self.take('-');
        self.take('+');
        let exponent = if negative { self.power()? } else { self.primary()? };
        self.depth -= 1;
        Some(if negative { exponent.negated() } else { exponent })
    }
}
