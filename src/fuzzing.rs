//! Entries of the fuzzer (`fuzz/`), which stable Rust runs on random input too: whatever comes in from
//! outside is taken, or refused with a reason; nothing panics, hangs, or swells.
//!
//! Only in test builds and under `--cfg fuzzing`.

use crate::{
    config,
    domain::{
        Millis, Span, block,
        hook::{HMAC_HEADER, Hook, Preset, TOLERANCE, Template},
    },
    sandbox::{
        RunLimits,
        protocol::{FromLane, Inbox},
    },
};

/// See `api::fuzzing`.
pub fn intake(bytes: &[u8]) {
    crate::api::fuzzing::intake(bytes);
}

/// See `api::fuzzing`.
pub fn cursor(text: &str) {
    crate::api::fuzzing::cursor(text);
}

/// A file that is read says the same when it is written and read again.
pub fn config(text: &str) {
    match config::read_text(text) {
        Ok(config) => {
            let written = toml::to_string(&config).expect("settings are TOML");
            assert_eq!(config::read_text(&written).expect("its own text"), config);
        }
        Err(error) => assert!(error.to_string().starts_with("tripline.toml:"), "{error}"),
    }
}

/// A template, a header's value and a body: nothing unsigned is taken by any preset.
pub fn webhook(text: &str) {
    let mut parts = text.splitn(3, '\n');
    let mut next = || parts.next().unwrap_or_default();
    let (template, value, body) = (next(), next(), next());
    let template = Template::parse(template);
    if let Ok(template) = &template {
        let body = serde_json::from_str(body).unwrap_or_default();
        // What it takes from a delivery is clean; its own text is the operator's.
        let filled = template.fill(&|_| Some(value), &body, true).unwrap_or_default();
        let own = template.to_string();
        assert!(!filled.contains('\0') || own.contains('\0'), "{own:?} became {filled:?}");
    }
    for preset in Preset::ALL {
        let verified = hook(preset).verify(&|_| Some(value), body.as_bytes(), &["key"], Millis(0));
        assert!(verified.is_err(), "{preset:?} took {text:?}");
    }
}

fn hook(preset: Preset) -> Hook {
    let (event_type, event_id) = preset.mapping("fuzz");
    Hook {
        name: "fuzz".into(),
        preset,
        secrets: vec!["key".into()],
        header: HMAC_HEADER.into(),
        tolerance: Span(TOLERANCE),
        event_type,
        subject: None,
        event_id,
        is_active: true,
        created_at: Millis(0),
        updated_at: Millis(0),
        revision: 1,
    }
}

/// An outcome block that reads, reads the same after it was written again.
pub fn block(bytes: &[u8]) {
    if let Ok(entries) = block::decode(bytes) {
        assert!(entries.len() <= bytes.len());
        assert_eq!(block::decode(&block::encode(&entries)).as_ref(), Ok(&entries));
    }
}

/// A backup as it is, and one that was made by hand, with all checksums right: its first byte says how many
/// columns, the others are the rows. See `store::backup`.
pub fn backup(bytes: &[u8]) {
    let Some((columns, packed)) = bytes.split_first() else { return };
    crate::store::backup::fuzz(*columns, packed);
    let damaged = crate::store::backup::check(bytes, |_| {});
    assert!(damaged.is_err(), "nobody draws a SHA-256 by chance");
}

/// An entry of a script's `fetch_allow`, and a URL that it asks for; see `host::fetch`.
pub fn allow_list(text: &str) {
    let (entry, url) = text.split_once('\n').unwrap_or((text, text));
    crate::host::fuzz_allow_list(entry, url);
}

