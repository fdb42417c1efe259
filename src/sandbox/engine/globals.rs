//! The globals of a runtime: the host's doors as native functions, and the JavaScript around them.
//!
//! The JavaScript is compiled once per thread and loaded as bytecode from then on; that bytecode
//! never leaves the process. Parts that few scripts touch are loaded when a script does.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use rquickjs::{
    Ctx, Exception, Function, Module, Object, Persistent, Result, String as JsString, Value,
    WriteOptions,
};

use super::{super::Emit, crypto, fetch, kv, runtime::Shared, web};
use crate::domain::{LogLevel, parse_span};

/// What the engine calls in the globals' JavaScript.
pub(super) struct Callbacks {
    pub(super) fire: Persistent<Function<'static>>,
    pub(super) forget: Persistent<Function<'static>>,
    pub(super) judge: Persistent<Function<'static>>,
    /// Settles the promise of a question: its id, the answer, or the refusal.
    pub(super) answer: Persistent<Function<'static>>,
}

/// The parts by name; each is one JavaScript expression.
const PARTS: [(&str, &str); 7] = [
    ("core", include_str!("js/core.js")),
    ("inspect", include_str!("js/inspect.js")),
    ("web", include_str!("js/web.js")),
    ("url", include_str!("js/url.js")),
    ("crypto", include_str!("js/crypto.js")),
    ("kv", include_str!("js/kv.js")),
    ("fetch", include_str!("js/fetch.js")),
];

/// How stack traces name the globals' own code: their frames are left out.
pub(super) const OWN_FILES: &str = "tripline:";

thread_local! {
    static COMPILED: RefCell<HashMap<&'static str, Rc<[u8]>>> = RefCell::default();
}

/// Builds the globals of a fresh context.
pub(super) fn install(ctx: &Ctx<'_>, shared: &Rc<Shared>) -> Result<Callbacks> {
    let native = Object::new(ctx.clone())?;
    doors(ctx, &native, shared)?;
    web::doors(ctx, &native)?;
    crypto::doors(ctx, &native, shared)?;
    kv::doors(ctx, &native, shared)?;
    fetch::doors(ctx, &native, shared)?;
    kv::secret_door(ctx, &native, shared)?;
    let core: Function = part(ctx, "core")?;
    let callbacks: Object = core.call((native,))?;
    Ok(Callbacks {
        fire: callbacks.get("fire")?,
        forget: callbacks.get("forget")?,
        judge: callbacks.get("judge")?,
        answer: callbacks.get("answer")?,
    })
}

/// Evaluates a part.
fn part<'js, V: rquickjs::FromJs<'js>>(ctx: &Ctx<'js>, name: &str) -> Result<V> {
    let Some((name, source)) = PARTS.iter().find(|(known, _)| *known == name) else {
        return Err(Exception::throw_internal(ctx, "no such part"));
    };
    let cached = COMPILED.with_borrow(|compiled| compiled.get(name).cloned());
    let bytecode = match cached {
        Some(bytecode) => bytecode,
        None => {
            let module = Module::declare(
                ctx.clone(),
                format!("{OWN_FILES}{name}"),
                format!("export default {source}"),
            )?;
            let written =
                module.write(WriteOptions { strip_source: true, ..WriteOptions::default() })?;
            let bytecode: Rc<[u8]> = written.into();
            COMPILED.with_borrow_mut(|compiled| compiled.insert(name, bytecode.clone()));
            bytecode
        }
    };
    // SAFETY: written above by this process's own engine from the source compiled into it.
    let module = unsafe { Module::load(ctx.clone(), &bytecode) }?;
    let (module, evaluated) = module.eval()?;
    evaluated.finish::<()>()?;
    module.get("default")
}

/// A native function under `name`.
macro_rules! door {
    ($native:expr, $ctx:expr, $name:literal, $function:expr) => {
        $native.set($name, Function::new($ctx.clone(), $function)?)?
    };
}

