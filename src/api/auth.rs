//! Who is asking: bearer tokens, sessions of the dashboard, login codes.
//!
//! A token is `trl_`, eight characters that name it, and 256 random bits. Kept is its SHA-256;
//! compared in constant time. All tokens are in memory, so that publishing reads no store; a
//! revocation takes effect with the answer to it.

use std::{
    collections::HashMap,
    future::{Ready, ready},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest,
    body::MessageBody,
    cookie::{Cookie, SameSite},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::Next,
    web::Data,
};
use base64::Engine as _;
use futures::future::LocalBoxFuture;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::{
    error::{ApiError, Code},
    series::Series,
};
use crate::{
    domain::{Millis, Role, Token, TokenId, access::Pace},
    store::{self, Store},
};

const CODE_LIFE: Duration = Duration::from_secs(600);
const SESSION_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// Failed logins from one address within a minute before it has to wait.
const LOGIN_TRIES: u32 = 10;
const LOGIN_WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered for throttling.
const ADDRESSES_MAX: usize = 10_000;

/// Sessions that are kept in memory while the store cannot be written.
const UNKEPT_MAX: usize = 1_000;

/// Everything that opens a door. One per server.
pub struct Doors {
    store: Store,
    https: bool,
    tokens: RwLock<HashMap<String, Token>>,
    /// Held while the tokens are read and put in place: who reads later must not be overtaken.
    reading: tokio::sync::Mutex<()>,
    /// Sessions that the store could not take, such as on a full disk, by their hash.
    unkept: Mutex<HashMap<[u8; 32], (Millis, TokenId)>>,
    /// Hash of a single-use login code, with its end and the token it stands for.
    codes: Mutex<HashMap<[u8; 32], (Instant, TokenId)>>,
    failures: Mutex<HashMap<String, (u32, Instant)>>,
    uses: Mutex<HashMap<TokenId, Millis>>,
    /// Of tokens with a limit, as far as they have asked.
    paces: Mutex<HashMap<TokenId, Pace>>,
    series: Series,
}

/// A token that was just made: the only time its secret is seen.
pub struct Fresh {
    pub token: Token,
    pub secret: String,
}

/// Who a request comes from.
#[derive(Clone, Debug)]
pub struct Caller {
    pub token: TokenId,
    pub name: String,
    pub role: Role,
    /// It came with a cookie, not with a header.
    pub by_session: bool,
    /// See [`Token::requests_per_s`].
    pub requests_per_s: Option<u32>,
}

impl Doors {
    /// Reads the tokens; the first start makes the admin's and keeps it in `<data>/admin.token`.
    pub async fn open(store: Store, data: &Path, https: bool) -> Result<Self, store::Error> {
        let doors = Self {
            store,
            https,
            tokens: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
            unkept: Mutex::default(),
            codes: Mutex::default(),
            failures: Mutex::default(),
            uses: Mutex::default(),
            paces: Mutex::default(),
            series: Series::open(data),
        };
        doors.reload().await?;
        if doors.tokens().is_empty() {
            let fresh = doors.create("admin".into(), Role::Admin, None, None).await?;
            store::replace_private(&admin_token_path(data), &fresh.secret).map_err(|error| {
                store::Error::Refused(format!("cannot keep the admin token: {error}"))
            })?;
        }
        Ok(doors)
    }

    /// Whether browsers reach the server over HTTPS.
    pub(super) const fn is_https(&self) -> bool {
        self.https
    }

    /// Writes down what the overview's charts show, for the next start.
    pub fn close(&self) {
        self.series.keep();
    }

    /// What happened lately.
    pub(super) const fn series(&self) -> &Series {
        &self.series
    }

