//! The words of a filter: names, literals, operators, each with its place.

use std::borrow::Cow;

use winnow::{
    Parser,
    ascii::{digit0, digit1},
    combinator::{alt, opt},
    error::EmptyError,
    token::{any, one_of, take, take_while},
};

use super::{
    Error,
    print::{continues_name, starts_name},
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word<'s> {
    /// A name as in `.name`, a function, `in`, `true`, `event`.
    Name(&'s str),
    /// A number as JSON writes it, `-0` included.
    Number(&'s str),
    /// A string in either quotes, escapes replaced.
    String(Cow<'s, str>),
    /// An operator or a bracket.
    Mark(&'static str),
    End,
}

/// A word and where it starts and ends, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token<'s> {
    pub(crate) word: Word<'s>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Longest first, so that `<=` is not read as `<`. The last three have no meaning; the parser
/// says what to write instead.
const MARKS: [&str; 25] = [
    "..", "==", "!=", "<=", ">=", "&&", "||", "$", "@", ".", "[", "]", "(", ")", ",", ":", "*",
    "?", "!", "<", ">", "=", "&", "|", "-",
];

/// Splits a whole filter. The last token is [`Word::End`].
pub(crate) fn split(source: &str) -> Result<Vec<Token<'_>>, Error> {
    let mut tokens = Vec::new();
    let mut rest = source;
    loop {
        let _ = blank(&mut rest);
        let start = source.len() - rest.len();
        if rest.is_empty() {
            tokens.push(Token { word: Word::End, start, end: start });
            return Ok(tokens);
        }
        let word = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                string(&mut rest, quote).map_err(|wrong| wrong.error(source, start))?
            }
            _ => alt((number, name, mark))
                .parse_next(&mut rest)
                .map_err(|EmptyError| unknown(source, start))?,
        };
        tokens.push(Token { word, start, end: source.len() - rest.len() });
    }
}

/// RFC 9535 `S`.
fn blank<'s>(rest: &mut &'s str) -> winnow::Result<&'s str, EmptyError> {
    take_while(0.., [' ', '\t', '\n', '\r']).parse_next(rest)
}

fn number<'s>(rest: &mut &'s str) -> winnow::Result<Word<'s>, EmptyError> {
    let integer = (opt('-'), alt(('0'.void(), (one_of('1'..='9'), digit0).void())));
    let fraction = opt(('.', digit1));
    let exponent = opt((one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1));
    (integer, fraction, exponent).take().map(Word::Number).parse_next(rest)
}

fn name<'s>(rest: &mut &'s str) -> winnow::Result<Word<'s>, EmptyError> {
    (one_of(is_name_start), take_while(0.., is_name_part)).take().map(Word::Name).parse_next(rest)
}

/// Typographic quotes are letters to RFC 9535, but in a filter they are a slip of the editor.
fn is_name_start(c: char) -> bool {
    starts_name(c) && !"“”‘’«»".contains(c)
}

fn is_name_part(c: char) -> bool {
    continues_name(c) && !"“”‘’«»".contains(c)
}

fn mark<'s>(rest: &mut &'s str) -> winnow::Result<Word<'s>, EmptyError> {
    let found = MARKS.iter().find(|mark| rest.starts_with(**mark)).ok_or(EmptyError)?;
    take(found.len()).parse_next(rest)?;
    Ok(Word::Mark(found))
}

fn unknown(source: &str, at: usize) -> Error {
    let found = source[at..].chars().next().unwrap_or(' ');
    let error = Error::at(
        source,
        at,
        format!("`{}` has no meaning here", found.escape_debug()),
        "a path, a literal or an operator",
    );
    match found {
        '“' | '”' | '‘' | '’' | '«' | '»' => {
            error.hint("write strings in plain quotes: \"text\"")
        }
        '+' | '/' | '%' | '^' => error.hint("filters compare values and do not calculate"),
        '{' | '}' => error.hint("objects are no literals; compare their members one by one"),
        '`' => error.hint("write strings in \" or '"),
        _ => error,
    }
}

/// What is wrong in a string.
enum WrongString {
    Open,
    Control { at: usize },
    Escape { at: usize },
}

impl WrongString {
    fn error(&self, source: &str, start: usize) -> Error {
        match self {
            Self::Open => Error::at(
                source,
                source.len(),
                "the string is not closed".to_owned(),
                &format!("a closing {}", &source[start..=start]),
            ),
            Self::Control { at } => Error::at(
                source,
                start + at,
                "a string cannot hold a bare control character".to_owned(),
                "an escape such as \\n, \\t or \\u0007",
            ),
            Self::Escape { at } => Error::at(
                source,
                start + at,
                "unknown escape in the string".to_owned(),
                "\\b, \\f, \\n, \\r, \\t, \\/, \\\\, \\uXXXX or the string's own quote",
            )
            .hint("write a backslash as two: \\\\"),
        }
    }
}

fn string<'s>(rest: &mut &'s str, quote: char) -> Result<Word<'s>, WrongString> {
    let whole = *rest;
    let mut text = Cow::Borrowed("");
    let _ = any::<_, EmptyError>.parse_next(rest);
    loop {
        let part: &'s str =
            take_while::<_, _, EmptyError>(0.., |c: char| c != quote && c != '\\' && c >= ' ')
                .parse_next(rest)
                .unwrap_or_default();
        if text.is_empty() {
            text = Cow::Borrowed(part);
        } else {
            text.to_mut().push_str(part);
        }
        let at = whole.len() - rest.len();
        match any::<_, EmptyError>.parse_next(rest) {
            Err(_) => return Err(WrongString::Open),
            Ok(c) if c == quote => return Ok(Word::String(text)),
            Ok('\\') => {
                let c = escape(rest, quote).ok_or(WrongString::Escape { at })?;
                text.to_mut().push(c);
            }
            Ok(_) => return Err(WrongString::Control { at }),
        }
    }
}

/// What follows a backslash.
fn escape(rest: &mut &str, quote: char) -> Option<char> {
    let c = any::<_, EmptyError>.parse_next(rest).ok()?;
    Some(match c {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '/' | '\\' => c,
        'u' => unicode(rest)?,
        c if c == quote => c,
        _ => return None,
    })
}

/// Four hexadecimal digits, or two times four for a surrogate pair.
fn unicode(rest: &mut &str) -> Option<char> {
    let first = unit(rest)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    "\\u".parse_next(rest).map_err(|EmptyError| ()).ok()?;
    let second = unit(rest)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second)
}

fn unit(rest: &mut &str) -> Option<u32> {
    let digits: &str = take_while::<_, _, EmptyError>(4..=4, |c: char| c.is_ascii_hexdigit())
        .parse_next(rest)
        .ok()?;
    u32::from_str_radix(digits, 16).ok()
}
