//! What the OpenAPI document says of every operation alike: whom it is for, and what it may answer
//! instead.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, Modify,
    openapi::{
        Content, HttpMethod, KnownFormat, ObjectBuilder, OpenApi, Ref, RefOr, Response,
        ResponseBuilder, SchemaFormat, Type,
        path::{Operation, Parameter, ParameterIn, PathItem},
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
    },
};

use crate::domain::Role;

/// RFC 9457 problems: all that there are. [`Contract`] leaves each operation those that it can answer.
pub(super) struct Problems;

const PROBLEMS: [(u16, &str); 13] = [
    (400, "The request cannot be read"),
    (401, "No token, or one that is wrong, expired or revoked"),
    (403, "The role does not cover this, or another site asked"),
    (404, "There is no such thing"),
    (409, "It does not fit the present state"),
    (412, "It was changed since the ETag in If-Match"),
    (413, "Larger than the limits allow"),
    (415, "The content type is not taken"),
    (422, "A field cannot be; `field` and `expected` say which and why"),
    (429, "Too many requests, or too many events wait; see Retry-After"),
    (500, "It failed; the server's log says more under the request's id"),
    (503, "Not now; see Retry-After"),
    (507, "The disk is full"),
];

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let response = |description: &str| {
            let schema = Ref::from_schema_name("Problem");
            let content = Content::builder().schema(Some(schema)).build();
            ResponseBuilder::new()
                .description(description)
                .content("application/problem+json", content)
                .build()
                .into()
        };
        PROBLEMS.iter().map(|(status, text)| (status.to_string(), response(text))).collect()
    }
}

/// Gives every operation its role, and takes away the problems that it cannot have.
pub(super) struct Contract;

impl Modify for Contract {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let cookie = ApiKey::Cookie(ApiKeyValue::new("tripline"));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
        for (method, operation) in document.paths.paths.values_mut().flat_map(operations) {
            finish(&method, operation);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let PathItem { get, post, put, patch, delete, .. } = item;
    let all = [
        (HttpMethod::Get, get),
        (HttpMethod::Post, post),
        (HttpMethod::Put, put),
        (HttpMethod::Patch, patch),
        (HttpMethod::Delete, delete),
    ];
    all.into_iter().filter_map(|(method, there)| Some((method, there.as_mut()?)))
}

fn finish(method: &HttpMethod, operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    let is_open = operation.security.is_some();
    if !is_open {
        let role = role(&id, method).as_str();
        let by = |scheme: &str| SecurityRequirement::new(scheme, [role]);
        operation.security = Some(vec![by("token"), by("session")]);
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            refine(&id, parameter);
        }
    }
    let has = |place: &ParameterIn, name: &str| {
        operation.parameters.iter().flatten().any(|parameter| {
            let RefOr::T(Parameter { name: its, parameter_in, .. }) = parameter else {
                return false;
            };
            parameter_in == place && (name.is_empty() || its.eq_ignore_ascii_case(name))
        })
    };
    let is_read = *method == HttpMethod::Get;
    let has_body = operation.request_body.is_some();
    let takes = has_body || operation.parameters.is_some();
    let outdates = has(&ParameterIn::Header, "If-Match");
    let names = has(&ParameterIn::Path, "");
    operation.responses.responses.retain(|status, _| match status.as_str() {
        "400" | "413" | "415" => has_body,
        "401" => !is_open || ["log_in", "deliver_to_hook"].contains(&id.as_str()),
        "403" => !is_open || id == "log_in",
        "404" => names,
        "409" => !is_read,
        "412" => outdates,
        "422" => takes,
        "429" => !is_open || has_body,
        "507" => !is_read,
        _ => true,
    });
}

/// What a parameter must look like, where its type does not say it.
fn refine(operation: &str, parameter: &mut Parameter) {
    let pattern = match (&parameter.parameter_in, parameter.name.as_str()) {
        (ParameterIn::Header, "If-Match") => r#"^(\*|(W/)?"?[0-9]{1,18}"?)$"#,
        (ParameterIn::Path, "namespace") => "^[a-z][a-z0-9._-]{0,63}$",
        (ParameterIn::Path, "key") => r"^[^\x00-\x1f\x7f-\x9f]{1,512}$",
        (ParameterIn::Path, "name") if operation.contains("secret") => {
            "^[a-zA-Z][a-zA-Z0-9._-]{0,63}$"
        }
        (ParameterIn::Query, "from" | "until") => {
            let time = ObjectBuilder::new().schema_type(Type::String);
            let time = time.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
            parameter.schema = Some(time.into());
            return;
        }
        _ => return,
    };
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    parameter.schema = Some(text.into());
}

/// The least role that may do it; `tests/it/roles.rs` tries all of them out.
fn role(operation: &str, method: &HttpMethod) -> Role {
    match operation {
        "publish_events" => Role::Publisher,
        "create_token" | "list_tokens" | "revoke_token" | "list_secrets" | "set_secret"
        | "remove_secret" | "create_hook" | "change_hook" | "delete_hook" | "back_up"
        | "erase_event" | "erase_subject" => Role::Admin,
        "check_filter" | "backtest_subscription" | "log_out" => Role::Viewer,
        _ if *method == HttpMethod::Get => Role::Viewer,
        _ => Role::Editor,
    }
}
