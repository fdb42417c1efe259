//! `fetch` for scripts: which hosts, which addresses, how much, how long.
//!
//! A request passes three walls. The script's allow-list names hosts. The address that is dialled is
//! the one that was looked at: names are resolved here, and what is private, local, reserved or
//! otherwise not the public Internet is never dialled unless the operator names its subnet. And each
//! redirect is a request like the first. Proxies of the environment are ignored, for they would
//! resolve names themselves.
//!
//! Requests run on a thread of their own, so that the core has nothing to do with their encryption
//! and compression.

use std::{
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::StreamExt as _;
use ipnet::IpNet;
use reqwest::{
    Client, Method, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use url::{Host, Url};

use crate::sandbox::call::{Blob, FetchRequest, FetchResponse, Redirect};

/// Redirects of one fetch.
const HOPS_MAX: usize = 5;
/// Until a connection is there, its encryption included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Fetches under way in the whole process.
const AT_ONCE: usize = 256;
/// Bodies that are being received, all fetches together, in bytes. Who finds it full fails at once:
/// waiting for each other's memory, nobody would get on.
const BODIES_BYTES_MAX: usize = 128 << 20;
/// Names and values of an answer's headers, in bytes.
const HEADERS_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// Connections to one host that wait for the next request.
const IDLE_PER_HOST: usize = 8;

/// Headers that say how a message is carried: not the script's to set.
const CARRIAGE: [HeaderName; 10] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::ACCEPT_ENCODING,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

/// Why there is no answer, in words for the script's author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0} is no URL of http or https")]
    Url(String),
    #[error("`{0}` is not in the script's fetch_allow")]
    NotAllowed(String),
    #[error("the address of `{0}` is not one that scripts may reach ([fetch] subnets)")]
    Address(String),
    #[error("the header `{0}` is not the script's to set")]
    Header(String),
    #[error("{0}")]
    Redirect(&'static str),
    #[error("the answer is longer than {0} bytes, the limit of script.fetch_bytes")]
    TooLong(usize),
    #[error("the answer's headers are longer than {HEADERS_BYTES_MAX} bytes")]
    HeadersTooLong,
    #[error("the server has no memory for the answer now; try again")]
    Busy,
    #[error("this server cannot make requests: {0}")]
    Client(String),
    #[error("`{host}`: {reason}")]
    Failed { host: String, reason: String },
}

/// Hosts that a script may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowList(Vec<Allowed>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    /// `*.`: what ends with this, and has something before it.
    below: bool,
    host: String,
    /// `None`: the port of the scheme.
    port: Option<u16>,
}

/// Why a text is no entry of an allow-list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHost {
    #[error(
        "`{0}`: expected a host such as api.example.com, *.example.com or api.example.com:8443"
    )]
    Malformed(String),
    #[error("at most {0} hosts")]
    TooMany(usize),
}

impl AllowList {
    pub(crate) fn parse(entries: &[String]) -> Result<Self, NoHost> {
        entries.iter().map(|entry| Allowed::parse(entry)).collect::<Result<_, _>>().map(Self)
    }

    fn holds(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let default = if url.scheme() == "https" { 443 } else { 80 };
        let port = url.port_or_known_default().unwrap_or(default);
        self.0.iter().any(|allowed| allowed.holds(host, port, default))
    }
}

impl Allowed {
    /// The host is written as URLs write it: in lower case, punycode, canonical numbers.
    fn parse(entry: &str) -> Result<Self, NoHost> {
        let wrong = || NoHost::Malformed(entry.to_owned());
        let (below, rest) = match entry.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, entry),
        };
        // Some of these are left out where URLs are read: what is written is what is meant.
        let misleads = |c: char| c.is_control() || c.is_whitespace() || "/?#@\\*".contains(c);
        if rest.contains(misleads) || rest.ends_with(':') {
            return Err(wrong());
        }
        // `http` keeps every port but 80, `ftp` that one too.
        let url = Url::parse(&format!("http://{rest}/")).map_err(|_| wrong())?;
        let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        if below && !matches!(url.host(), Some(Host::Domain(_))) {
            return Err(wrong());
        }
        // The last group of an IPv6 address is no port.
        let port = if rest.ends_with(']') { None } else { port };
        Ok(Self { below, host: host.to_owned(), port })
    }

    fn holds(&self, host: &str, port: u16, default: u16) -> bool {
        let same_host = if self.below {
            host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        same_host && port == self.port.unwrap_or(default)
    }
}

