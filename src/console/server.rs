//! The HTTP server: six addresses, each a question to the [`Source`].

use super::connection::Door;
use super::form::{self, Fields};
use super::guard::{Gate, User, guard};
use super::html::message_page;
use super::list_page::list_page;
use super::study_page::{form_message, study_page};
use super::view::{StudyPage, StudySummary};
use super::{Config, ConsoleError};
use crate::risk::ClinicalValues;
use axum::body::Body;
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Extension, Form, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const FORM_BYTES_MAX: usize = 8 * 1024;
/// The same view again within this time (a page that reloads itself) is one view for the audit.
const SAME_VIEW: Duration = Duration::from_secs(60);
const SAME_LIST: Duration = Duration::from_secs(3600);
const VIEWS_REMEMBERED_MAX: usize = 4096;
/// Requests under way get this long when the service stops.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What the pages show. Implemented by `service` over the store; called on threads that may block.
/// An error is a sentence for the person at the screen, without patient data.
pub trait Source: Send + Sync + 'static {
    /// All studies, newest first.
    fn list(&self) -> Result<Vec<StudySummary>, String>;
    /// One study; `None` if there is none of this number.
    fn study(&self, number: &str) -> Result<Option<StudyPage>, String>;
    /// Sentences on what is wrong with the box now; usually none.
    fn notices(&self) -> Vec<String>;
    /// The bytes of one file of a study. Asked only for names that [`Source::study`] gave.
    fn file(&self, number: &str, name: &str) -> Result<Option<Vec<u8>>, String>;
    /// Writes into the audit that `user` sees something. Nothing is shown if this fails.
    fn viewed(&self, user: &str, what: &Viewed) -> Result<(), String>;
    /// Does what a person asked for; returns when it is durable.
    fn command(&self, user: &str, command: Command) -> Result<(), String>;
}

/// What a person saw.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Viewed {
    /// The list of studies.
    List,
    /// The page of a study.
    Study {
        /// Study number.
        number: String,
    },
    /// A file or picture of a study.
    File {
        /// Study number.
        number: String,
        /// File name.
        name: String,
    },
}

/// What a person asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Replace the clinical values of the patient of a study, and assess again.
    EnterClinical {
        /// Study number.
        number: String,
        /// The values, checked as those of a laboratory's file.
        values: ClinicalValues,
        /// The same as JSON text that [`crate::risk::clinical_from_json`] reads; AFP with the unit that was typed.
        json: String,
    },
    /// Send a parked object again.
    SendAgain {
        /// Study number.
        number: String,
        /// Message id.
        id: String,
    },
}

/// What all requests share.
pub struct Console {
    pub gate: Gate,
    source: Arc<dyn Source>,
    views: Mutex<HashMap<(String, Viewed), Instant>>,
}

/// Answers browsers until `stopped` becomes true. Needs a tokio runtime with time and network.
pub async fn serve(
    listener: std::net::TcpListener,
    config: Config,
    source: Arc<dyn Source>,
    stopped: watch::Receiver<bool>,
) -> Result<(), ConsoleError> {
    let failed = |source| ConsoleError::System { action: "opening the console's port", source };
    let address = listener.local_addr().map_err(failed)?;
    // The listener is what others reach, whatever the configuration says.
    let users = Config { listen: address, ..config }.users()?;
    listener.set_nonblocking(true).map_err(failed)?;
    let door = Door::new(tokio::net::TcpListener::from_std(listener).map_err(failed)?);
    tracing::info!(%address, login = users.is_some(), "console ready");
    let console = Arc::new(Console { gate: Gate::new(users), source, views: Mutex::default() });
    let stop = |mut stopped: watch::Receiver<bool>, grace| async move {
        // A sender that is gone means the service is gone.
        let _ = stopped.wait_for(|s| *s).await;
        tokio::time::sleep(grace).await;
    };
    let serving = axum::serve(door, router(console)).with_graceful_shutdown(stop(stopped.clone(), Duration::ZERO));
    tokio::select! {
        ended = async { serving.await } => ended.map_err(failed),
        () = stop(stopped, STOP_GRACE) => Ok(()),
    }
}

fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(show_list))
        .route("/study/{number}", get(show_study))
        .route("/study/{number}/file/{name}", get(send_file))
        .route("/study/{number}/clinical", post(enter_clinical))
        .route("/study/{number}/retry/{id}", post(send_again))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async || Fault::NotFound)
        .method_not_allowed_fallback(async || Fault::Method)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn_with_state(console.clone(), guard))
        .with_state(console)
}

/// Why there is no page.
enum Fault {
    NotFound,
    Method,
    Source(String),
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, page) = match self {
            Fault::NotFound => {
                let advice = "look for the study in the list of all studies";
                let page = message_page(
                    "Not found",
                    "there is no such study or file on this box",
                    advice,
                    "console.not-found",
                    Some("/"),
                );
                (StatusCode::NOT_FOUND, page)
            }
            Fault::Method => {
                let page = message_page(
                    "Not possible",
                    "this address does not take such a request",
                    "go back to the list",
                    "console.method",
                    Some("/"),
                );
                (StatusCode::METHOD_NOT_ALLOWED, page)
            }
            Fault::Source(sentence) => {
                tracing::warn!(%sentence, "the console could not show something");
                let advice =
                    "try again; if it stays, a technician should run `metwatch check` and read the service's log";
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    message_page("This cannot be shown now", &sentence, advice, "console.source", Some("/")),
                )
            }
        };
        (status, Html(page)).into_response()
    }
}