/// Frames of a hostile lane: those that read are checked, and the first that does not ends the talk.
pub fn frames(bytes: &[u8]) {
    let mut inbox = Inbox::default();
    for piece in bytes.chunks(7) {
        let space = inbox.space();
        space[..piece.len()].copy_from_slice(piece);
        inbox.filled(piece.len());
        let mut frames = Vec::new();
        let read = inbox.drain(|frame: FromLane| frames.push(frame));
        for frame in frames {
            if let FromLane::Finished(report) = frame {
                let limits = RunLimits::default();
                let checked = report.checked(&limits);
                assert!(checked.emits.len() <= limits.emits as usize);
            }
        }
        if read.is_err() {
            return;
        }
    }
    assert!(inbox.space().len() <= 2 << 20, "a frame that has not come holds no memory");
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::sandbox::protocol;

    /// Pieces of what is expected, in any order: nearer to it than random bytes.
    fn near(words: &'static [&'static str]) -> impl Strategy<Value = String> {
        let word = prop_oneof![6 => select(words).prop_map(str::to_owned), 1 => ".{0,6}"];
        vec(word, 0..24).prop_map(|words| words.concat())
    }

    const EVENTS: &[&str] = &[
        "content-type: application/json\n",
        "content-type: application/cloudevents+json\n",
        "content-type: application/cloudevents-batch+json\n",
        "content-type: application/x-ndjson\n",
        "content-type: text/plain\n",
        "ce-specversion: 1.0\n",
        "ce-id: a\n",
        "ce-source: /b\n",
        "ce-type: c.d\n",
        "ce-time: 2026-01-31T12:00:00Z\n",
        "ce-x: %41%\n",
        "idempotency-key: k\n",
        "\n",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        r#""specversion":"1.0""#,
        r#""id":"1""#,
        r#""source":"/s""#,
        r#""type":"a.b""#,
        r#""data":"#,
        "{}",
        "null",
        "1e400",
        "-0",
        r#""\ud800""#,
        r#""\u0000""#,
        r#""data_base64":"AA==""#,
        r#""time":"2026-01-31T12:00:00Z""#,
        r#""ext":1"#,
    ];
    const SETTINGS: &[&str] = &[
        "[server]\n",
        "[storage]\n",
        "[limits]\n",
        "[script.max]\n",
        "[retention]\n",
        "listen = ",
        "\"127.0.0.1:1\"\n",
        "https = true\n",
        "url = \"sqlite://a\"\n",
        "json_depth = 3\n",
        "events = ",
        "\"7d\"\n",
        "\"never\"\n",
        "cpu_ms = 1\n",
        "é",
        "\"",
        "=",
        "[[",
        "]]",
        "{ a = 1 }\n",
        "1979-05-27\n",
    ];
    const SIGNED: &[&str] = &[
        "{header:x}",
        "{$.a.b}",
        "{",
        "}",
        "a.b",
        "\n",
        "v1,",
        "v1=",
        "t=",
        "sha256=",
        "0",
        "99999999999999999999",
        "-1",
        ",",
        " ",
        "deadbeef",
        "AAAA",
        "==",
        "é",
        "{\"a\":{\"b\":1}}",
    ];

    const PORTS: &[&str] = &["", "", "", ":443", ":80", ":8443", ":", ":0"];
    /// What readers of URLs have been known to differ on.
    const ODD: &[&str] = &[
        "/", "\\", "@", "#", "?", "[::1]", "127.1", "%2e", "\t", "\n", "é", "xn--", "。", ".", ":",
    ];

    /// A host of a few letters, so that many of them are one another's; some with a piece that is odd.
    fn host() -> impl Strategy<Value = String> {
        let name = vec(select(&["a", "b", "x"][..]), 1..4).prop_map(|labels| labels.join("."));
        let odd = prop_oneof![4 => Just(""), 1 => select(ODD)];
        (name, odd, any::<prop::sample::Index>(), select(PORTS)).prop_map(
            |(name, odd, at, port)| {
                let (before, after) = name.split_at(at.index(name.len() + 1));
                format!("{before}{odd}{after}{port}")
            },
        )
    }

    proptest! {
        #[test]
        fn the_fuzz_targets_hold_at_the_doors(
            publish in prop_oneof![near(EVENTS).prop_map(String::into_bytes), vec(any::<u8>(), 0..120)],
            cursor_text in prop_oneof!["[A-Za-z0-9_-]{0,40}", ".{0,40}"],
            settings in near(SETTINGS),
            signed in near(SIGNED),
            entry in ("(\\*\\.)?", host()),
            asked in ("https?://", host()),
        ) {
            intake(&publish);
            cursor(&cursor_text);
            config(&settings);
            webhook(&signed);
            allow_list(&format!("{}{}\n{}{}/path", entry.0, entry.1, asked.0, asked.1));
        }

        #[test]
        fn the_fuzz_targets_hold_within(
            bytes in vec(prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..300),
            cut in 0_usize..40,
            flip in any::<(prop::sample::Index, u8)>(),
        ) {
            block(&bytes);
            backup(&bytes);
            frames(&bytes);
            // A frame that was good, then a byte of it that is not, then less of it.
            let mut wire = Vec::new();
            let walls = protocol::Walls { missing: vec!["seccomp: no".to_owned()] };
            protocol::encode(&FromLane::Ready(walls), &mut wire).expect("a frame");
            frames(&wire);
            let at = flip.0.index(wire.len());
            wire[at] = flip.1;
            wire.truncate(wire.len().saturating_sub(cut));
            frames(&wire);
        }
    }
}
