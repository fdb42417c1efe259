//! From text to expression tree: recursive descent over the words, one function per rule.
//!
//! The rules are RFC 9535's for filter expressions (section 2.3.5), with paths from `$` as the
//! outermost operands, plus `in [...]`, `event.…` and three text functions.

use std::sync::Arc;

use super::{
    COST_MAX, DEPTH_MAX, Error, SOURCE_BYTES_MAX,
    ast::{
        Comparison, Expr, Literal, Operand, Operator, Path, Pattern, Query, Root, Segment,
        Selector, Singular, Step, TextTest,
    },
    cost,
    lexer::{self, Token, Word},
    number::Decimal,
    plain::Plain,
};

/// Parses a whole filter.
pub(crate) fn filter(source: &str) -> Result<Expr, Error> {
    let mut parser = Parser::new(source)?;
    let expr = parser.or()?;
    parser.end("`&&`, `||` or the end")?;
    let cost = cost::of(&expr);
    if cost > COST_MAX {
        let message = format!("the filter costs {cost} steps per event");
        let expected =
            format!("at most {COST_MAX}: each `..` multiplies by 16, each `[?…]` by what it tests");
        return Err(Error::at(source, 0, message, &expected));
    }
    Ok(expr)
}

/// Parses a path to at most one value and nothing else.
pub(crate) fn singular(source: &str) -> Result<Singular, Error> {
    let mut parser = Parser::new(source)?;
    let start = parser.start();
    let path = match parser.word() {
        Word::Mark("$") => parser.path()?,
        Word::Name("event") => parser.attribute()?,
        _ => return Err(parser.unexpected("a path such as $.customer.id, or event.subject")),
    };
    parser.end("the end of the path")?;
    match path {
        Path::One(path) => Ok(path),
        Path::Many(_) => Err(Error::at(
            source,
            start,
            format!("`{}` can select many values", source.trim()),
            "a path of names and indexes, which selects one",
        )),
    }
}

/// One side of a comparison, or a condition of its own; which one shows only by what follows.
enum Term {
    Literal(Literal),
    Path(Path),
    /// `length`, `count`, `value`.
    Value(Operand),
    /// `match` and its like.
    Test(Expr),
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Token<'s>>,
    at: usize,
    depth: usize,
    /// How many `[?…]` are open: `@` means something within one.
    filters: usize,
}

