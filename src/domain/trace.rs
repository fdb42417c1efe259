//! W3C trace context: where a piece of work stands in a trace, as headers and extensions carry it.
//!
//! Source: <https://www.w3.org/TR/trace-context/>, and the CloudEvents extension for distributed
//! tracing, whose attributes have the headers' names.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::value::RawValue;

/// Names of the headers, and of the extension attributes.
pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";
/// Longest `tracestate` that is passed on, in bytes; the standard asks for 512 at least.
const TRACESTATE_BYTES_MAX: usize = 512;

/// A `traceparent`, and the `tracestate` that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: u128,
    /// The span that caused what this came with.
    pub span: u64,
    /// Whoever came before records its spans; so does everybody after.
    pub is_sampled: bool,
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// From the two headers. `None`: what is no `traceparent` is as good as none, as the standard
    /// asks; a `tracestate` that cannot be passed on is left out.
    #[must_use]
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let mut parts = parent.trim().split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        // Later versions may say more; the first says no more than this.
        let is_whole = version != 0xff && (version > 0 || parts.next().is_none());
        if trace == 0 || span == 0 || !is_whole {
            return None;
        }
        let is_plain = |state: &&str| {
            state.len() <= TRACESTATE_BYTES_MAX && state.bytes().all(|b| (b' '..=b'~').contains(&b))
        };
        let state = state.map(str::trim).filter(|state| !state.is_empty()).filter(is_plain);
        Some(Self {
            trace,
            span: u64::try_from(span).ok()?,
            is_sampled: flags & 1 == 1,
            state: state.map(Arc::from),
        })
    }

    /// From extension attributes, the text of one flat JSON object.
    #[must_use]
    pub fn of_extensions(extensions: Option<&str>) -> Option<Self> {
        // Most events have neither.
        let text = extensions.filter(|text| text.contains("\"traceparent\""))?;
        let members: BTreeMap<&str, &RawValue> = serde_json::from_str(text).ok()?;
        let text = |name| serde_json::from_str::<String>(members.get(name)?.get()).ok();
        Self::parse(&text(TRACEPARENT)?, text(TRACESTATE).as_deref())
    }

    /// Extension attributes with this context among them; those of the same names give way.
    #[must_use]
    pub fn extend(&self, extensions: Option<&str>) -> Arc<str> {
        let mut members: BTreeMap<String, Box<RawValue>> =
            extensions.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let raw =
            |text: &str| serde_json::value::to_raw_value(text).expect("a text has a JSON form");
        members.insert(TRACEPARENT.to_owned(), raw(&self.to_string()));
        members.remove(TRACESTATE);
        if let Some(state) = &self.state {
            members.insert(TRACESTATE.to_owned(), raw(state));
        }
        serde_json::to_string(&members).expect("texts have a JSON form").into()
    }

    /// The same place in the trace, but for the span.
    #[must_use]
    pub fn at(&self, span: u64) -> Self {
        Self { span, ..self.clone() }
    }
}

/// Lower-case hexadecimal digits, exactly so many.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_whole = text.len() == digits && text.bytes().all(is_hex);
    is_whole.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_reads_and_writes_the_same() {
        let context = TraceContext::parse(PARENT, Some("vendor=1,other=x")).expect("a context");
        assert_eq!(context.to_string(), PARENT);
        assert_eq!((context.span, context.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.state.as_deref(), Some("vendor=1,other=x"));
        let later = PARENT.replace("00-4b", "cc-4b") + "-what-the-future-adds";
        assert_eq!(
            TraceContext::parse(&later, None).map(|c| c.to_string()).as_deref(),
            Some(PARENT)
        );
    }

    #[test]
    fn what_is_none_is_none() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong, None), None, "{wrong}");
        }
        assert_eq!(TraceContext::parse(PARENT, Some("a=\u{e9}")).and_then(|c| c.state), None);
    }

    #[test]
    fn extensions_carry_it_beside_the_others() {
        let context = TraceContext::parse(PARENT, Some("a=1")).expect("a context");
        let text = context.at(9).extend(Some(r#"{"tenant":"acme","traceparent":"x","tries":3}"#));
        let expected = r#"{"tenant":"acme","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000009-01","tracestate":"a=1","tries":3}"#;
        assert_eq!(&*text, expected);
        assert_eq!(TraceContext::of_extensions(Some(&text)), Some(context.at(9)));
        assert_eq!(TraceContext::of_extensions(Some(r#"{"traceparent":"x"}"#)), None);
        assert_eq!(TraceContext::of_extensions(Some(r#"{"a":"\"traceparent\""}"#)), None);
        assert_eq!(TraceContext::of_extensions(None), None);
    }
}
