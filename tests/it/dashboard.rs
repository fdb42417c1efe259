//! The dashboard's files and pages, as a browser asks for them.

use std::{fs, path::Path, process::Command};

use reqwest::{RequestBuilder, Response, StatusCode, header};

use crate::support::TestRuntime;

struct Browser {
    http: reqwest::Client,
    url: String,
}

impl Browser {
    fn of(rt: &TestRuntime) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { http, url: rt.server.url() }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url)).header(header::ACCEPT, "text/html,*/*")
    }

    async fn page(&self, path: &str) -> String {
        let response = self.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(head(&response, "content-type"), "text/html; charset=utf-8");
        assert_eq!(head(&response, "cache-control"), "no-cache");
        assert!(head(&response, "content-security-policy").contains("script-src 'self'"));
        response.text().await.unwrap()
    }

    /// Where the page's script lies, as the page says it.
    async fn script(&self, path: &str) -> String {
        let page = self.page(path).await;
        let (_, rest) = page.split_once("<script type=\"module\"").expect("a script");
        let (_, rest) = rest.split_once("src=\"").expect("its address");
        rest.split_once('"').expect("the end of it").0.to_owned()
    }
}

fn head<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// A proxy may show the server below a prefix that it does not tell: links that start at the root
/// of the host would miss it.
#[tokio::test]
async fn every_path_is_the_page_and_its_links_are_relative_to_the_path() {
    let rt = TestRuntime::start().await;
    let browser = Browser::of(&rt);
    assert!(browser.script("/").await.starts_with("./assets/"));
    assert!(browser.script("/events").await.starts_with("./assets/"));
    assert!(browser.script("/events/some-uid").await.starts_with("../assets/"));
    assert!(browser.script("/a/b/c?d=e").await.starts_with("../../assets/"));
    assert!(!browser.page("/").await.contains("<script>"), "no inline script");
}

/// A browser without a session is told so, for asking would be an error in its console; one that
/// comes from another site may have one, for its cookie stays behind.
#[tokio::test]
async fn a_page_for_nobody_says_so() {
    let rt = TestRuntime::start().await;
    let browser = Browser::of(&rt);
    for (site, cookie, expected) in [
        ("none", "", true),
        ("same-origin", "", true),
        ("cross-site", "", false),
        ("none", "tripline=anything", false),
    ] {
        let request = browser.get("/events").header("sec-fetch-site", site);
        let answer = request.header(header::COOKIE, cookie).send().await.unwrap();
        let tag = head(&answer, "etag").to_owned();
        let page = answer.text().await.unwrap();
        let says = page.contains("<meta name=\"tripline-session\" content=\"none\">");
        assert_eq!((says, tag.contains("nobody")), (expected, expected), "{site} {cookie}");
    }
}

#[tokio::test]
async fn files_with_a_hash_in_their_name_last_and_travel_packed() {
    let rt = TestRuntime::start().await;
    let browser = Browser::of(&rt);
    let path = browser.script("/").await.replace("./", "/");
    let plain = browser.get(&path).send().await.unwrap();
    assert_eq!(head(&plain, "content-type"), "text/javascript; charset=utf-8");
    assert_eq!(head(&plain, "cache-control"), "public, max-age=31536000, immutable");
    let tag = head(&plain, "etag").to_owned();
    let plain_bytes = plain.bytes().await.unwrap().len();

    let packed = browser.get(&path).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(head(&packed, "content-encoding"), "gzip");
    assert!(packed.bytes().await.unwrap().len() * 2 < plain_bytes);

    let known = browser.get(&path).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    // A body here would be read as the next answer of the connection.
    assert!(known.bytes().await.unwrap().is_empty());
    assert_eq!(browser.get(&path).send().await.unwrap().status(), StatusCode::OK);
    let gone = browser.get("/assets/gone-12345678.js").send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_not_for_browsers_stays_a_problem() {
    let rt = TestRuntime::start().await;
    let browser = Browser::of(&rt);
    for (request, status) in [
        (browser.get("/api/v1/nothing"), StatusCode::NOT_FOUND),
        (browser.get("/api"), StatusCode::NOT_FOUND),
        (browser.get("/api/nothing"), StatusCode::NOT_FOUND),
        (browser.http.get(browser.url.clone() + "/mistyped"), StatusCode::NOT_FOUND),
        (browser.http.post(browser.url.clone() + "/events"), StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{}", response.url());
        if status != StatusCode::OK {
            assert_eq!(head(&response, "content-type"), "application/problem+json");
        }
    }
}

/// The build script alone, on a machine without Node: the binary gets a page that says what to do.
#[test]
fn without_node_the_page_says_how_to_build_the_dashboard() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a folder");
    let (script, web) = (folder.path().join("build-script"), folder.path().join("web"));
    let compiled = Command::new(option_env!("RUSTC").unwrap_or("rustc"))
        .args(["--edition", "2024", "-o"])
        .args([&script, &home.join("build.rs")])
        .status()
        .expect("the compiler runs");
    assert!(compiled.success());
    fs::create_dir(&web).expect("a folder");
    fs::copy(home.join("web/package.json"), web.join("package.json")).expect("a copy");
    let built = Command::new(&script)
        .env_clear()
        .env("PATH", folder.path())
        .env("CARGO_FEATURE_DASHBOARD", "1")
        .env("CARGO_MANIFEST_DIR", folder.path())
        .env("OUT_DIR", folder.path())
        .output()
        .expect("the build script runs");
    let said = String::from_utf8_lossy(&built.stdout).into_owned();
    assert!(built.status.success(), "{said}");
    assert!(said.contains("cargo:warning=the dashboard is left out: npm does not run"), "{said}");
    let page = fs::read_to_string(folder.path().join("dashboard/index.html")).expect("a page");
    assert!(page.contains("Install Node") && page.contains("cargo build --release"), "{page}");
    assert!(page.contains("href=\"./api/docs\""), "{page}");
}