impl Console {
    /// Asks the source on a thread that may block.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Console) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let console = self.clone();
        let answer = tokio::task::spawn_blocking(move || question(&console)).await;
        answer.unwrap_or_else(|_| Err(Fault::Source("the question ended by a fault of the program".into())))
    }

    /// Reports a view to the audit, unless the same was reported a moment ago.
    fn report(&self, user: &str, what: Viewed) -> Result<(), Fault> {
        let window = if what == Viewed::List { SAME_LIST } else { SAME_VIEW };
        let key = (user.to_owned(), what);
        let seen = |views: &HashMap<(String, Viewed), Instant>| views.get(&key).is_some_and(|at| at.elapsed() < window);
        if seen(&self.views.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        self.source.viewed(user, &key.1).map_err(Fault::Source)?;
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if views.len() >= VIEWS_REMEMBERED_MAX {
            views.clear();
        }
        views.insert(key, Instant::now());
        Ok(())
    }

    fn study(&self, number: &str) -> Result<StudyPage, Fault> {
        if !is_plain_name(number) {
            return Err(Fault::NotFound);
        }
        self.source.study(number).map_err(Fault::Source)?.ok_or(Fault::NotFound)
    }

    fn file(&self, number: &str, name: &str) -> Result<Vec<u8>, Fault> {
        let page = self.study(number)?;
        let listed = page.files.iter().map(|f| &f.name).chain(&page.pictures).any(|known| known == name);
        if !listed || !is_plain_name(name) {
            return Err(Fault::NotFound);
        }
        self.source.file(number, name).map_err(Fault::Source)?.ok_or(Fault::NotFound)
    }
}

async fn show_list(
    State(console): State<Arc<Console>>,
    Extension(user): Extension<User>,
) -> Result<Html<String>, Fault> {
    let studies = console.ask(move |c| {
        let studies = c.source.list().map_err(Fault::Source)?;
        c.report(&user.0, Viewed::List)?;
        Ok(list_page(&studies, &c.source.notices()))
    });
    Ok(Html(studies.await?))
}

async fn show_study(
    State(console): State<Arc<Console>>,
    Extension(user): Extension<User>,
    Path(number): Path<String>,
) -> Result<Html<String>, Fault> {
    let page = console.ask(move |c| {
        let page = c.study(&number)?;
        c.report(&user.0, Viewed::Study { number })?;
        Ok(page)
    });
    Ok(Html(study_page(&page.await?)))
}

async fn send_file(
    State(console): State<Arc<Console>>,
    Extension(user): Extension<User>,
    Path((number, name)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let (content_type, disposition) = (content_type(&name), disposition(&number, &name));
    let bytes = console.ask(move |c| {
        let bytes = c.file(&number, &name)?;
        c.report(&user.0, Viewed::File { number, name })?;
        Ok(bytes)
    });
    let headers = [(header::CONTENT_TYPE, content_type.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, Body::from(bytes.await?)).into_response())
}

async fn enter_clinical(
    State(console): State<Arc<Console>>,
    Extension(user): Extension<User>,
    Path(number): Path<String>,
    fields: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Fault> {
    let study = number.clone();
    let page = console.ask(move |c| c.study(&study)).await?;
    let refused = |status, sentence: &str, advice: &str, code: &str| {
        Ok((status, Html(form_message(&page.number, "Nothing was saved", sentence, advice, code))).into_response())
    };
    if !page.clinical_form {
        let sentence = "this study takes no clinical values now";
        return refused(StatusCode::CONFLICT, sentence, "wait until its analysis has ended", "console.no-form");
    }
    let Ok(Form(fields)) = fields else {
        let advice = "use the form on the study's page";
        return refused(
            StatusCode::BAD_REQUEST,
            "the form is not complete or has fields that do not belong to it",
            advice,
            "console.form",
        );
    };
    let (values, json) = match form::read(&fields) {
        Ok(read) => read,
        Err(e) => return refused(StatusCode::UNPROCESSABLE_ENTITY, &e.sentence, e.advice, e.code),
    };
    let to = format!("/study/{number}");
    let command = Command::EnterClinical { number, values, json };
    match console.ask(move |c| Ok(c.source.command(&user.0, command))).await? {
        Ok(()) => Ok(Redirect::to(&to).into_response()),
        Err(sentence) => refused(
            StatusCode::SERVICE_UNAVAILABLE,
            &sentence,
            "try again in a moment, then tell a technician",
            "console.command",
        ),
    }
}

async fn send_again(
    State(console): State<Arc<Console>>,
    Extension(user): Extension<User>,
    Path((number, id)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let to = format!("/study/{number}");
    let done = console.ask(move |c| {
        let known = c.study(&number)?.deliveries.iter().any(|d| d.id == id && d.parked.is_some());
        let command = Command::SendAgain { number, id };
        if known { Ok(c.source.command(&user.0, command)) } else { Err(Fault::NotFound) }
    });
    match done.await? {
        Ok(()) => Ok(Redirect::to(&to).into_response()),
        Err(sentence) => Err(Fault::Source(sentence)),
    }
}

/// Letters, digits and `. _ -`, not beginning with a point: no such name leads out of a folder.
fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=128).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("png") => "image/png",
        Some("json") => "application/json",
        Some("csv") => "text/csv; charset=utf-8",
        Some("gz") => "application/gzip",
        Some("dcm") => "application/dicom",
        Some("pdf") => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// Pictures are shown; all else is saved under a name that says which study it belongs to.
fn disposition(number: &str, name: &str) -> String {
    if !is_plain_name(number) || !is_plain_name(name) {
        return "attachment".into();
    }
    let kind = if name.ends_with(".png") { "inline" } else { "attachment" };
    format!("{kind}; filename=\"{number}-{name}\"")
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
