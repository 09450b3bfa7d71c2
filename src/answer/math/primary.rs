//! The innermost level of the parser: brackets, calls, roots and matrices.

use super::lex::{Token, sign};
use super::node::Node;
use super::parse::{DEPTH_MAX, Parser};
use super::rational::Rational;

impl Parser<'_> {
    pub(super) fn primary(&mut self) -> Option<Node> {
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

    pub(super) fn bracket(&mut self, c: char) -> Option<Node> {
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