impl<'s> Parser<'s> {
    fn new(source: &'s str) -> Result<Self, Error> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!("the text has {} bytes", source.len());
            return Err(Error::at(source, 0, message, &format!("at most {SOURCE_BYTES_MAX}")));
        }
        Ok(Self { source, tokens: lexer::split(source)?, at: 0, depth: 0, filters: 0 })
    }

    // --- words ---

    fn word(&self) -> &Word<'s> {
        &self.tokens[self.at].word
    }

    fn next_word(&self) -> &Word<'s> {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].word
    }

    fn start(&self) -> usize {
        self.tokens[self.at].start
    }

    /// True when nothing stands between this word and the one before.
    fn is_adjacent(&self) -> bool {
        self.at > 0 && self.tokens[self.at - 1].end == self.start()
    }

    /// The end is never passed.
    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn take(&mut self, mark: &str) -> bool {
        let found = matches!(self.word(), Word::Mark(found) if *found == mark);
        if found {
            self.advance();
        }
        found
    }

    fn require(&mut self, mark: &str) -> Result<(), Error> {
        if self.take(mark) { Ok(()) } else { Err(self.unexpected(&format!("`{mark}`"))) }
    }

    fn end(&self, expected: &str) -> Result<(), Error> {
        match self.word() {
            Word::End => Ok(()),
            _ => Err(self.unexpected(expected)),
        }
    }

    /// The current word is not what the grammar wants here.
    fn unexpected(&self, expected: &str) -> Error {
        let found = match self.word() {
            Word::End => "the filter ends here".to_owned(),
            _ => {
                let token = &self.tokens[self.at];
                format!("unexpected `{}`", &self.source[token.start..token.end])
            }
        };
        let error = Error::at(self.source, self.start(), found, expected);
        match self.slip() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// What was probably meant by a word that has no place here.
    fn slip(&self) -> Option<String> {
        Some(match self.word() {
            Word::Mark("=") => "write `==` to compare".to_owned(),
            Word::Mark("&") => "write `&&`".to_owned(),
            Word::Mark("|") => "write `||`".to_owned(),
            Word::Mark(">") if self.at > 0 && self.tokens[self.at - 1].word == Word::Mark("<") => {
                "write `!=` for not equal".to_owned()
            }
            Word::Mark("@") => "`@` is the element within `[?…]`; the payload is `$`".to_owned(),
            Word::Mark("(") => "lists are written in brackets: in [\"a\", \"b\"]".to_owned(),
            Word::Mark("-") => {
                "a name with a dash is written in brackets: $[\"first-name\"]".to_owned()
            }
            Word::Mark("[") => {
                "compare with a list by `in`: $.currency in [\"USD\", \"EUR\"]".to_owned()
            }
            Word::Name(name) => return slip_of_name(name),
            _ => return None,
        })
    }

    /// Enters one level of nesting.
    fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} deep");
            return Err(Error::at(self.source, self.start(), message, "a flatter filter"));
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    // --- conditions ---

    fn or(&mut self) -> Result<Expr, Error> {
        let mut parts = Vec::new();
        loop {
            match self.and()? {
                Expr::Or(inner) => parts.extend(inner),
                part => parts.push(part),
            }
            if !self.take("||") {
                return Ok(one_or(parts, Expr::Or));
            }
        }
    }

    fn and(&mut self) -> Result<Expr, Error> {
        let mut parts = Vec::new();
        loop {
            match self.basic()? {
                Expr::And(inner) => parts.extend(inner),
                part => parts.push(part),
            }
            if !self.take("&&") {
                return Ok(one_or(parts, Expr::And));
            }
        }
    }

    fn basic(&mut self) -> Result<Expr, Error> {
        if self.take("!") {
            return self.negated();
        }
        if self.take("(") {
            return self.parenthesised();
        }
        self.comparison()
    }

    fn parenthesised(&mut self) -> Result<Expr, Error> {
        self.nested(|parser| {
            let inner = parser.or()?;
            parser.require(")")?;
            Ok(inner)
        })
    }

    fn negated(&mut self) -> Result<Expr, Error> {
        let start = self.start();
        let inner = if self.take("(") { self.parenthesised()? } else { self.comparison()? };
        // Without parentheses `!$.a == 1` could mean two things, so RFC 9535 does not allow it.
        let has_parentheses = self.source[start..].starts_with('(');
        match inner {
            Expr::Not(twice) => Ok(*twice),
            inner if has_parentheses || inner.is_test() => Ok(Expr::Not(Box::new(inner))),
            inner => Err(Error::at(
                self.source,
                start,
                format!("`!` before the comparison `{inner}`"),
                "parentheses around what is negated",
            )
            .hint(format!("write !({inner})"))),
        }
    }

    fn comparison(&mut self) -> Result<Expr, Error> {
        let start = self.start();
        let left = self.term()?;
        if let Some(operator) = self.operator() {
            self.advance();
            let left = self.operand(left, start)?;
            let start = self.start();
            let right = self.term()?;
            let right = self.operand(right, start)?;
            return Ok(Expr::Compare(Comparison { left, operator, right }));
        }
        if *self.word() == Word::Name("in") {
            self.advance();
            let left = self.operand(left, start)?;
            return Ok(Expr::In(left, self.list()?));
        }
        match left {
            Term::Path(path) => Ok(Expr::Exists(path)),
            Term::Test(test) => Ok(test),
            Term::Literal(_) | Term::Value(_) => {
                Err(self.unexpected("a comparison: ==, !=, <, <=, >, >= or in"))
            }
        }
    }

    fn operator(&self) -> Option<Operator> {
        let Word::Mark(mark) = self.word() else { return None };
        Some(match *mark {
            "==" => Operator::Equal,
            "!=" => Operator::NotEqual,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            _ => return None,
        })
    }

    fn list(&mut self) -> Result<Box<[Literal]>, Error> {
        self.require("[")?;
        let mut list = Vec::new();
        loop {
            match self.literal()? {
                Some(literal) => list.push(literal),
                None => return Err(self.unexpected("a string, a number, true, false or null")),
            }
            if !self.take(",") {
                break;
            }
        }
        self.require("]")?;
        Ok(list.into())
    }

    /// What may stand beside an operator.
    fn operand(&self, term: Term, start: usize) -> Result<Operand, Error> {
        match term {
            Term::Literal(literal) => Ok(Operand::Literal(literal)),
            Term::Path(Path::One(path)) => Ok(Operand::Path(path)),
            Term::Value(operand) => Ok(operand),
            Term::Path(Path::Many(query)) => Err(Error::at(
                self.source,
                start,
                format!("`{query}` can select many values"),
                "a path to one value",
            )
            .hint("test the elements with [?@ > 1], or compare count() or value() of the path")),
            Term::Test(test) => Err(Error::at(
                self.source,
                start,
                format!("`{test}` is true or false already"),
                "a value",
            )
            .hint("leave the comparison out, or put `!` in front")),
        }
    }

    // --- terms ---

    fn term(&mut self) -> Result<Term, Error> {
        if let Some(literal) = self.literal()? {
            return Ok(Term::Literal(literal));
        }
        match *self.word() {
            Word::Mark("$") => self.path().map(Term::Path),
            Word::Mark("@") if self.filters > 0 => self.path().map(Term::Path),
            Word::Name("event") => self.attribute().map(Term::Path),
            Word::Name(name) if *self.next_word() == Word::Mark("(") => self.function(name),
            _ => Err(self.unexpected("a path such as $.amount, a literal or a function")),
        }
    }

    fn literal(&mut self) -> Result<Option<Literal>, Error> {
        let literal = match self.word() {
            Word::String(text) => Literal::String(text.as_ref().into()),
            Word::Number(text) => Literal::Number(self.number(text)?),
            Word::Name("true") => Literal::Bool(true),
            Word::Name("false") => Literal::Bool(false),
            Word::Name("null") => Literal::Null,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(literal))
    }

    fn number(&self, text: &str) -> Result<Decimal, Error> {
        let follows = self.source[self.tokens[self.at].end..].chars().next();
        if follows.is_some_and(|c| c.is_alphanumeric() || c == '.' || c == '_') {
            return Err(Error::at(
                self.source,
                self.start(),
                format!("`{text}` is followed by `{}`", follows.unwrap_or(' ')),
                "a number as JSON writes it, such as 12.50 or -1e3",
            ));
        }
        let value = Decimal::parse(text);
        if !value.is_sane() {
            let message = format!("the exponent of `{text}` is too large");
            return Err(Error::at(
                self.source,
                self.start(),
                message,
                "an exponent of at most 8 digits",
            ));
        }
        Ok(value)
    }

    fn function(&mut self, name: &str) -> Result<Term, Error> {
        let start = self.start();
        self.advance();
        self.advance();
        let term = self.nested(|parser| match name {
            "length" => Ok(Term::Value(Operand::Length(Box::new(parser.subject(name)?)))),
            "count" => Ok(Term::Value(Operand::Count(Box::new(parser.path_argument(name)?)))),
            "value" => Ok(Term::Value(Operand::Value(Box::new(parser.path_argument(name)?)))),
            "match" => parser.pattern(true).map(Term::Test),
            "search" => parser.pattern(false).map(Term::Test),
            "starts_with" => parser.text(TextTest::StartsWith).map(Term::Test),
            "ends_with" => parser.text(TextTest::EndsWith).map(Term::Test),
            "contains" => parser.text(TextTest::Contains).map(Term::Test),
            _ => {
                let error = Error::at(
                    parser.source,
                    start,
                    format!("unknown function `{name}`"),
                    "length, count, value, match, search, starts_with, ends_with or contains",
                );
                Err(match slip_of_function(name) {
                    Some(hint) => error.hint(hint),
                    None => error,
                })
            }
        })?;
        self.require(")")?;
        Ok(term)
    }

    /// An argument that is one value.
    fn argument(&mut self) -> Result<Operand, Error> {
        let start = self.start();
        let term = self.term()?;
        self.operand(term, start)
    }

    /// The argument whose whole value a function reads. Within `[?…]` a value from outside would be
    /// read again for every element.
    fn subject(&mut self, function: &str) -> Result<Operand, Error> {
        let start = self.start();
        let operand = self.argument()?;
        match &operand {
            Operand::Path(path) if self.filters > 0 && path.root != Root::Current => {
                let message = format!("{function}() of `{path}` within `[?…]`");
                Err(Error::at(self.source, start, message, "a path from `@`")
                    .hint("it would be read again for every element; test it outside of `[?…]`"))
            }
            _ => Ok(operand),
        }
    }

    /// An argument that is a path.
    fn path_argument(&mut self, function: &str) -> Result<Path, Error> {
        let start = self.start();
        match self.term()? {
            Term::Path(path) => Ok(path),
            _ => Err(Error::at(
                self.source,
                start,
                format!("{function}() takes a path"),
                "a path such as $.items[*]",
            )),
        }
    }

    fn text(&mut self, test: TextTest) -> Result<Expr, Error> {
        let whole = self.subject(test.as_str())?;
        self.require(",")?;
        Ok(Expr::Text(test, Box::new((whole, self.argument()?))))
    }

    fn pattern(&mut self, whole: bool) -> Result<Expr, Error> {
        let subject = self.subject(if whole { "match" } else { "search" })?;
        self.require(",")?;
        let start = self.start();
        let Word::String(source) = self.word() else {
            return Err(self.unexpected("the regular expression as a string"));
        };
        let pattern = Pattern::compile(source, whole).map_err(|reason| {
            Error::at(self.source, start, reason, "a regular expression such as \"BOX-[0-9]+\"")
        })?;
        self.advance();
        Ok(Expr::Matches(subject, Box::new(pattern)))
    }

    // --- paths ---

    /// `event.type` and its like.
    fn attribute(&mut self) -> Result<Path, Error> {
        const EXPECTED: &str = "event.type, event.source, event.subject or event.extensions.NAME";
        self.advance();
        if !self.take(".") {
            return Err(self.unexpected(EXPECTED));
        }
        let root = match *self.word() {
            Word::Name("type") => Root::EventType,
            Word::Name("source") => Root::Source,
            Word::Name("subject") => Root::Subject,
            Word::Name("extensions") => Root::Extensions,
            Word::Name("data") => {
                return Err(self.unexpected(EXPECTED).hint("the payload is `$`: $.amount"));
            }
            _ => return Err(self.unexpected(EXPECTED)),
        };
        self.advance();
        let steps = if root == Root::Extensions {
            self.extension_name()?.into_iter().map(Step::Name).collect()
        } else {
            [].into()
        };
        if matches!(self.word(), Word::Mark("." | ".." | "[")) {
            return Err(self.unexpected("an operator: an attribute has no members"));
        }
        Ok(Path::One(Singular { root, steps }))
    }

    fn extension_name(&mut self) -> Result<Option<Box<str>>, Error> {
        const EXPECTED: &str = "the name of an extension: event.extensions.NAME";
        let in_brackets = self.take("[");
        if !in_brackets && !self.take(".") {
            return Err(self.unexpected(EXPECTED));
        }
        let name: Box<str> = match self.word() {
            Word::Name(name) if !in_brackets => (*name).into(),
            Word::String(name) if in_brackets => name.as_ref().into(),
            _ => return Err(self.unexpected(EXPECTED)),
        };
        self.advance();
        if in_brackets {
            self.require("]")?;
        }
        Ok(Some(name))
    }

    /// A path from `$` or `@`.
    fn path(&mut self) -> Result<Path, Error> {
        let start = self.start();
        let root = if self.take("@") { Root::Current } else { Root::Payload };
        if root == Root::Payload {
            self.advance();
        }
        let mut segments = Vec::new();
        while let Some(segment) = self.segment()? {
            segments.push(segment);
        }
        if let Some(steps) = steps_of(&segments) {
            return Ok(Path::One(Singular { root, steps }));
        }
        if self.filters > 0 && root == Root::Payload {
            return Err(Error::at(
                self.source,
                start,
                "a path of many values from `$` within `[?…]`".to_owned(),
                "a path from `@`, or one of names and indexes from `$`",
            )
            .hint("it would be searched again for every element; test it outside of `[?…]`"));
        }
        let plain = if root == Root::Payload { Plain::of(&segments) } else { None };
        Ok(Path::Many(Box::new(Query { root, segments: segments.into(), plain })))
    }

    fn segment(&mut self) -> Result<Option<Segment>, Error> {
        let descendant = self.take("..");
        if self.take("[") {
            let selectors = self.nested(Self::selectors)?;
            return Ok(Some(Segment { descendant, selectors }));
        }
        if !descendant && !self.take(".") {
            return Ok(None);
        }
        let selector = match self.word() {
            _ if !self.is_adjacent() => None,
            Word::Name(name) => Some(Selector::Name((*name).into())),
            Word::Mark("*") => Some(Selector::Wildcard),
            _ => None,
        };
        let Some(selector) = selector else {
            return Err(self.unexpected("a name, `*` or `[` right after the dot"));
        };
        self.advance();
        Ok(Some(Segment { descendant, selectors: [selector].into() }))
    }

    fn selectors(&mut self) -> Result<Box<[Selector]>, Error> {
        let mut selectors = Vec::new();
        loop {
            selectors.push(self.selector()?);
            if !self.take(",") {
                break;
            }
        }
        self.require("]")?;
        Ok(selectors.into())
    }

    fn selector(&mut self) -> Result<Selector, Error> {
        if let Word::String(name) = self.word() {
            let name = name.as_ref().into();
            self.advance();
            return Ok(Selector::Name(name));
        }
        if self.take("*") {
            return Ok(Selector::Wildcard);
        }
        if self.take("?") {
            self.filters += 1;
            let expr = self.or();
            self.filters -= 1;
            return Ok(Selector::Filter(Box::new(expr?)));
        }
        let start = self.integer()?;
        if !self.take(":") {
            return match start {
                Some(index) => Ok(Selector::Index(index)),
                None => {
                    let error =
                        self.unexpected("an index, a \"name\" in quotes, `*`, a slice or `?`");
                    Err(match self.word() {
                        Word::Name(name) => error.hint(format!("write [\"{name}\"]")),
                        _ => error,
                    })
                }
            };
        }
        let end = self.integer()?;
        let step = if self.take(":") { self.integer()? } else { None };
        Ok(Selector::Slice { start, end, step: step.unwrap_or(1) })
    }

    /// RFC 9535 `int`, within the range in which every JSON implementation is exact.
    fn integer(&mut self) -> Result<Option<i64>, Error> {
        const EXACT: i64 = (1 << 53) - 1;
        let Word::Number(text) = self.word() else { return Ok(None) };
        let value = text.parse::<i64>().ok().filter(|n| n.abs() <= EXACT && *text != "-0");
        if value.is_none() {
            return Err(self.unexpected("a whole number within ±(2^53 - 1)"));
        }
        self.advance();
        Ok(value)
    }
}

