//! From tokens to a tree, by recursive descent.
//!
//! list = item {(, | ; | and | or) item}, item = side {relation side}, side = sum {∪ sum}, sum =
//! product {(+|-) product}, product = power {[* | /] power}, power = primary {! | ^ power}.

use super::lex::{Token, sign};
use super::node::Node;
use super::rational::Rational;
use super::words;

/// Deepest nesting.
const DEPTH_MAX: usize = 24;

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

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
    /// Open `|`.
    bars: usize,
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
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn peek_sign(&self) -> Option<char> {
        match self.peek() {
            Some(Token::Sign(c)) => Some(*c),
            _ => None,
        }
    }

    fn take(&mut self, wanted: char) -> bool {
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
    fn items(&mut self, doubles: bool) -> Option<(Vec<Node>, bool)> {
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

    fn sum(&mut self) -> Option<Node> {
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
    fn starts_factor(&self, last: &Node) -> bool {
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

    fn power(&mut self) -> Option<Node> {
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

    fn power_argument(&mut self) -> Option<Node> {
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

    fn primary(&mut self) -> Option<Node> {
        let token = self.peek()?.clone();
        self.at += 1;
        match token {
            Token::Number(digits) => match Rational::parse(&digits) {
                Some(value) => Some(Node::Number(value)),
                // Too long for arithmetic: the digits stand for themselves.
                None => Some(Node::Symbol(digits)),
            },
            Token::Symbol(name) => Some(Node::Symbol(name)),
            Token::Text(text) => Some(self.words(text)),
            Token::Function(name) => self.call(name),
            Token::Begin(kind) => self.matrix(kind),
            Token::End => None,
            Token::Sign(c) => self.bracket(c),
        }
    }

    /// Words that are a value: neighbours are joined, one letter is a symbol.
    fn words(&mut self, mut text: String) -> Node {
        while let Some(Token::Text(more)) = self.peek() {
            text = format!("{text} {more}");
            self.at += 1;
        }
        if text.len() == 1 { Node::Symbol(text) } else { Node::Text(text.to_lowercase()) }
    }

    /// Everything up to `close`, in brackets.
    fn closed(&mut self, close: char) -> Option<Node> {
        let inner = self.nested_sum()?;
        self.take(close).then_some(inner)
    }

    fn nested_sum(&mut self) -> Option<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let inner = self.sum()?;
        self.depth -= 1;
        Some(inner)
    }

    fn bracket(&mut self, c: char) -> Option<Node> {
        match c {
            '(' | '[' => self.tuple(c),
            '{' => self.group(),
            sign::FRACTION => {
                let (top, bottom) = (self.primary_group()?, self.primary_group()?);
                Some(Node::Product(vec![top, bottom.inverted()]))
            }
            sign::BINOMIAL => {
                Some(Node::Call("\\binom".into(), vec![self.primary_group()?, self.primary_group()?]))
            }
            sign::ROOT => self.root(),
            '⦃' => self.set('⦄'),
            '⟨' => {
                let (items, _) = self.items(false)?;
                self.take('⟩').then_some(Node::Tuple('⟨', items))
            }
            '⌊' => Some(Node::Call("\\lfloor".into(), vec![self.closed('⌋')?])),
            '⌈' => Some(Node::Call("\\lceil".into(), vec![self.closed('⌉')?])),
            '‹' => Some(Node::Call("\\lvert".into(), vec![self.closed('›')?])),
            '|' => {
                self.bars += 1;
                let inner = self.nested_sum()?;
                self.bars -= 1;
                self.take('|').then_some(Node::Call("\\lvert".into(), vec![inner]))
            }
            _ => None,
        }
    }

    /// A group in braces that the lexer has put around an argument.
    fn primary_group(&mut self) -> Option<Node> {
        self.take('{').then_some(())?;
        self.closed('}')
    }

    /// `{5}` is 5, `{1, 2}` a set.
    fn group(&mut self) -> Option<Node> {
        let (mut items, _) = self.items(false)?;
        if !self.take('}') {
            return None;
        }
        if items.len() == 1 { items.pop() } else { Some(Node::Set(items)) }
    }

    fn set(&mut self, close: char) -> Option<Node> {
        if self.take(close) {
            return Some(Node::Symbol("\\emptyset".into()));
        }
        let (items, _) = self.items(true)?;
        self.take(close).then_some(Node::Set(items))
    }

    /// Round and square brackets: a group, a tuple, or an interval.
    fn tuple(&mut self, open: char) -> Option<Node> {
        let bars = std::mem::take(&mut self.bars);
        let (mut items, _) = self.items(false)?;
        self.bars = bars;
        let close = self.peek_sign().filter(|c| matches!(c, ')' | ']'))?;
        self.at += 1;
        let square = (open == '[', close == ']');
        match (items.len(), square) {
            (1, (false, false)) => Some(Node::Group(Box::new(items.pop()?))),
            (1, (true, true)) => items.pop(),
            (2, (true, _) | (_, true)) => {
                let (high, low) = (items.pop()?, items.pop()?);
                Some(Node::Interval(Box::new(low), Box::new(high), square.0, square.1))
            }
            (_, (false, false) | (true, true)) => Some(Node::Tuple(open, items)),
            _ => None,
        }
    }

    fn root(&mut self) -> Option<Node> {
        let mut degree = Node::Number(Rational::whole(2));
        if self.take(sign::DEGREE.0) {
            degree = self.closed(sign::DEGREE.1)?;
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let radicand = self.primary()?;
        self.depth -= 1;
        Some(Node::Power(Box::new(radicand), Box::new(degree.inverted())))
    }

    /// A function with its power, base and argument: `\sin^2 x`, `\log_2 8`.
    fn call(&mut self, name: String) -> Option<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let mut arguments = Vec::new();
        if name == "log_" {
            arguments.push(self.primary_group()?);
        }
        let power = if self.take('^') { Some(self.power_argument()?) } else { None };
        match self.peek_sign() {
            Some('(') => match self.primary()? {
                Node::Tuple(_, items) => arguments.extend(items),
                argument => arguments.push(argument),
            },
            _ => {
                // `\sin 2x`: everything that is multiplied without a sign.
                let mut factors = vec![self.power()?];
                while self.starts_factor(factors.last()?)
                    && !matches!(self.peek(), Some(Token::Function(_) | Token::Text(_) | Token::Sign('(')))
                {
                    factors.push(self.power()?);
                }
                arguments.push(if factors.len() == 1 { factors.pop()? } else { Node::Product(factors) });
            }
        }
        self.depth -= 1;
        // `\tan^{-1}` is the inverse function.
        let inverse = power == Some(Node::Number(Rational::whole(-1)));
        let (name, power) = match name.as_str() {
            "sin" | "cos" | "tan" if inverse => (format!("arc{name}"), None),
            _ => (name, power),
        };
        let call = Node::Call(name, arguments);
        Some(match power {
            Some(power) => Node::Power(Box::new(call), Box::new(power)),
            None => call,
        })
    }

    fn matrix(&mut self, kind: String) -> Option<Node> {
        let mut rows = vec![Vec::new()];
        loop {
            if matches!(self.peek(), Some(Token::End)) {
                self.at += 1;
                break;
            }
            match self.peek_sign() {
                Some(sign::ROW) => {
                    self.at += 1;
                    rows.push(Vec::new());
                }
                Some('&') => self.at += 1,
                _ => {
                    let cell = self.nested_sum()?;
                    rows.last_mut()?.push(cell);
                }
            }
        }
        rows.retain(|row: &Vec<Node>| !row.is_empty());
        let width = rows.first()?.len();
        rows.iter().all(|row| row.len() == width).then_some(Node::Matrix(kind, rows))
    }
}