fn doors<'js>(ctx: &Ctx<'js>, native: &Object<'js>, shared: &Rc<Shared>) -> Result<()> {
    let host = &shared.host;
    #[cfg(test)]
    native.set("unguarded", super::tests::hostile::UNGUARDED.get())?;
    door!(native, ctx, "part", |ctx: Ctx<'js>, name: String| part::<Value>(&ctx, &name));

    let door = host.clone();
    door!(native, ctx, "now", move || door.now());
    let door = host.clone();
    door!(native, ctx, "elapsed", move || door.elapsed());
    let door = host.clone();
    door!(native, ctx, "random", move || door.random());

    let door = host.clone();
    door!(native, ctx, "logs", move || door.log_has_room());
    let door = host.clone();
    door!(native, ctx, "log", move |level: u8, message: JsString<'js>| -> Result<()> {
        let level = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error]
            .get(usize::from(level))
            .copied()
            .unwrap_or(LogLevel::Info);
        door.log(level, text(message)?);
        Ok(())
    });

    let door = shared.clone();
    door!(native, ctx, "emit", move |event_type: JsString<'js>,
                                     data: Value<'js>,
                                     id: Option<JsString<'js>>,
                                     subject: Option<JsString<'js>>,
                                     delay_ms: Option<f64>|
          -> Result<Option<String>> {
        if !door.running() {
            return Ok(Some(OUTSIDE_OF_A_RUN.into()));
        }
        // `toJSON` may make anything of the data, nothing included.
        let data = data.into_string().map_or(Ok("null".into()), text)?;
        let emit = Emit {
            event_type: text(event_type)?,
            data,
            id: id.map(text).transpose()?,
            subject: subject.map(text).transpose()?,
            delay: delay_ms.map(from_ms),
        };
        Ok(door.host.emit(emit).err())
    });

    let door = shared.clone();
    door!(native, ctx, "current", move |ctx: Ctx<'js>| -> Result<Value<'js>> {
        door.payload(&ctx)?.ok_or_else(|| Exception::throw_message(&ctx, OUTSIDE_OF_A_RUN))
    });
    let door = shared.clone();
    door!(native, ctx, "context", move |ctx: Ctx<'js>| -> Result<Value<'js>> {
        if !door.running() {
            return Err(Exception::throw_message(&ctx, OUTSIDE_OF_A_RUN));
        }
        door.event_context(&ctx)
    });

    door!(native, ctx, "span", |value: String| -> Option<f64> {
        let span = parse_span(&value).ok()?;
        Some(span.as_micros() as f64 / 1_000.0)
    });
    let door = host.clone();
    door!(native, ctx, "sleep", move |ms: f64| door.sleep(from_ms(ms)));
    let door = host.clone();
    door!(native, ctx, "cancel", move |timer: u32| door.cancel(timer));
    Ok(())
}

const OUTSIDE_OF_A_RUN: &str =
    "sdk.events is there only while an event is handled: move this into the handler";

/// A JavaScript text as the rest of the product can keep it: no half surrogate pairs, no NUL.
pub(super) fn text(value: JsString<'_>) -> Result<String> {
    let bytes = value.to_cstring()?;
    // SAFETY: pointer and length are those of the engine's own copy, alive as long as `bytes`.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<u8>(), bytes.len()) };
    let mut text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(&whole(bytes)).into_owned(),
    };
    if text.as_bytes().contains(&0) {
        text = text.replace('\0', "\u{FFFD}");
    }
    Ok(text)
}

/// The engine's UTF-8 with each half of a surrogate pair (three bytes from 0xED 0xA0 on) replaced
/// by U+FFFD.
pub(super) fn whole(bytes: &[u8]) -> Vec<u8> {
    let mut whole = bytes.to_vec();
    let mut i = 0;
    while i + 2 < whole.len() {
        if whole[i] == 0xED && whole[i + 1] >= 0xA0 {
            whole[i..i + 3].copy_from_slice("\u{FFFD}".as_bytes());
            i += 2;
        }
        i += 1;
    }
    whole
}

/// A delay in milliseconds; at most the longest that `parse_span` takes, so that it adds up to
/// times that exist.
pub(super) fn from_ms(ms: f64) -> Duration {
    Duration::from_micros((ms.clamp(0.0, 3.2e12) * 1_000.0) as u64)
}
