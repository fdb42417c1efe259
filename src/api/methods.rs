//! Which methods a path takes, so that a wrong one is told from a wrong path.

use std::sync::LazyLock;

use utoipa::openapi::PathItem;

use super::openapi::document;

/// A path of the OpenAPI document: its segments (`None` stands for any), and its methods.
struct Route {
    segments: Vec<Option<String>>,
    methods: Vec<&'static str>,
}

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    document()
        .paths
        .paths
        .into_iter()
        .map(|(path, item)| Route {
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

/// The methods that a path takes, as the `Allow` header lists them; empty for an unknown path.
pub(super) fn allowed(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').collect();
    let fits =
        |route: &&Route| {
            route.segments.len() == segments.len()
                && route.segments.iter().zip(&segments).all(|(expected, found)| {
                    expected.as_ref().is_none_or(|expected| expected == found)
                })
        };
    let mut methods: Vec<&str> =
        ROUTES.iter().filter(fits).flat_map(|route| &route.methods).copied().collect();
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}