/// Which addresses may be dialled: the public Internet, and what the operator adds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach(Arc<[IpNet]>);

impl Reach {
    pub(crate) fn new(subnets: impl IntoIterator<Item = IpNet>) -> Self {
        Self(subnets.into_iter().collect())
    }

    fn holds(&self, address: IpAddr) -> bool {
        // An IPv4 address in IPv6 clothes is what it is.
        let address = address.to_canonical();
        let is_public = match address {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => is_public_v6(address),
        };
        is_public || self.0.iter().any(|subnet| subnet.contains(&address))
    }
}

/// Not of the IANA registry of special-purpose addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

/// Global unicast without what is set aside in it: protocol assignments (Teredo among them),
/// documentation, 6to4. Everything else (local, mapped, NAT64, segment routing) is outside of it.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    (0x2000..=0x3fff).contains(&a)
        && !(a == 0x2001 && b < 0x0200)
        && !(a == 0x2001 && b == 0x0db8)
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

/// Resolves names to addresses that may be dialled; the client dials no others.
struct Resolver {
    reach: Reach,
}

/// No address of the name may be dialled.
#[derive(Debug, thiserror::Error)]
#[error("its address may not be reached")]
struct OutOfReach;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let within: Vec<SocketAddr> = found.filter(|at| reach.holds(at.ip())).collect();
            if within.is_empty() {
                return Err(OutOfReach.into());
            }
            Ok(Box::new(within.into_iter()) as Addrs)
        })
    }
}

/// Makes the requests of all scripts.
pub(crate) struct Fetcher {
    outside: Arc<Outside>,
    at_once: Arc<Semaphore>,
    runtime: tokio::runtime::Handle,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

/// What all requests share.
struct Outside {
    /// Made for the first request: reading the system's certificates takes a while.
    client: OnceLock<Result<Client, String>>,
    reach: Reach,
    bytes_max: usize,
    bodies: Arc<Semaphore>,
}

/// A request that is given up when nobody waits for it any more.
struct Task<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Fetcher {
    pub(crate) fn start(reach: Reach, bytes_max: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("fetch".into()).spawn(move || {
            // Ends when the sender is dropped, which is an error and as good as a word.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self {
            outside: Arc::new(Outside {
                client: OnceLock::new(),
                reach,
                bytes_max,
                bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
            }),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            runtime: handle,
            _stop: stop,
        })
    }