    async fn reload(&self) -> Result<(), store::Error> {
        let _reading = self.reading.lock().await;
        let all = self.store.tokens().all().await?;
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) =
            all.into_iter().map(|token| (token.prefix.clone(), token)).collect();
        Ok(())
    }

    /// All tokens, oldest first.
    #[must_use]
    pub fn tokens(&self) -> Vec<Token> {
        let map = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let uses = lock(&self.uses);
        let mut tokens: Vec<Token> = map.values().cloned().collect();
        for token in &mut tokens {
            token.last_used_at = uses.get(&token.id).copied().or(token.last_used_at);
        }
        tokens.sort_by_key(|token| token.id);
        tokens
    }

    pub async fn create(
        &self,
        name: String,
        role: Role,
        expires_at: Option<Millis>,
        requests_per_s: Option<u32>,
    ) -> Result<Fresh, store::Error> {
        let prefix = format!("trl_{}", &random_text()[..8]);
        let secret = format!("{prefix}_{}", random_text());
        let token = Token {
            id: TokenId::fresh(),
            name,
            role,
            prefix,
            hash: sha256(&secret).to_vec(),
            created_at: Millis::now(),
            expires_at,
            last_used_at: None,
            revoked_at: None,
            requests_per_s,
        };
        self.store.tokens().insert(&token).await?;
        self.reload().await?;
        Ok(Fresh { token, secret })
    }

    /// Ends a token at once. False: there is no such token.
    pub async fn revoke(&self, id: TokenId) -> Result<bool, store::Error> {
        let revoked = self.store.tokens().revoke(id, Millis::now()).await?;
        self.reload().await?;
        Ok(revoked)
    }

    /// The caller that a token stands for, if it is good.
    #[must_use]
    pub fn check(&self, secret: &str) -> Option<Caller> {
        let prefix = secret.get(..12)?;
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(prefix)?;
        let same: bool = token.hash.as_slice().ct_eq(sha256(secret).as_slice()).into();
        let now = Millis::now();
        if !same || !token.is_good(now) {
            return None;
        }
        self.note_use(token.id, now);
        Some(caller(token, false))
    }

    fn note_use(&self, id: TokenId, now: Millis) {
        lock(&self.uses).insert(id, now);
    }

    /// Writes down when tokens were last used; called now and then, not per request.
    pub async fn flush_uses(&self) -> Result<(), store::Error> {
        let uses: Vec<(TokenId, Millis)> =
            lock(&self.uses).iter().map(|(id, at)| (*id, *at)).collect();
        let stored = self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone();
        let news: Vec<(TokenId, Millis)> = uses
            .into_iter()
            .filter(|(id, at)| stored.values().any(|t| t.id == *id && t.last_used_at < Some(*at)))
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        self.store.tokens().used(&news).await?;
        self.reload().await
    }

    /// A code that logs in once, within ten minutes, as the first good admin token.
    #[must_use]
    pub fn login_code(&self) -> Option<String> {
        let now = Millis::now();
        let admin = self.tokens().into_iter().find(|t| t.role == Role::Admin && t.is_good(now))?;
        let code = random_text();
        lock(&self.codes).insert(sha256(&code), (Instant::now() + CODE_LIFE, admin.id));
        Some(code)
    }

    /// Logs in with a token or a code; returns the session's secret.
    pub async fn log_in(
        &self,
        credential: &str,
        address: &str,
    ) -> Result<(Caller, String), ApiError> {
        self.throttle(address)?;
        let caller = self.check(credential).or_else(|| self.spend_code(credential));
        let Some(caller) = caller.filter(|caller| caller.role != Role::Publisher) else {
            self.note_failure(address);
            let detail = "expected a token that may read, or a login code that was not used yet";
            return Err(ApiError::new(Code::Unauthorized, detail));
        };
        let secret = random_text();
        let now = Millis::now();
        let (hash, ends) = (sha256(&secret), now.plus(SESSION_LIFE));
        match self.store.sessions().open(&hash, caller.token, now, ends).await {
            Ok(()) => {}
            // Whoever comes to see why nothing can be written must get in.
            Err(error) if error.is_outage() && self.keep_for_now(hash, ends, caller.token) => {
                tracing::warn!(%error, "a session is kept in memory, until the next start");
            }
            Err(error) => return Err(error.into()),
        }
        Ok((caller, secret))
    }

    /// False: so many are kept that there is no room for another one.
    fn keep_for_now(&self, hash: [u8; 32], ends: Millis, token: TokenId) -> bool {
        let mut unkept = lock(&self.unkept);
        let now = Millis::now();
        unkept.retain(|_, (ends, _)| *ends > now);
        let has_room = unkept.len() < UNKEPT_MAX;
        if has_room {
            unkept.insert(hash, (ends, token));
        }
        has_room
    }

    /// The token that opened the session, if it has not ended.
    async fn session_token(&self, secret: &str) -> Result<Option<TokenId>, store::Error> {
        let (hash, now) = (sha256(secret), Millis::now());
        let unkept = lock(&self.unkept).get(&hash).copied();
        match unkept {
            Some((ends, token)) => Ok(Some(token).filter(|_| ends > now)),
            None => self.store.sessions().find(&hash, now).await,
        }
    }

    fn spend_code(&self, code: &str) -> Option<Caller> {
        let mut codes = lock(&self.codes);
        let now = Instant::now();
        codes.retain(|_, (end, _)| *end > now);
        let (_, id) = codes.remove(&sha256(code))?;
        self.by_id(id)
    }

    fn by_id(&self, id: TokenId) -> Option<Caller> {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let now = Millis::now();
        tokens
            .values()
            .find(|token| token.id == id && token.is_good(now))
            .map(|token| caller(token, true))
    }

    fn throttle(&self, address: &str) -> Result<(), ApiError> {
        let mut failures = lock(&self.failures);
        failures.retain(|_, (_, since)| since.elapsed() < LOGIN_WINDOW);
        match failures.get(address) {
            Some((tries, since)) if *tries >= LOGIN_TRIES => {
                let wait = LOGIN_WINDOW.saturating_sub(since.elapsed()).as_secs() + 1;
                Err(ApiError::new(Code::TooManyRequests, "too many failed logins").after(wait))
            }
            _ => Ok(()),
        }
    }

    fn note_failure(&self, address: &str) {
        let mut failures = lock(&self.failures);
        if failures.len() < ADDRESSES_MAX {
            failures.entry(address.to_owned()).or_insert((0, Instant::now())).0 += 1;
        }
    }

    pub async fn log_out(&self, secret: &str) -> Result<(), store::Error> {
        let hash = sha256(secret);
        if lock(&self.unkept).remove(&hash).is_some() {
            return Ok(());
        }
        self.store.sessions().close(&hash).await
    }

    /// The cookie that holds a session's secret; empty to end it.
    #[must_use]
    pub fn cookie(&self, secret: String) -> Cookie<'static> {
        let ends = secret.is_empty();
        let mut cookie = Cookie::new(self.cookie_name(), secret);
        cookie.set_http_only(true);
        cookie.set_same_site(SameSite::Strict);
        cookie.set_path("/");
        cookie.set_secure(self.https);
        let life = if ends { Duration::ZERO } else { SESSION_LIFE };
        cookie
            .set_max_age(actix_web::cookie::time::Duration::seconds(life.as_secs().cast_signed()));
        cookie
    }

    #[must_use]
    pub const fn cookie_name(&self) -> &'static str {
        if self.https { "__Host-tripline" } else { "tripline" }
    }

    /// Counts a request of a token that has a limit.
    fn keep_pace(&self, caller: &Caller) -> Result<(), ApiError> {
        let Some(limit) = caller.requests_per_s else { return Ok(()) };
        let now = Instant::now();
        let mut paces = lock(&self.paces);
        let pace = paces.entry(caller.token).or_insert_with(|| Pace::new(now));
        pace.request(limit, now).map_err(|wait| {
            let detail = format!("the token may ask {limit} times a second");
            ApiError::new(Code::TooManyRequests, detail).after(wait.as_secs() + 1)
        })
    }

    async fn identify(&self, request: &HttpRequest) -> Result<Caller, ApiError> {
        let unauthorized = |detail: &str| ApiError::new(Code::Unauthorized, detail);
        if let Some(value) = request.headers().get(header::AUTHORIZATION) {
            let token = value.to_str().ok().and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
            });
            let token =
                token.ok_or_else(|| unauthorized("expected `Authorization: Bearer TOKEN`"))?;
            return self
                .check(token)
                .ok_or_else(|| unauthorized("the token is wrong, expired or revoked"));
        }
        self.session(request).await
    }

    /// The caller that the session in the cookie stands for.
    async fn session(&self, request: &HttpRequest) -> Result<Caller, ApiError> {
        let unauthorized = |detail: &str| ApiError::new(Code::Unauthorized, detail);
        let Some(cookie) = request.cookie(self.cookie_name()) else {
            return Err(unauthorized("expected a bearer token or a session"));
        };
        let session = self.session_token(cookie.value()).await?;
        let caller = session.and_then(|id| self.by_id(id));
        let caller = caller.ok_or_else(|| unauthorized("the session has ended"))?;
        same_origin(request)?;
        Ok(caller)
    }
}

