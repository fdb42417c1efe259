//! What every answer carries: a request id, and headers that keep browsers strict.

use actix_web::{
    Error, HttpMessage as _, ResponseError as _,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderName, HeaderValue},
    middleware::Next,
    web::Data,
};

use super::{auth::Doors, error::ApiError};

const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                   img-src 'self' data:; font-src 'self'; worker-src 'self'; manifest-src 'self'; \
                   frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// A year, as ASVS 3.4.1 asks for. Subdomains are for whoever runs them to say.
const STAY_ON_TLS: &str = "max-age=31536000";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", CSP),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// The id of the request in hand.
#[derive(Clone)]
struct RequestId(HeaderValue);

/// Gives the request an id, hands it on, and dresses the answer.
pub(super) async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = RequestId(request_id(&request));
    request.extensions_mut().insert(id.clone());
    let trouble = super::pace::watch(&mut request);
    // Nobody may hold a clone of the request meanwhile: the router below needs it for itself.
    let mut response = next.call(request).await?.map_into_boxed_body();
    // What extractors refuse is an answer already; the framework's own become problems too.
    let foreign = response
        .response()
        .error()
        .filter(|error| error.as_error::<ApiError>().is_none())
        .map(foreign);
    if let Some(problem) = foreign {
        response = response.into_response(problem.error_response());
    }
    if let Some(why) = trouble.get() {
        let mut refusal = why.refusal().error_response();
        // Whatever else comes is not read.
        refusal.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
        response = response.into_response(refusal);
    }
    Ok(dressed(response, id).await)
}

async fn dressed(
    mut response: ServiceResponse<BoxBody>,
    id: RequestId,
) -> ServiceResponse<BoxBody> {
    if response.headers().get("content-type").is_some_and(|t| t == "application/problem+json") {
        response = with_id(response, &id).await;
    }
    note_refusal(&response, &id);
    let is_https =
        response.request().app_data::<Data<Doors>>().is_some_and(|doors| doors.is_https());
    let headers = response.headers_mut();
    if is_https {
        let name = HeaderName::from_static("strict-transport-security");
        headers.insert(name, HeaderValue::from_static(STAY_ON_TLS));
    }
    headers.insert(HeaderName::from_static("x-request-id"), id.0);
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if !headers.contains_key("cache-control") {
        headers
            .insert(HeaderName::from_static("cache-control"), HeaderValue::from_static("no-store"));
    }
    response
}

/// Who was refused what, for whoever reads the log. The path is the route's: what stands in a URL
/// may be a secret in the wrong place.
fn note_refusal(response: &ServiceResponse<BoxBody>, id: &RequestId) {
    if ![401, 403].contains(&response.status().as_u16()) {
        return;
    }
    let request = response.request();
    tracing::info!(
        status = response.status().as_u16(),
        method = %request.method(),
        route = request.match_pattern().unwrap_or_default(),
        from = request.peer_addr().map(|address| address.ip().to_string()),
        request_id = id.0.to_str().unwrap_or_default(),
        "a request was refused"
    );
}

/// The client's id if it is short and plain, else one of ours.
fn request_id(request: &ServiceRequest) -> HeaderValue {
    let sent = request.headers().get("x-request-id").filter(|value| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len()) && bytes.iter().all(|b| b.is_ascii_graphic())
    });
    sent.cloned().unwrap_or_else(|| {
        let id = uuid::Uuid::now_v7().to_string();
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

/// Writes the request's id into a problem's body.
async fn with_id(response: ServiceResponse<BoxBody>, id: &RequestId) -> ServiceResponse<BoxBody> {
    let (request, response) = response.into_parts();
    let (head, body) = response.into_parts();
    let bytes = actix_web::body::to_bytes_limited(body, 64 << 10)
        .await
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default();
    let mut problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if let (Some(members), Ok(id)) = (problem.as_object_mut(), id.0.to_str()) {
        members.insert("request_id".into(), id.into());
    }
    ServiceResponse::new(request, head.set_body(BoxBody::new(problem.to_string())))
}

/// An error of the framework's own, as a problem.
fn foreign(error: &Error) -> ApiError {
    use super::error::Code;
    let status = error.as_response_error().status_code();
    let code = match status.as_u16() {
        404 => Code::NotFound,
        405 => Code::MethodNotAllowed,
        408 | 413 => Code::TooLarge,
        415 => Code::UnsupportedMediaType,
        400..=499 => Code::InvalidRequest,
        _ => return ApiError::internal(error),
    };
    ApiError::new(code, error.to_string())
}
