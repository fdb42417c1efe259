//! Native halves of `sdk.kv` and `sdk.secrets`: own writes and questions, as the host takes them.

use std::{rc::Rc, time::Duration};

use rquickjs::{Ctx, Exception, Function, Object, Result, String as JsString};

use super::{
    super::call::{KvWrite, Question, Space, Ttl},
    globals::{from_ms, text},
    runtime::Shared,
};
use crate::domain::kv::Span;

/// Adds the functions that `kv.js` calls.
pub(super) fn doors<'js>(ctx: &Ctx<'js>, native: &Object<'js>, shared: &Rc<Shared>) -> Result<()> {
    native.set(
        "kvSpace",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, name: JsString<'js>| {
            let space = space(Some(name))?;
            space.check().map_err(|refusal| {
                Exception::throw_type(&ctx, &format!("sdk.kv.shared: {refusal}"))
            })
        })?,
    )?;
    let door = shared.clone();
    native.set(
        "kvKnown",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, of: Option<JsString<'js>>, key: JsString<'js>| {
                let known = door.host.kv_known(&space(of)?, &text(key)?);
                // Undefined: it must ask; null: there is no such key.
                Ok::<_, rquickjs::Error>(match known {
                    None => rquickjs::Value::new_undefined(ctx),
                    Some(None) => rquickjs::Value::new_null(ctx),
                    Some(Some(value)) => JsString::from_str(ctx, &value)?.into_value(),
                })
            },
        )?,
    )?;
    let door = shared.clone();
    native.set(
        "kvGet",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, of: Option<JsString<'js>>, key: JsString<'js>, what: String| {
                let question = Question::KvGet { space: space(of)?, key: text(key)? };
                ask(&ctx, &door, question, &what)
            },
        )?,
    )?;
    let door = shared.clone();
    native.set(
        "kvList",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  of: Option<JsString<'js>>,
                  prefix: JsString<'js>,
                  after: Option<JsString<'js>>,
                  limit: f64| {
                let span = Span { prefix: text(prefix)?, after: after.map(text).transpose()? };
                // Out of range becomes 0, which no list takes.
                let limit = if limit.fract() == 0.0 { limit as u32 } else { 0 };
                let question = Question::KvList { space: space(of)?, span, limit };
                ask(&ctx, &door, question, "sdk.kv.list")
            },
        )?,
    )?;
    let door = shared.clone();
    native.set(
        "kvSet",
        Function::new(
            ctx.clone(),
            move |of: Option<JsString<'js>>,
                  key: JsString<'js>,
                  value: JsString<'js>,
                  ms: Option<f64>| {
                let ttl = ms.map_or(Ttl::Forever, |ms| Ttl::For(from_ms(ms).max(SHORTEST)));
                write(&door, of, key, Some(value), ttl)
            },
        )?,
    )?;
    let door = shared.clone();
    native.set(
        "kvAdd",
        Function::new(
            ctx.clone(),
            move |of: Option<JsString<'js>>, key: JsString<'js>, value: JsString<'js>| {
                write(&door, of, key, Some(value), Ttl::Keep)
            },
        )?,
    )?;
    let door = shared.clone();
    native.set(
        "kvRemove",
        Function::new(ctx.clone(), move |of: Option<JsString<'js>>, key: JsString<'js>| {
            write(&door, of, key, None, Ttl::Forever)
        })?,
    )
}

/// Adds the function that `core.js` calls for `sdk.secrets`.
pub(super) fn secret_door<'js>(
    ctx: &Ctx<'js>,
    native: &Object<'js>,
    shared: &Rc<Shared>,
) -> Result<()> {
    let door = shared.clone();
    native.set(
        "secret",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: JsString<'js>| {
            ask(&ctx, &door, Question::Secret { name: text(name)? }, "sdk.secrets.get")
        })?,
    )
}

/// A time to live of nothing would be a removal in disguise.
const SHORTEST: Duration = Duration::from_millis(1);

const NOT_NOW: &str = "there only while an event is handled: move this into the handler";

/// Starts a question inside a run; the promise of its id is kept in JavaScript.
pub(super) fn ask(ctx: &Ctx<'_>, shared: &Shared, question: Question, what: &str) -> Result<u32> {
    if !shared.running() {
        return Err(Exception::throw_message(ctx, &format!("{what}: {NOT_NOW}")));
    }
    let asked = shared.host.ask(question).map(|call| call.0);
    asked.map_err(|refusal| Exception::throw_message(ctx, &format!("{what}: {refusal}")))
}

/// The refusal, if any.
fn write(
    shared: &Shared,
    of: Option<JsString<'_>>,
    key: JsString<'_>,
    value: Option<JsString<'_>>,
    ttl: Ttl,
) -> Result<Option<String>> {
    if !shared.running() {
        return Ok(Some(NOT_NOW.into()));
    }
    let value = value.map(text).transpose()?;
    let write = KvWrite { space: space(of)?, key: text(key)?, value, ttl };
    Ok(shared.host.kv_write(write).err())
}

fn space(name: Option<JsString<'_>>) -> Result<Space> {
    Ok(match name {
        None => Space::Own,
        Some(name) => Space::Shared(text(name)?.into()),
    })
}
