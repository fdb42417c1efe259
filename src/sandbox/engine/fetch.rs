//! Native half of `fetch`: the request as the parent takes it, the answer as the script sees it.

use std::rc::Rc;

use rquickjs::{Array, Ctx, Function, Object, Result, String as JsString, TypedArray, Value};

use super::{
    super::call::{Blob, FetchRequest, FetchResponse, Question, Redirect},
    globals::text,
    kv::ask,
    runtime::Shared,
};

/// Adds the function that `fetch.js` calls.
pub(super) fn doors<'js>(ctx: &Ctx<'js>, native: &Object<'js>, shared: &Rc<Shared>) -> Result<()> {
    let door = shared.clone();
    native.set(
        "fetch",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  method: String,
                  url: JsString<'js>,
                  headers: Vec<Vec<String>>,
                  body: Option<TypedArray<'js, u8>>,
                  redirect: String| {
                let headers = headers.into_iter().filter_map(|pair| {
                    let [name, value] = <[String; 2]>::try_from(pair).ok()?;
                    Some((name, value))
                });
                let request = FetchRequest {
                    method,
                    url: text(url)?,
                    headers: headers.collect(),
                    // SAFETY: copied at once, before any script runs.
                    body: body
                        .map(|body| Blob(unsafe { body.as_bytes() }.unwrap_or_default().into())),
                    redirect: match redirect.as_str() {
                        "manual" => Redirect::Manual,
                        "error" => Redirect::Error,
                        _ => Redirect::Follow,
                    },
                };
                ask(&ctx, &door, Question::Fetch(Box::new(request)), "fetch")
            },
        )?,
    )
}

/// An answer in the order in which `fetch.js` takes it apart.
pub(super) fn answer<'js>(ctx: &Ctx<'js>, response: FetchResponse) -> Result<Value<'js>> {
    let FetchResponse { status, status_text, url, redirected, headers, body } = response;
    let fields = Array::new(ctx.clone())?;
    fields.set(0, status)?;
    fields.set(1, status_text)?;
    fields.set(2, url)?;
    fields.set(3, redirected)?;
    let headers: Vec<_> = headers.into_iter().map(|(name, value)| vec![name, value]).collect();
    fields.set(4, headers)?;
    // Copied into the heap that the runtime's limit counts.
    fields.set(5, TypedArray::<u8>::new_copy(ctx.clone(), body.0)?)?;
    Ok(fields.into_value())
}