fn one_or(mut parts: Vec<Expr>, several: fn(Box<[Expr]>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            several(parts.into())
        }
        // Both callers push before they look.
        None => several([].into()),
    }
}

/// The steps of a path that can select one node at most; `None` for all others.
fn steps_of(segments: &[Segment]) -> Option<Arc<[Step]>> {
    let step = |segment: &Segment| match &*segment.selectors {
        [Selector::Name(name)] if !segment.descendant => Some(Step::Name(name.clone())),
        [Selector::Index(index)] if !segment.descendant => Some(Step::Index(*index)),
        _ => None,
    };
    segments.iter().map(step).collect()
}

fn slip_of_name(name: &str) -> Option<String> {
    Some(match name.to_ascii_lowercase().as_str() {
        "and" => "write `&&`".to_owned(),
        "or" => "write `||`".to_owned(),
        "not" => "write `!` before a path or parentheses: !($.a in [1, 2])".to_owned(),
        "in" => "`in` stands between a value and a list: $.currency in [\"USD\"]".to_owned(),
        "is" | "eq" | "equals" => "write `==` to compare".to_owned(),
        "ne" => "write `!=`".to_owned(),
        "gt" => "write `>`".to_owned(),
        "ge" | "gte" => "write `>=`".to_owned(),
        "lt" => "write `<`".to_owned(),
        "le" | "lte" => "write `<=`".to_owned(),
        "like" | "matches" | "regex" => {
            "write match($.sku, \"BOX-.*\") or starts_with($.sku, \"BOX-\")".to_owned()
        }
        "contains" | "starts_with" | "ends_with" | "match" | "search" => {
            format!("write {name}($.sku, \"text\")")
        }
        "between" => "write $.amount >= 1 && $.amount < 10".to_owned(),
        "none" | "nil" | "undefined" => "write null, or !$.path for what is absent".to_owned(),
        "true" | "false" | "null" if name.chars().any(char::is_uppercase) => {
            format!("write {}", name.to_ascii_lowercase())
        }
        "true" | "false" | "null" => return None,
        "exists" => "a path alone asks whether it exists: $.customer.vip".to_owned(),
        "data" | "payload" => "the payload is `$`: $.amount".to_owned(),
        "type" | "source" | "subject" => {
            format!("write event.{name}, or $.{name} for the payload's")
        }
        _ => format!("a path starts with `$.`: $.{name}; a text stands in quotes: \"{name}\""),
    })
}

fn slip_of_function(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "len" | "size" => "write length()",
        "startswith" | "starts" | "prefix" => "write starts_with()",
        "endswith" | "ends" | "suffix" => "write ends_with()",
        "includes" | "has" => "write contains()",
        "regex" | "matches" | "test" => "write match() for the whole text, search() for a part",
        "exists" | "defined" => "a path alone asks whether it exists: $.customer.vip",
        "not" => "write `!` before a path or parentheses",
        "in" => "write $.currency in [\"USD\", \"EUR\"]",
        "and" | "or" => "write `&&` or `||` between conditions",
        _ => return None,
    })
}
