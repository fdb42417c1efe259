//! The dashboard's files, kept inside the binary, and its pages.
//!
//! Every path that is no file is the dashboard's one page, whose script reads the path. The page's
//! links to its files are relative to the path it is asked under: so it works below any prefix, even
//! one that a proxy takes away before it asks here.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{
        Method,
        header::{self, HeaderMap},
    },
    web::Data,
};
use include_dir::{Dir, File, include_dir};
use sha2::{Digest as _, Sha256};

use super::{auth::Doors, error::ApiError, methods};

/// What `build.rs` laid out.
static FILES: Dir = include_dir!("$OUT_DIR/dashboard");

const PAGE: &str = "index.html";
/// File names in here carry a hash of their content.
const HASHED: &str = "assets/";

/// Answers what no other route takes.
pub(super) async fn page(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let path = request.match_info().unprocessed().trim_start_matches('/').to_owned();
    let unknown = || Err(ApiError::not_found("route", request.path()));
    methods::refuse(&request, &format!("/{path}"))?;
    if path == "api" || path.starts_with("api/") {
        return unknown();
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(ApiError::method(request.method(), "GET, HEAD".to_owned()));
    }
    if let Some(file) = contents(&path).filter(|_| path != PAGE && !path.ends_with(".gz")) {
        return Ok(serve_file(&request, &path, file));
    }
    if path.starts_with(HASHED) || !(path.is_empty() || wants_page(request.headers())) {
        return unknown();
    }
    Ok(serve_page(&request, &path))
}

/// A browser asks for a page; a program that mistyped a path wants to hear so.
fn wants_page(headers: &HeaderMap) -> bool {
    mentions(headers, header::ACCEPT, "text/html")
}

fn mentions(headers: &HeaderMap, name: header::HeaderName, text: &str) -> bool {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains(text))
}

fn serve_page(request: &HttpRequest, path: &str) -> HttpResponse {
    let Some(file) = contents(PAGE) else {
        return HttpResponse::NotFound().finish();
    };
    let levels = path.matches('/').count();
    let up = if levels == 0 { "./".to_owned() } else { "../".repeat(levels) };
    let mut html = String::from_utf8_lossy(file).replace("\"./", &format!("\"{up}"));
    let mut tag = format!("\"{}-{levels}\"", short_hash(file));
    if is_nobody(request) {
        html = html.replace("<head>", &format!("<head>{NOBODY}"));
        tag = format!("\"{}-{levels}-nobody\"", short_hash(file));
    }
    answer(request, &tag, "no-cache", |mut response| {
        response.content_type("text/html; charset=utf-8").body(html)
    })
}

/// Tells the page's script that nobody is logged in: asking would be a 401, an error in the console.
const NOBODY: &str = "<meta name=\"tripline-session\" content=\"none\">";

/// Whether the browser has no session for sure: a link from another site never carries the cookie.
fn is_nobody(request: &HttpRequest) -> bool {
    let carries = mentions(request.headers(), SEC_FETCH_SITE, "none")
        || mentions(request.headers(), SEC_FETCH_SITE, "same-origin");
    let doors = request.app_data::<Data<Doors>>();
    carries && doors.is_some_and(|doors| request.cookie(doors.cookie_name()).is_none())
}

const SEC_FETCH_SITE: header::HeaderName = header::HeaderName::from_static("sec-fetch-site");

fn serve_file(request: &HttpRequest, path: &str, file: &'static [u8]) -> HttpResponse {
    let lasting = path.starts_with(HASHED);
    let caching = if lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
    let tag = format!("\"{}\"", short_hash(file));
    answer(request, &tag, caching, |mut response| {
        response.content_type(content_type(path)).insert_header((header::VARY, "accept-encoding"));
        let packed = contents(&format!("{path}.gz"))
            .filter(|_| mentions(request.headers(), header::ACCEPT_ENCODING, "gzip"));
        match packed {
            Some(packed) => response.insert_header((header::CONTENT_ENCODING, "gzip")).body(packed),
            None => response.body(file),
        }
    })
}

/// The whole file as `full` makes it, or 304 without one for a client that has it already.
fn answer(
    request: &HttpRequest,
    tag: &str,
    caching: &str,
    full: impl FnOnce(HttpResponseBuilder) -> HttpResponse,
) -> HttpResponse {
    let headed = |mut response: HttpResponseBuilder| {
        response.insert_header((header::ETAG, tag)).insert_header((header::CACHE_CONTROL, caching));
        response
    };
    if mentions(request.headers(), header::IF_NONE_MATCH, tag) {
        return headed(HttpResponse::NotModified()).finish();
    }
    full(headed(HttpResponse::Ok()))
}

fn contents(path: &str) -> Option<&'static [u8]> {
    FILES.get_file(path).map(File::contents)
}

fn short_hash(file: &[u8]) -> String {
    Sha256::digest(file)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml; charset=utf-8",
        Some("woff2") => "font/woff2",
        Some("json" | "webmanifest") => "application/json",
        Some("wasm") => "application/wasm",
        Some("ts" | "txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