    /// Makes a request; dropping the future gives it up.
    pub(crate) async fn fetch(
        &self,
        allow: Arc<AllowList>,
        request: FetchRequest,
    ) -> Result<FetchResponse, FetchError> {
        let work = Work { outside: Arc::clone(&self.outside), allow };
        let at_once = Arc::clone(&self.at_once);
        let mut task = Task(self.runtime.spawn(async move {
            // The semaphore is never closed.
            let _turn = at_once.acquire_owned().await;
            work.follow(request).await
        }));
        (&mut task.0).await.unwrap_or_else(|_| {
            Err(FetchError::Failed { host: String::new(), reason: "the server is stopping".into() })
        })
    }
}

impl Outside {
    fn client(&self) -> Result<&Client, FetchError> {
        let client = self.client.get_or_init(|| {
            // Only an error when another provider was installed before: that one is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
            Client::builder()
                .dns_resolver(Resolver { reach: self.reach.clone() })
                .no_proxy()
                .redirect(Policy::none())
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .http1_max_headers(HEADERS_MAX)
                .user_agent(concat!("tripline/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| innermost(&error).to_string())
        });
        client.as_ref().map_err(|reason| FetchError::Client(reason.clone()))
    }
}

/// One fetch: the request and its redirects.
struct Work {
    outside: Arc<Outside>,
    allow: Arc<AllowList>,
}

impl Work {
    async fn follow(&self, request: FetchRequest) -> Result<FetchResponse, FetchError> {
        let FetchRequest { method, url, headers, body, redirect } = request;
        let mut url = parse(&url)?;
        let mut method = Method::from_bytes(method.as_bytes())
            .map_err(|_| FetchError::Header("method".into()))?;
        let mut headers = header_map(&headers)?;
        let mut body = body.map(|Blob(bytes)| bytes::Bytes::from(bytes));
        for hop in 0..=HOPS_MAX {
            self.check(&url)?;
            let mut request = self
                .outside
                .client()?
                .request(method.clone(), url.clone())
                .headers(headers.clone())
                .header(header::ACCEPT_ENCODING, "gzip");
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let answer = request.send().await.map_err(|error| failed(&url, &error))?;
            let target = (redirect != Redirect::Manual).then(|| location(&url, &answer)).flatten();
            let Some(target) = target else {
                return self.read(answer, url, hop > 0).await;
            };
            if redirect == Redirect::Error {
                return Err(FetchError::Redirect("the answer is a redirect"));
            }
            let target = parse(&target)?;
            if url.scheme() == "https" && target.scheme() == "http" {
                return Err(FetchError::Redirect("the answer redirects from https to http"));
            }
            if target.origin() != url.origin() {
                // What is for one host is not for another.
                for credential in [header::AUTHORIZATION, header::COOKIE] {
                    headers.remove(credential);
                }
            }
            let status = answer.status();
            let becomes_get = status == StatusCode::SEE_OTHER && method != Method::HEAD
                || method == Method::POST
                    && (status == StatusCode::MOVED_PERMANENTLY || status == StatusCode::FOUND);
            if becomes_get {
                (method, body) = (Method::GET, None);
                headers.remove(header::CONTENT_TYPE);
            }
            url = target;
        }
        Err(FetchError::Redirect("more than 5 redirects"))
    }

    /// Looks at a URL before it is asked for; what its name resolves to is looked at when dialled.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        let host = || url.host_str().unwrap_or_default().to_owned();
        if !self.allow.holds(url) {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            return Err(FetchError::NotAllowed(host() + &port));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            _ => None,
        };
        match literal {
            Some(address) if !self.outside.reach.holds(address) => Err(FetchError::Address(host())),
            _ => Ok(()),
        }
    }

    async fn read(
        &self,
        answer: reqwest::Response,
        url: Url,
        redirected: bool,
    ) -> Result<FetchResponse, FetchError> {
        let status = answer.status();
        let headers = answer.headers();
        let bytes: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > HEADERS_BYTES_MAX {
            return Err(FetchError::HeadersTooLong);
        }
        let is_gzip = headers
            .get(header::CONTENT_ENCODING)
            .is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let decoded = [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
        let headers = headers
            .iter()
            .filter(|(name, _)| !is_gzip || !decoded.contains(name))
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    value.as_bytes().iter().map(|b| char::from(*b)).collect(),
                )
            })
            .collect();
        let mut room = Room { of: &self.outside.bodies, taken: None };
        let mut body = self.bytes(answer, &url, &mut room).await?;
        if is_gzip {
            // How much it becomes is known when it is there: the most that it may.
            room.take(self.outside.bytes_max)?;
            body = self.unzip(body, &url).await?;
        }
        Ok(FetchResponse {
            status: status.as_u16(),
            status_text: status.canonical_reason().unwrap_or_default().to_owned(),
            url: url.to_string(),
            redirected,
            headers,
            body: Blob(body),
        })
    }

