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

/// Refuses the method if the path does not take it; an unknown path is let through.
pub(super) fn refuse(request: &HttpRequest, path: &str) -> Result<(), ApiError> {
    let methods = methods_of(path);
    if methods.is_empty() || methods.contains(&request.method().as_str()) {
        return Ok(());
    }
    Err(ApiError::method(request.method(), methods.join(", ")))
}

/// The methods that a path takes, in order; none for an unknown path.
fn methods_of(path: &str) -> Vec<&'static str> {
    let segments: Vec<&str> = path.split('/').collect();
    let fitting = || ROUTES.iter().filter(|route| route.fits(&segments));
    // `scripts/test` is no id of a script.
    let named = fitting().max_by_key(|route| route.segments.iter().flatten().count());
    let mut methods = named.map_or_else(Vec::new, |route| route.methods.clone());
    methods.sort_unstable();
    methods
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

#[cfg(test)]
mod tests {
    use super::methods_of;

    #[test]
    fn the_path_that_is_named_goes_before_the_one_with_an_id() {
        assert_eq!(methods_of("/api/v1/scripts/test"), ["POST"]);
        assert_eq!(methods_of("/api/v1/scripts/x"), ["DELETE", "GET", "PATCH"]);
        assert_eq!(methods_of("/api/v1/kv/space/a/b"), ["DELETE", "GET", "PUT"]);
        assert_eq!(methods_of("/hooks/x"), ["POST"]);
        assert!(methods_of("/api/v1/nothing").is_empty());
    }
}
