//! What every request passes before a page is made: login, host, origin, time; and the headers of every answer.

use super::html::message_page;
use super::login::{Users, hex};
use super::server::Console;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Logins remembered, so that the slow hash is computed once per browser and not once per picture.
const REMEMBERED_MAX: usize = 256;
/// Passwords checked at the same time: guessing takes its time, and the cores stay with the studies.
const CHECKS_MAX: usize = 1;

/// Who asks: the name of the login, or `local` where loopback needs none.
#[derive(Debug, Clone)]
pub struct User(pub String);

/// The gate in front of all pages.
pub struct Gate {
    users: Option<Arc<Users>>,
    remembered: Mutex<HashMap<String, String>>,
    checks: Semaphore,
}

/// Why a request was not answered with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Login,
    Host,
    CrossSite,
}

impl Gate {
    pub fn new(users: Option<Users>) -> Gate {
        Gate { users: users.map(Arc::new), remembered: Mutex::default(), checks: Semaphore::new(CHECKS_MAX) }
    }

    async fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<User, Refusal> {
        let host = host_of(uri, headers);
        let user = match &self.users {
            Some(users) => User(self.login(users, headers).await.ok_or(Refusal::Login)?),
            // A foreign site can point its own name at 127.0.0.1; its requests then carry that name as host.
            None if host.is_some_and(is_local_name) => User("local".into()),
            None => return Err(Refusal::Host),
        };
        let reads = *method == Method::GET || *method == Method::HEAD;
        if reads || is_same_site(headers, host) { Ok(user) } else { Err(Refusal::CrossSite) }
    }

    async fn login(&self, users: &Arc<Users>, headers: &HeaderMap) -> Option<String> {
        let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?.to_owned();
        let key = hex(&Sha256::digest(&authorization));
        let known = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if known.is_some() {
            return known;
        }
        let place = self.checks.acquire().await.ok()?;
        let users = users.clone();
        let name = tokio::task::spawn_blocking(move || users.check(&authorization)).await.ok().flatten();
        drop(place);
        match &name {
            Some(name) => {
                let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
                if remembered.len() >= REMEMBERED_MAX {
                    remembered.clear();
                }
                remembered.insert(key, name.clone());
            }
            None => tracing::warn!("a login to the console was refused"),
        }
        name
    }
}

/// The middleware: admits or refuses, limits the time, and adds the headers.
pub async fn guard(State(console): State<Arc<Console>>, mut request: Request, next: Next) -> Response {
    let is_health = request.uri().path() == "/healthz";
    let answer = async {
        if !is_health {
            match console.gate.admit(request.method(), request.uri(), request.headers()).await {
                Ok(user) => request.extensions_mut().insert(user),
                Err(refusal) => return refusal.into_response(),
            };
        }
        next.run(request).await
    };
    let mut response = match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(response) => response,
        Err(_) => {
            let text = "the answer took longer than 30 seconds";
            let body = message_page(
                "Too slow",
                text,
                "try again; if it stays, look at the load of the box",
                "console.slow",
                None,
            );
            (StatusCode::GATEWAY_TIMEOUT, Html(body)).into_response()
        }
    };
    protect(response.headers_mut());
    response
}

/// No scripts, no foreign resources, no frames, no copies on disk. The referrer policy is not `no-referrer`, because browsers
/// then send `Origin: null` with our own form.
fn protect(headers: &mut HeaderMap) {
    const FIXED: [(HeaderName, &str); 8] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ];
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, title, sentence, advice, code) = match self {
            Refusal::Login => (
                StatusCode::UNAUTHORIZED,
                "Login needed",
                "name and password are missing or wrong",
                "log in with a name of the users file",
                "console.login",
            ),
            Refusal::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "Wrong address",
                "this console answers only under its local address",
                "open http://localhost or http://127.0.0.1 with the console's port",
                "console.host",
            ),
            Refusal::CrossSite => (
                StatusCode::FORBIDDEN,
                "Not from this page",
                "the request does not come from a page of this console",
                "open the study in the console and use its form",
                "console.cross-site",
            ),
        };
        let mut response = (status, Html(message_page(title, sentence, advice, code, None))).into_response();
        if self == Refusal::Login {
            let challenge = HeaderValue::from_static("Basic realm=\"metwatch\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    headers.get(header::HOST).and_then(|h| h.to_str().ok()).or_else(|| uri.authority().map(|a| a.as_str()))
}

/// `localhost`, 127.0.0.0/8 or ::1, with or without a port.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a request that changes something comes from a page of this host: by Fetch Metadata where the browser sends it,
/// else by the origin. A request with neither is refused.
fn is_same_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = text("origin").and_then(|o| o.split_once("://")).map(|(_, host)| host);
    origin.is_some() && origin == host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_names_reach_a_console_without_login() {
        for host in ["localhost", "localhost:8480", "127.0.0.1:8480", "127.1.2.3", "[::1]:8480", "LOCALHOST:1"] {
            assert!(is_local_name(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8480",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[",
            "10.0.0.1",
        ] {
            assert!(!is_local_name(host), "{host}");
        }
    }

    #[test]
    fn a_form_of_another_site_is_recognized() {
        let same = |pairs: &[(&'static str, &'static str)]| {
            let headers: HeaderMap =
                pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
            is_same_site(&headers, Some("box:8480"))
        };
        assert!(same(&[("sec-fetch-site", "same-origin")]));
        assert!(same(&[("origin", "http://box:8480")]));
        assert!(!same(&[("sec-fetch-site", "cross-site"), ("origin", "http://box:8480")]));
        assert!(!same(&[("sec-fetch-site", "same-site")]));
        assert!(!same(&[("origin", "http://evil.example")]));
        assert!(!same(&[("origin", "null")]));
        assert!(!same(&[]));
    }
}