    /// The body, with the room that it takes while the fetch lasts.
    async fn bytes(
        &self,
        answer: reqwest::Response,
        url: &Url,
        room: &mut Room<'_>,
    ) -> Result<Vec<u8>, FetchError> {
        let mut body = Vec::new();
        let mut stream = answer.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| failed(url, &error))?;
            if body.len() + chunk.len() > self.outside.bytes_max {
                return Err(FetchError::TooLong(self.outside.bytes_max));
            }
            room.take(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Stops one byte past the limit, however much more a few bytes would become.
    async fn unzip(&self, zipped: Vec<u8>, url: &Url) -> Result<Vec<u8>, FetchError> {
        let limit = self.outside.bytes_max;
        let unzip = move || {
            let mut body = Vec::new();
            let read = flate2::read::MultiGzDecoder::new(&zipped[..])
                .take(limit as u64 + 1)
                .read_to_end(&mut body);
            read.map(|_| body)
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        let failed = |reason: String| FetchError::Failed { host, reason };
        match tokio::task::spawn_blocking(unzip).await {
            Ok(Ok(body)) if body.len() > limit => Err(FetchError::TooLong(limit)),
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) => Err(failed(format!("the answer is no gzip: {error}"))),
            Err(_) => Err(failed("the server is stopping".into())),
        }
    }
}

fn parse(url: &str) -> Result<Url, FetchError> {
    let wrong = || FetchError::Url(url.chars().take(200).collect());
    let url = Url::parse(url).map_err(|_| wrong())?;
    let plain = url.username().is_empty() && url.password().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain {
        Ok(url)
    } else {
        Err(wrong())
    }
}

fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, FetchError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let wrong = || FetchError::Header(name.chars().take(80).collect());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        if CARRIAGE.contains(&name) || name.as_str().starts_with("proxy-") {
            return Err(wrong());
        }
        // One byte a character, as the standard has it.
        let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        map.append(name, value.ok_or_else(wrong)?);
    }
    Ok(map)
}

/// Memory of bodies that one fetch has taken; given back with it.
struct Room<'a> {
    of: &'a Semaphore,
    taken: Option<SemaphorePermit<'a>>,
}

impl Room<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), FetchError> {
        let more = self.of.try_acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX));
        let more = more.map_err(|_| FetchError::Busy)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            taken => *taken = Some(more),
        }
        Ok(())
    }
}

/// Where an answer redirects to.
fn location(url: &Url, answer: &reqwest::Response) -> Option<String> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let target = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    url.join(target).ok().map(String::from)
}

fn failed(url: &Url, error: &reqwest::Error) -> FetchError {
    let host = url.host_str().unwrap_or_default().to_owned();
    let reason = innermost(error);
    if reason.is::<OutOfReach>() {
        return FetchError::Address(host);
    }
    FetchError::Failed { host, reason: reason.to_string() }
}

/// The outer reasons only repeat the URL.
fn innermost<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut reason = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason
}

