//! Native halves of the web platform's parts: text coding and URLs.

use rquickjs::{Ctx, Exception, Function, Object, Result, String as JsString, TypedArray};
use url::{Url, form_urlencoded};

use super::globals::{text, whole};

/// Adds the functions that `web.js` and `url.js` call.
pub(super) fn doors<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set(
        "encode",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, value: JsString<'js>| {
            let bytes = value.to_cstring()?;
            // SAFETY: pointer and length are those of the engine's own copy, alive as long as `bytes`.
            let bytes =
                unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<u8>(), bytes.len()) };
            TypedArray::<u8>::new_copy(ctx, whole(bytes))
        })?,
    )?;
    native.set(
        "decode",
        Function::new(ctx.clone(), |bytes: TypedArray<'js, u8>, fatal: bool| -> Option<String> {
            // SAFETY: no script runs, so nothing moves or writes the buffer, before the text is made.
            let bytes = unsafe { bytes.as_bytes() }?;
            match std::str::from_utf8(bytes) {
                Ok(text) => Some(text.to_owned()),
                Err(_) if fatal => None,
                Err(_) => Some(String::from_utf8_lossy(bytes).into_owned()),
            }
        })?,
    )?;
    native.set(
        "url",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>,
             url: JsString<'js>,
             base: Option<JsString<'js>>|
             -> Result<Option<Vec<String>>> {
                let (url, base) =
                    (short(&ctx, url)?, base.map(|base| short(&ctx, base)).transpose()?);
                Ok(match base {
                    Some(base) => Url::parse(&base).and_then(|base| base.join(&url)).ok(),
                    None => Url::parse(&url).ok(),
                }
                .map(|url| fields(&url)))
            },
        )?,
    )?;
    native.set(
        "urlWith",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>,
             href: String,
             field: String,
             value: JsString<'js>|
             -> Result<Option<Vec<String>>> {
                let value = short(&ctx, value)?;
                Ok(Url::parse(&href)
                    .ok()
                    .and_then(|url| with(url, &field, &value))
                    .map(|url| fields(&url)))
            },
        )?,
    )?;
    native.set(
        "query",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>, query: JsString<'js>| -> Result<Vec<Vec<String>>> {
                let query = short(&ctx, query)?;
                Ok(form_urlencoded::parse(query.as_bytes())
                    .map(|(name, value)| vec![name.into_owned(), value.into_owned()])
                    .collect())
            },
        )?,
    )?;
    native.set(
        "form",
        Function::new(ctx.clone(), |pairs: Vec<Vec<String>>| -> String {
            let mut form = form_urlencoded::Serializer::new(String::new());
            for pair in &pairs {
                if let [name, value] = pair.as_slice() {
                    form.append_pair(name, value);
                }
            }
            form.finish()
        })?,
    )
}

/// Longest URL or query, in bytes: taking one apart costs a multiple of it outside of the heap that
/// the runtime's limit counts.
const URL_BYTES_MAX: usize = 256 << 10;

fn short(ctx: &Ctx<'_>, value: JsString<'_>) -> Result<String> {
    let value = text(value)?;
    if value.len() > URL_BYTES_MAX {
        let message = format!(
            "a URL or query of {} bytes is over the sandbox's limit of {URL_BYTES_MAX}",
            value.len()
        );
        return Err(Exception::throw_range(ctx, &message));
    }
    Ok(value)
}

/// In the order of `FIELDS` in `url.js`.
fn fields(url: &Url) -> Vec<String> {
    use url::quirks;
    vec![
        quirks::href(url).into(),
        quirks::origin(url),
        quirks::protocol(url).into(),
        quirks::username(url).into(),
        quirks::password(url).into(),
        quirks::host(url).into(),
        quirks::hostname(url).into(),
        quirks::port(url).into(),
        quirks::pathname(url).into(),
        quirks::search(url).into(),
        quirks::hash(url).into(),
    ]
}

/// The URL with one field set; `None` when the value is refused.
fn with(mut url: Url, field: &str, value: &str) -> Option<Url> {
    use url::quirks;
    match field {
        "href" => quirks::set_href(&mut url, value).ok()?,
        "protocol" => quirks::set_protocol(&mut url, value).ok()?,
        "username" => quirks::set_username(&mut url, value).ok()?,
        "password" => quirks::set_password(&mut url, value).ok()?,
        "host" => quirks::set_host(&mut url, value).ok()?,
        "hostname" => quirks::set_hostname(&mut url, value).ok()?,
        "port" => quirks::set_port(&mut url, value).ok()?,
        "pathname" => quirks::set_pathname(&mut url, value),
        "search" => quirks::set_search(&mut url, value),
        "hash" => quirks::set_hash(&mut url, value),
        _ => return None,
    }
    Some(url)
}
