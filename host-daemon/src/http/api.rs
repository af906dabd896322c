//! The API below `/api/v1/`: an [`Api`] answers requests from the view of the daemon.

mod follow;
mod query;

use std::sync::Arc;

use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::to_json;
use crate::http::access::Access;
pub(super) use crate::http::api::follow::Followed;
use crate::http::api::query::Parameters;
use crate::recorded::time::Time;
use crate::view::{EntriesAnswer, EntriesQuery, EntryKind, View};

/// Reports that are encoded at the same time.
const ENCODERS: usize = 2;
/// An answer of more bytes is a long one: a list of thousands of devices.
const LONG: usize = 1 << 20;
/// Long answers that are sent at the same time. A client that reads slowly keeps its own in memory.
const LONG_ANSWERS: usize = 4;
/// Tables that are read and sent at the same time.
const TABLES: usize = 2;

/// The API, and who may use the server that has it.
#[derive(Debug)]
pub struct Api {
    view: Arc<View>,
    pub(super) access: Access,
    encoders: Semaphore,
    tables: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// A query that is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadQuery(pub(super) String);

/// An answer of the API.
#[derive(Debug)]
pub(super) enum ApiAnswer {
    /// JSON.
    Json(String),
    /// Long JSON, and the permit to send it.
    LongJson(String, OwnedSemaphorePermit),
    /// A table in CSV, the name of its device, and the permit to send it.
    Csv(Vec<u8>, String, OwnedSemaphorePermit),
    /// Lines of JSON that come over time.
    Lines(Followed),
    /// Why there is no answer.
    Refused(StatusCode, String),
}

impl Api {
    /// Shows a view to those who have access.
    #[must_use]
    pub fn new(view: Arc<View>, access: Access) -> Self {
        Self {
            view,
            access,
            encoders: Semaphore::new(ENCODERS),
            tables: Arc::new(Semaphore::new(TABLES)),
            long: Arc::new(Semaphore::new(LONG_ANSWERS)),
        }
    }

    /// Answers a request for this path below `/api/v1/`; `None` if the path is unknown.
    pub(super) async fn answer(&self, path: &str, query: Option<&str>) -> Option<ApiAnswer> {
        let answered = match path {
            "csv" => self.csv(query).await,
            "tail" => self.entries(EntryKind::Messages, query).await,
            "faults" => self.entries(EntryKind::Faults, query).await,
            "events" => self.entries(EntryKind::Events, query).await,
            "devices" | "device" | "plot" | "daemon" => {
                let (view, path) = (Arc::clone(&self.view), path.to_owned());
                let query = query.map(str::to_owned);
                self.encoded(move || report(&view, &path, query.as_deref()))
                    .await
            }
            _ => return None,
        };
        Some(answered.unwrap_or_else(|BadQuery(reason)| {
            ApiAnswer::Refused(StatusCode::BAD_REQUEST, format!("{reason}\n"))
        }))
    }

    /// Encodes an answer on another thread: there may be thousands of devices, of values and of entries.
    async fn encoded(
        &self,
        answer: impl FnOnce() -> Result<ApiAnswer, BadQuery> + Send + 'static,
    ) -> Result<ApiAnswer, BadQuery> {
        // The semaphore is never closed.
        let _permit = self.encoders.acquire().await;
        let answered = tokio::task::spawn_blocking(answer).await;
        let answered = answered.unwrap_or_else(|_| {
            Ok(ApiAnswer::Refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                String::new(),
            ))
        })?;
        Ok(match answered {
            ApiAnswer::Json(json) if LONG < json.len() => {
                match Arc::clone(&self.long).try_acquire_owned() {
                    Ok(permit) => ApiAnswer::LongJson(json, permit),
                    Err(_) => busy(LONG_ANSWERS, "long answers"),
                }
            }
            answered => answered,
        })
    }

    async fn entries(&self, kind: EntryKind, query: Option<&str>) -> Result<ApiAnswer, BadQuery> {
        let (mut query, is_followed) = Parameters::new(query)?.entries(kind)?;
        if is_followed {
            let lines = follow::follow(Arc::clone(&self.view), query);
            return Ok(ApiAnswer::Lines(lines));
        }
        let view = Arc::clone(&self.view);
        self.encoded(move || Ok(ApiAnswer::Json(tail(&view, &mut query))))
            .await
    }

    async fn csv(&self, query: Option<&str>) -> Result<ApiAnswer, BadQuery> {
        let (device, last_s) = Parameters::new(query)?.table()?;
        let Ok(permit) = Arc::clone(&self.tables).try_acquire_owned() else {
            return Ok(busy(TABLES, "tables"));
        };
        Ok(match self.view.csv(&device, last_s).await {
            None => unknown(&device),
            Some(Ok(table)) => ApiAnswer::Csv(table, device, permit),
            Some(Err(error)) => {
                ApiAnswer::Refused(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
            }
        })
    }
}

fn report(view: &Arc<View>, path: &str, query: Option<&str>) -> Result<ApiAnswer, BadQuery> {
    let mut parameters = Parameters::new(query)?;
    let json = match path {
        "devices" => to_json(&view.devices(&parameters.devices()?)),
        "device" => {
            let device = parameters.device()?;
            parameters.end()?;
            match view.device(&device) {
                Some(view) => to_json(&view),
                None => return Ok(unknown(&device)),
            }
        }
        "plot" => {
            let query = parameters.plot()?;
            match view.plot(&query) {
                Some(plot) => to_json(&plot),
                None => return Ok(unknown(&query.device)),
            }
        }
        _ => {
            parameters.end()?;
            to_json(&view.daemon())
        }
    };
    Ok(ApiAnswer::Json(json))
}

fn busy(count: usize, what: &str) -> ApiAnswer {
    let reason = format!("{count} {what} are being sent; try again\n");
    ApiAnswer::Refused(StatusCode::SERVICE_UNAVAILABLE, reason)
}

fn unknown(device: &str) -> ApiAnswer {
    let reason = format!("no device {device:?} is connected or remembered\n");
    ApiAnswer::Refused(StatusCode::NOT_FOUND, reason)
}

fn tail(view: &View, query: &mut EntriesQuery) -> String {
    let EntriesAnswer {
        lines,
        next,
        lost,
        not_shown,
        has_more: _,
    } = view.entries(query);
    let time = Time(std::time::SystemTime::now());
    let lost = lost.map_or_else(|| "null".to_owned(), |lost| lost.to_string());
    let mut json = format!(
        r#"{{"time":"{time}","next":{next},"lost":{lost},"not_shown":{not_shown},"entries":["#
    );
    for (index, line) in lines.iter().enumerate() {
        if index != 0 {
            json.push(',');
        }
        // Lines of JSON are UTF-8.
        json.push_str(&String::from_utf8_lossy(line));
    }
    json.push_str("]}\n");
    json
}
