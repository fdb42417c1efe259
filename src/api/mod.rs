//! HTTP: the JSON API, the event door, metrics and the dashboard.
//!
//! One file per resource; `error.rs` is the only place that knows status codes, `auth.rs` who is
//! asking. [`configure`] is what `main`, the tests and embedding applications share. Handlers
//! extract, call one handle or repository, and convert.

mod auth;
mod backtest;
mod backup;
mod bulk;
mod contract;
#[cfg(feature = "dashboard")]
mod dashboard;
mod dead_letters;
mod docs_page;
mod erase;
mod error;
mod events;
mod extract;
mod filters;
mod finish;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hooks;
mod intake;
mod kv;
mod live;
mod methods;
mod objects;
mod openapi;
mod pace;
mod runs;
mod scheduled;
mod scripts;
mod secrets;
mod security;
mod series;
mod server;
mod session;
mod subscriptions;
mod system;
mod tokens;

use std::sync::{Arc, Weak};

use actix_web::{
    HttpResponse,
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};

pub use self::{
    auth::{Doors, admin_token_path},
    error::{ApiError, Code, Problem},
    openapi::document,
    server::{Server, bind},
};
use crate::Runtime;

/// Samples between two notes of which tokens were used.
const USES_EVERY: u64 = 12;

/// Everything under one service configuration, ready for `App::configure`.
///
/// # Errors
/// When the tokens cannot be read, or the first admin token cannot be kept.
pub async fn open_doors(runtime: &Runtime) -> Result<Data<Doors>, crate::store::Error> {
    let config = runtime.config();
    let doors =
        Doors::open(runtime.store().clone(), &config.data_dir(), config.server.https).await?;
    let doors = Data::new(doors);
    actix_web::rt::spawn(upkeep(runtime.clone(), Arc::downgrade(&doors.clone().into_inner())));
    Ok(doors)
}

/// Samples what happens, and notes now and then which tokens are used, as long as there is a server.
async fn upkeep(runtime: Runtime, doors: Weak<Doors>) {
    let mut ticks = tokio::time::interval(series::STEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 0_u64.. {
        ticks.tick().await;
        let Some(doors) = doors.upgrade() else { return };
        if let Err(error) = doors.series().sample(&runtime).await {
            tracing::debug!(%error, "the charts miss a sample");
        }
        if tick % USES_EVERY == 0
            && let Err(error) = doors.flush_uses().await
        {
            tracing::debug!(%error, "the last uses of tokens are noted later");
        }
    }
}

/// Adds all routes. Embedding applications may mount them below a scope of their own.
pub fn configure(runtime: Runtime, doors: Data<Doors>) -> impl FnOnce(&mut ServiceConfig) + Clone {
    move |app| {
        let limits = &runtime.config().limits;
        app.app_data(Data::new(runtime.clone()))
            .app_data(doors.clone())
            .app_data(web::PayloadConfig::new(limits.batch_bytes))
            .app_data(
                web::PathConfig::default()
                    .error_handler(|error, request| extract::path_error(&error, request).into()),
            )
            .service(
                web::scope("")
                    .wrap(from_fn(security::guard))
                    .service(
                        web::scope("/api/v1")
                            .wrap(from_fn(finish::what_was_begun))
                            .wrap(from_fn(auth::recognise))
                            .configure(events::routes)
                            .configure(erase::routes)
                            .configure(filters::routes)
                            .configure(scripts::routes)
                            .configure(subscriptions::routes)
                            .configure(backtest::routes)
                            .configure(runs::routes)
                            .configure(kv::routes)
                            .configure(secrets::routes)
                            .configure(hooks::routes)
                            .configure(bulk::routes)
                            .configure(dead_letters::routes)
                            .configure(scheduled::routes)
                            .configure(tokens::routes)
                            .configure(backup::routes)
                            .configure(session::routes)
                            .configure(live::routes)
                            .configure(system::routes)
                            .default_service(web::to(unknown)),
                    )
                    .configure(system::root_routes)
                    .configure(hooks::root_routes)
                    .configure(openapi::routes)
                    .default_service(web::to(elsewhere)),
            );
    }
}

/// What no route takes: the dashboard's pages and files.
#[cfg(feature = "dashboard")]
use dashboard::page as elsewhere;
#[cfg(not(feature = "dashboard"))]
use unknown as elsewhere;

async fn unknown(request: actix_web::HttpRequest) -> Result<HttpResponse, ApiError> {
    // An embedding application may have mounted the routes below a path of its own.
    let path = request.path();
    methods::refuse(&request, path.find("/api/").map_or("", |at| &path[at..]))?;
    Err(ApiError::not_found("route", path))
}
