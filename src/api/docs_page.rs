//! The API's page: the OpenAPI document as plain HTML, without scripts and without other hosts.

use std::fmt::Write as _;

use serde_json::Value;

pub(super) const STYLE: &str = "\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 0.9em/1.5 ui-monospace, monospace }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid #8885; border-radius: 6px }
details { border: 1px solid #8885; border-radius: 6px; margin: 0.5rem 0; padding: 0.5rem 0.75rem }
summary { cursor: pointer }
summary b { display: inline-block; min-width: 4.5rem; text-transform: uppercase }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0 }
h2 { margin-top: 2rem; text-transform: capitalize }
";

/// The page of a document.
pub(super) fn render(document: &utoipa::openapi::OpenApi) -> String {
    let document = serde_json::to_value(document).unwrap_or_default();
    let mut out = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tripline API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"docs.css\">\
         </head><body><h1>Tripline API</h1>",
    );
    paragraph(&mut out, &document["info"]["description"]);
    out.push_str("<p>The document itself: <a href=\"openapi.json\">openapi.json</a></p>");
    let mut tags: Vec<&str> = operations(&document).map(|(_, _, o)| tag(o)).collect();
    tags.sort_unstable();
    tags.dedup();
    for name in tags {
        let _ = write!(out, "<h2>{}</h2>", escaped(name));
        for (path, method, operation) in operations(&document).filter(|(_, _, o)| tag(o) == name) {
            describe(&mut out, path, method, operation);
        }
    }
    out.push_str("<h2>schemas</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let text = serde_json::to_string_pretty(schema).unwrap_or_default();
        let name = escaped(name);
        let _ = write!(out, "<details id=\"{name}\"><summary><code>{name}</code></summary>");
        let _ = write!(out, "<pre>{}</pre></details>", escaped(&text));
    }
    out.push_str("</body></html>");
    out
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    members(&document["paths"]).flat_map(|(path, item)| {
        members(item).map(move |(method, operation)| (path, method, operation))
    })
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn tag(operation: &Value) -> &str {
    operation["tags"][0].as_str().unwrap_or("other")
}

fn describe(out: &mut String, path: &str, method: &str, operation: &Value) {
    let summary = operation["summary"].as_str().unwrap_or_default();
    let _ = write!(
        out,
        "<details><summary><b>{}</b> <code>{}</code> {}</summary>",
        escaped(method),
        escaped(path),
        escaped(summary)
    );
    paragraph(out, &operation["description"]);
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        out.push_str("<table><tr><th>Parameter<th>In<th>Type<th>Meaning</tr>");
        for parameter in parameters {
            row(
                out,
                &[
                    text(&parameter["name"]),
                    text(&parameter["in"]),
                    type_of(&parameter["schema"]),
                    text(&parameter["description"]),
                ],
            );
        }
        out.push_str("</table>");
    }
    for (media, content) in members(&operation["requestBody"]["content"]) {
        let _ = write!(out, "<p>Body: {} {}</p>", escaped(media), type_of(&content["schema"]));
    }
    out.push_str("<table><tr><th>Status<th>Meaning<th>Body</tr>");
    for (status, response) in members(&operation["responses"]) {
        let body =
            members(&response["content"]).next().map(|(_, content)| type_of(&content["schema"]));
        row(out, &[escaped(status), text(&response["description"]), body.unwrap_or_default()]);
    }
    out.push_str("</table></details>");
}

fn row(out: &mut String, cells: &[String]) {
    out.push_str("<tr>");
    for cell in cells {
        let _ = write!(out, "<td>{cell}");
    }
    out.push_str("</tr>");
}

/// The name of a schema as a link, or its type.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#{name}\"><code>{name}</code></a>");
    }
    match &schema["type"] {
        Value::String(name) => escaped(name),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).map(escaped).collect::<Vec<_>>().join(" or ")
        }
        _ => String::new(),
    }
}

fn paragraph(out: &mut String, value: &Value) {
    if let Some(text) = value.as_str() {
        let _ = write!(out, "<p>{}</p>", escaped(text));
    }
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_lists_operations_and_asks_nobody_else() {
        let page = super::render(&crate::api::document());
        assert!(page.contains("<code>/api/v1/events</code>"));
        assert!(
            !page.contains("<script") && !page.contains("http://") && !page.contains("https://")
        );
    }
}