/// Who has a session is found out before anything else of the request is looked at: extractors that
/// need not wait for the store would be done first, and answer those who may not ask.
pub(super) async fn recognise(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let is_bearer = request.headers().contains_key(header::AUTHORIZATION);
    if let Some(doors) = request.app_data::<Data<Doors>>().filter(|_| !is_bearer).cloned() {
        let found = doors.session(request.request()).await;
        request.extensions_mut().insert(Recognised(found));
    }
    next.call(request).await
}

/// What came of looking for a session.
struct Recognised(Result<Caller, ApiError>);

/// A write that a cookie authenticates must come from our own pages.
fn same_origin(request: &HttpRequest) -> Result<(), ApiError> {
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return Ok(());
    }
    if is_ours(request) == Some(true) { Ok(()) } else { Err(cross_origin()) }
}

/// Refuses what a browser says another site asks: no page may log its visitors in as somebody else.
pub(super) struct NotElsewhere;

impl FromRequest for NotElsewhere {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(if is_ours(request) == Some(false) { Err(cross_origin()) } else { Ok(Self) })
    }
}

fn cross_origin() -> ApiError {
    let detail = "a write with a session must come from the dashboard itself";
    ApiError::new(Code::CrossOrigin, detail)
}

/// Whether a page of ours asks, as far as the browser says; programs say nothing.
fn is_ours(request: &HttpRequest) -> Option<bool> {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok());
    let site = request.headers().get("sec-fetch-site").and_then(|v| v.to_str().ok());
    let host = request.connection_info().host().to_owned();
    let origin_host =
        text(header::ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    match (site, origin_host) {
        (Some(site), None) => Some(site == "same-origin" || site == "none"),
        (site, Some(origin)) => {
            Some(origin == host && site.is_none_or(|site| site == "same-origin"))
        }
        // An origin that is none, such as `null`, is nobody's page.
        (None, None) => request.headers().contains_key(header::ORIGIN).then_some(false),
    }
}