/// An entry and a URL: what is allowed is what a plain reading of both says, and whoever dials reads the same
/// host and port as whoever checks.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(entry: &str, url: &str) {
    let Ok(url) = parse(url) else { return };
    // Another reader of URLs, of the kind that the client dials by.
    let Ok(dialled) = url.as_str().parse::<actix_web::http::Uri>() else { return };
    assert_eq!(dialled.host(), url.host_str(), "{url}");
    assert_eq!(dialled.port_u16(), url.port(), "{url}");
    let Ok(list) = AllowList::parse(&[entry.to_owned()]) else { return };
    // Names in other scripts, escapes and numbers have many forms; the rest has one.
    let plain = |c: char| c.is_ascii_lowercase() || c == '.' || c == '-';
    let (name, port) = entry.rsplit_once(':').unwrap_or((entry, ""));
    let (below, name) = name.strip_prefix("*.").map_or((false, name), |name| (true, name));
    let host = url.host_str().unwrap_or_default();
    if !name.chars().all(plain) || name.contains("xn--") || !host.chars().all(plain) {
        return;
    }
    let is_host = if below {
        host.len() > name.len() + 1 && host.ends_with(&format!(".{name}"))
    } else {
        host == name
    };
    let of_scheme = if url.scheme() == "https" { 443 } else { 80 };
    let port = port.parse().unwrap_or(of_scheme);
    let expected = is_host && url.port().unwrap_or(of_scheme) == port;
    assert_eq!(list.holds(&url), expected, "{entry:?} and {url}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, url: &str) -> bool {
        let list = AllowList::parse(&[entry.to_owned()]).expect("an entry");
        list.holds(&Url::parse(url).expect("a URL"))
    }

    #[test]
    fn an_entry_names_a_host_and_a_port() {
        assert!(allows("api.example.com", "https://api.example.com/x"));
        assert!(allows("api.example.com", "http://API.example.com:80/x"));
        assert!(allows("API.example.com", "https://api.example.com/"));
        assert!(allows("api.example.com:8443", "https://api.example.com:8443/"));
        assert!(allows("api.example.com:443", "https://api.example.com/"));
        assert!(allows("api.example.com:80", "http://api.example.com/"));
        assert!(allows("bücher.example", "https://xn--bcher-kva.example/"));
        assert!(allows("127.0.0.1:80", "http://0x7f.1/"), "numbers have one form");
        assert!(allows("[::1]:8080", "http://[0:0::1]:8080/"));
        for other in [
            "https://example.com/",
            "https://x.api.example.com/",
            "https://api.example.com:8443/",
            "https://api.example.com.evil.example/",
            "https://evil.example/api.example.com",
            "https://evil.example#api.example.com",
        ] {
            assert!(!allows("api.example.com", other), "{other}");
        }
        assert!(!allows("api.example.com:443", "http://api.example.com/"));
    }

    #[test]
    fn a_star_is_for_what_is_below() {
        assert!(allows("*.example.com", "https://a.example.com/"));
        assert!(allows("*.example.com", "https://a.b.example.com/"));
        assert!(!allows("*.example.com", "https://example.com/"));
        assert!(!allows("*.example.com", "https://badexample.com/"));
        assert!(!allows("*.example.com", "https://.example.com/"));
        for wrong in [
            "",
            "*",
            "*.",
            "a/b",
            "a b",
            "https://a",
            "u@a",
            "a:99999",
            "*.127.0.0.1",
            "a?b",
            "x.*.com",
            " a",
            "a\tb",
            "a\n.com",
            "a:8\t443",
            "a:",
        ] {
            assert!(AllowList::parse(&[wrong.to_owned()]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_the_public_internet_is_within_reach() {
        let reach = Reach::default();
        for public in [
            "1.1.1.1",
            "93.184.215.14",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "2606:4700::1",
            "2001:4860::1",
        ] {
            assert!(reach.holds(public.parse().expect("an address")), "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!reach.holds(other.parse().expect("an address")), "{other}");
        }
        let wider = Reach::new(["10.1.0.0/16".parse().expect("a subnet")]);
        assert!(wider.holds("10.1.2.3".parse().expect("an address")));
        assert!(wider.holds("::ffff:10.1.2.3".parse().expect("an address")));
        assert!(!wider.holds("10.2.0.1".parse().expect("an address")));
    }

    #[test]
    fn the_carriage_is_not_the_scripts() {
        let set = |name: &str, value: &str| header_map(&[(name.into(), value.into())]);
        for name in [
            "host",
            "Content-Length",
            "transfer-encoding",
            "Proxy-Authorization",
            "proxy-x",
            "connection",
            "a b",
            "",
        ] {
            assert!(set(name, "1").is_err(), "{name}");
        }
        assert!(set("x", "a\r\nHost: b").is_err());
        assert!(set("x", "ü").is_ok_and(|map| map["x"].as_bytes() == [0xfc]));
        assert!(set("x", "€").is_err());
    }
}
