//! Which methods a path takes, so that a wrong one is told from a wrong path.

use std::sync::LazyLock;

use actix_web::HttpRequest;
use utoipa::openapi::PathItem;

use super::{error::ApiError, openapi::document};

/// A path of the OpenAPI document: its segments (`None` stands for any), and its methods.
struct Route {
    segments: Vec<Option<String>>,
    takes_rest: bool,
    methods: Vec<&'static str>,
}

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    document()
        .paths
        .paths
        .into_iter()
        .map(|(path, item)| Route {
            takes_rest: path.ends_with("/{key}"),
            segments: path
                .split('/')
                .map(|segment| (!segment.starts_with('{')).then(|| segment.to_owned()))
                .collect(),
            methods: methods(&item),
        })
        .collect()
});

fn methods(item: &PathItem) -> Vec<&'static str> {
    let described = [
        ("GET", item.get.is_some()),
        ("POST", item.post.is_some()),
        ("PUT", item.put.is_some()),
        ("PATCH", item.patch.is_some()),
        ("DELETE", item.delete.is_some()),
    ];
    described.into_iter().filter(|(_, there)| *there).map(|(method, _)| method).collect()
}

/// Refuses the method, with those that the path takes; an unknown path is let through.
pub(super) fn refuse(request: &HttpRequest, path: &str) -> Result<(), ApiError> {
    let allowed = allowed(path);
    if allowed.is_empty() { Ok(()) } else { Err(ApiError::method(request.method(), allowed)) }
}

/// The methods that a path takes, as the `Allow` header lists them; empty for an unknown path.
fn allowed(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').collect();
    let mut methods: Vec<&str> = ROUTES
        .iter()
        .filter(|route| route.fits(&segments))
        .flat_map(|route| &route.methods)
        .copied()
        .collect();
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

impl Route {
    fn fits(&self, segments: &[&str]) -> bool {
        // Keys may have slashes: the last segment takes the rest.
        let takes_rest = self.takes_rest && segments.len() > self.segments.len();
        (takes_rest || self.segments.len() == segments.len())
            && self
                .segments
                .iter()
                .zip(segments)
                .all(|(expected, found)| expected.as_ref().is_none_or(|expected| expected == found))
    }
}