fn caller(token: &Token, by_session: bool) -> Caller {
    let Token { id, role, requests_per_s, .. } = *token;
    Caller { token: id, name: token.name.clone(), role, by_session, requests_per_s }
}

/// Where the first start keeps the admin's token.
#[must_use]
pub fn admin_token_path(data: &Path) -> PathBuf {
    data.join("admin.token")
}

/// 256 random bits as text that needs no escaping anywhere.
fn random_text() -> String {
    let bits: [u8; 32] = rand::random();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bits).replace(['-', '_'], "x")
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The maps are valid after every step, so a poisoned lock is as good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A caller whose role covers `ROLE`; the extractor that every protected operation takes.
pub(super) struct Allowed<const ROLE: u8>(pub Caller);

pub(super) type Publisher = Allowed<0>;
pub(super) type Viewer = Allowed<1>;
pub(super) type Editor = Allowed<2>;
pub(super) type Admin = Allowed<3>;

impl<const ROLE: u8> FromRequest for Allowed<ROLE> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        let recognised = request.extensions_mut().remove::<Recognised>();
        Box::pin(async move {
            let doors = request
                .app_data::<Data<Doors>>()
                .ok_or_else(|| ApiError::internal("no doors in the application's data"))?
                .clone();
            let caller = match recognised {
                Some(Recognised(found)) => found?,
                None => doors.identify(&request).await?,
            };
            doors.keep_pace(&caller)?;
            let needed =
                [Role::Publisher, Role::Viewer, Role::Editor, Role::Admin][usize::from(ROLE)];
            if caller.role.covers(needed) {
                return Ok(Self(caller));
            }
            let detail = format!(
                "this needs the role {}, the token has {}",
                needed.as_str(),
                caller.role.as_str()
            );
            Err(ApiError::new(Code::Forbidden, detail))
        })
    }
}
