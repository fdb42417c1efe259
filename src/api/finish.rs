//! What was begun is finished, whether or not whoever asked stays to hear of it.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    middleware::Next,
};

/// Routes whose work is of use to nobody but whoever asked: it ends with the connection. Events are
/// the journal's from the moment that it has them.
const ENDS: [&str; 7] = [
    "/filters/check",
    "/runs/{id}/rerun",
    "/scripts/test",
    "/scripts/{id}/test",
    "/storage/backup",
    "/subscriptions/{id}/backtest",
    "/session",
];

/// A change of several steps, the audit line its last, goes on when its connection is lost: the server
/// drops what a lost connection asked for.
pub(super) async fn what_was_begun(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if [Method::GET, Method::HEAD].contains(request.method()) || ends(&request) {
        return next.call(request).await;
    }
    match actix_web::rt::spawn(next.call(request)).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(actix_web::error::ErrorInternalServerError(error)),
        },
    }
}

fn ends(request: &ServiceRequest) -> bool {
    // The hot path asks no more.
    if request.path().ends_with("/events") {
        return true;
    }
    let pattern = request.match_pattern();
    pattern.is_some_and(|pattern| {
        let route = pattern.split_once("/api/v1").map(|(_, route)| route);
        route.is_some_and(|route| ENDS.contains(&route))
    })
}
