//! Runs a request: measures it, parses it, counts it against its caller's rate, hands it to the
//! schema, and says how it ended.

use super::asked::Asked;
use super::document::{self, Measured, coded};
use super::subscriber::Subscriber;
use super::subscription::Begun;
use super::{SCHEMA, fault::Fault};
use crate::documents::DocumentId;
use crate::rates::{Caller, TooOften};
use async_graphql::parser::parse_query;
use async_graphql::parser::types::{ExecutableDocument, OperationType};
use async_graphql::{Error, Pos, Response, ServerError, Value, Variables};
use futures_util::stream::{BoxStream, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What cameras send of themselves, again and again.
const INGEST: [&str; 3] = ["ingestSegments", "ingestEvents", "reportHeartbeat"];
/// How the library begins to name what an unknown name may have meant.
const SUGGESTION: &str = " Did you mean ";

/// What the library does not say of our own scalars where a value is none.
const FORMS: [(&str, &str); 6] = [
    ("DateTime", "as in 2026-11-22T09:30:00.000Z, offset included, of the years 2000 to 2199"),
    ("LocalDate", "as in 2026-11-22, of the years 2000 to 2199"),
    ("TimeZone", "the name of an IANA zone, as in Asia/Kolkata"),
    ("ByteCount", "a decimal number as a string"),
    ("URL", "an absolute http(s) URL"),
    ("JSONObject", "a JSON object of at most 4 KiB and 4 levels"),
];

/// A request as it was sent.
#[derive(Debug, Default)]
pub struct Request {
    pub query: String,
    /// In place of `query`, the name of a trusted document.
    pub document_id: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Variables,
}

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// It did not get as far as running (GraphQL, September 2025, §7.1.3): the answer has no data.
    Refused(Response),
    /// The same, for its caller asks too often.
    TooOften(Response, TooOften),
    /// It ran; parts of it may have failed.
    Ran(Response),
}

impl From<ServerError> for Outcome {
    fn from(error: ServerError) -> Self {
        Self::Refused(Response::from_errors(vec![error]))
    }
}

/// A request that is fit to run.
#[derive(Debug)]
pub struct Prepared {
    request: Request,
    document: ExecutableDocument,
    pub mutates: bool,
    pub subscribes: bool,
    ingests: bool,
    cost: usize,
}

impl Prepared {
    fn into_request(self) -> async_graphql::Request {
        let Request { query, operation_name, variables, .. } = self.request;
        let mut request = async_graphql::Request::new(query).variables(variables);
        request.operation_name = operation_name;
        request.set_parsed_query(self.document);
        request
    }
}

/// Reads a request, as far as that needs no schema, and counts it.
pub fn prepare(request: Request, asked: &Asked) -> Result<Prepared, Box<Outcome>> {
    let prepared = read(request, asked);
    // One that is refused has been read all the same.
    let points = prepared.as_ref().map_or(1, |prepared| prepared.cost);
    match asked.service.rates.call(&asked.caller(), points) {
        Ok(()) => prepared.map_err(|error| Box::new(error.into())),
        Err(too_often) => {
            let error = Error::from(Fault::from(too_often)).into_server_error(Pos::default());
            Err(Box::new(Outcome::TooOften(Response::from_errors(vec![error]), too_often)))
        }
    }
}

fn read(mut request: Request, asked: &Asked) -> Result<Prepared, ServerError> {
    let limits = asked.limits();
    find_trusted(&mut request, asked)?;
    document::check_text(&request.query, limits)?;
    document::check_variables(&request.query, &request.variables)?;
    let document =
        parse_query(&request.query).map_err(|error| coded("GRAPHQL_PARSE_FAILED", error.into()))?;
    let name = request.operation_name.as_deref();
    let Measured { kind, roots, cost } =
        document::check(&document, name, &request.variables, limits)?;
    // `__type` is null for such a caller, as all is that it may not see; this cannot be null.
    if asked.principal.is_none() && roots.contains(&"__schema") {
        let message = "introspection needs a token";
        return Err(coded("UNAUTHENTICATED", ServerError::new(message, None)));
    }
    let mutates = kind == OperationType::Mutation;
    let subscribes = kind == OperationType::Subscription;
    let ingests = mutates && roots.iter().all(|root| INGEST.contains(root));
    Ok(Prepared { request, document, mutates, subscribes, ingests, cost })
}

/// Puts the text of a trusted document in its place, where one is named or none but those is run.
fn find_trusted(request: &mut Request, asked: &Asked) -> Result<(), ServerError> {
    let documents = &asked.service.documents;
    if let Some(name) = &request.document_id {
        let text = name.parse().ok().and_then(|id: DocumentId| documents.text(id));
        let unknown = || {
            let message = "there is no such trusted document";
            coded("DOCUMENT_NOT_FOUND", ServerError::new(message, None))
        };
        request.query = text.ok_or_else(unknown)?.to_owned();
    } else if documents.are_required()
        && !matches!(asked.caller(), Caller::Device(_))
        && !matches!(asked.administrator(), Ok(Some(_)))
        && documents.text(DocumentId::of(&request.query)).is_none()
    {
        let message = "only trusted documents are run for this caller";
        return Err(coded("DOCUMENT_REQUIRED", ServerError::new(message, None)));
    }
    Ok(())
}

/// Runs a prepared request. A mutation goes on where the answer is waited for no longer.
pub async fn execute(prepared: Prepared, asked: Asked) -> Outcome {
    let Prepared { mutates, ingests, cost, .. } = prepared;
    let limits = asked.limits();
    let timeout_s = if ingests { limits.ingest_timeout_seconds } else { limits.timeout_seconds };
    let timeout = Duration::from_secs(timeout_s.into());
    let is_known = asked.principal.is_some();
    let max_errors = limits.errors;
    let log = tracing::enabled!(tracing::Level::DEBUG)
        .then(|| Line::new(&prepared.request, cost, &asked));
    let mut run = prepared.into_request();
    if !is_known {
        run = run.disable_introspection();
    }
    let running = SCHEMA.execute(run.data(asked));
    let answer = if mutates {
        let running = tokio::spawn(running);
        tokio::time::timeout(timeout, running).await.map(|joined| {
            joined.unwrap_or_else(|panic| {
                let error = Error::from(Fault::internal(panic));
                Response::from_errors(vec![error.into_server_error(Pos::default())])
            })
        })
    } else {
        tokio::time::timeout(timeout, running).await
    };
    let answer = answer.unwrap_or_else(|_| {
        let retry = if ingests { "; send it again" } else { "" };
        let message = format!("not answered within {timeout_s} s{retry}");
        Response::from_errors(vec![coded("TIMEOUT", ServerError::new(message, None))])
    });
    if let Some(line) = log {
        line.write(&answer);
    }
    finish(answer, is_known, max_errors)
}

/// What the log says of a request: neither its variables nor its document, which may hold secrets.
struct Line {
    operation: String,
    document: DocumentId,
    cost: usize,
    caller: String,
    started: Instant,
}

impl Line {
    fn new(request: &Request, cost: usize, asked: &Asked) -> Self {
        let principal = asked.principal.as_ref();
        Self {
            operation: request.operation_name.clone().unwrap_or_default(),
            document: DocumentId::of(&request.query),
            cost,
            caller: principal.map(|caller| caller.subject.id()).unwrap_or_default(),
            started: Instant::now(),
        }
    }

    fn write(self, answer: &Response) {
        let Self { operation, document, cost, caller, started } = self;
        let millis = started.elapsed().as_millis() as u64;
        let errors = answer.errors.len();
        // The name is as it was sent, and may hold what ends a line.
        tracing::debug!(?operation, %document, cost, caller, millis, errors, "operation");
    }
}

/// Runs a prepared subscription: an outcome for each change. Where the first one is refused, there
/// are no others.
pub fn subscribe(prepared: Prepared, subscriber: Arc<Subscriber>) -> BoxStream<'static, Outcome> {
    let begun = Arc::new(AtomicBool::new(false));
    let is_known = subscriber.caller().borrow().is_some();
    let max_errors = subscriber.asked().limits().errors;
    let run = prepared.into_request().data(subscriber).data(Begun(begun.clone()));
    let outcomes = SCHEMA.execute_stream(run).map(move |response| {
        match finish(response, is_known, max_errors) {
            // Whatever failed before anything was listened to refused the request.
            Outcome::Ran(response) if !begun.load(Ordering::Acquire) => Outcome::Refused(response),
            outcome => outcome,
        }
    });
    outcomes.boxed()
}

/// Gives errors of the library a code, cuts a flood of them, and tells how the request ended.
fn finish(mut response: Response, is_known: bool, max_errors: usize) -> Outcome {
    if !is_known {
        // Name by name, suggestions tell what introspection does not.
        for error in &mut response.errors {
            if let Some(at) = error.message.find(SUGGESTION) {
                error.message.truncate(at);
            }
        }
    }
    for error in &mut response.errors {
        let is_meant = |(name, _): &&(&str, &str)| {
            error.message.ends_with(&format!("expected type \"{name}\""))
        };
        if let Some((_, form)) = FORMS.iter().find(is_meant) {
            error.message = format!("{}: {form}", error.message);
        }
    }
    // What a resolver failed with has a code, and what failed while running has a place in the
    // answer; validation's errors have neither.
    let ran = response.errors.iter().all(|error| is_coded(error) || !error.path.is_empty());
    let refused = !ran && response.data == Value::Null;
    let code = if refused { "GRAPHQL_VALIDATION_FAILED" } else { "BAD_USER_INPUT" };
    for error in response.errors.iter_mut().filter(|error| !is_coded(error)) {
        error.extensions.get_or_insert_default().set("code", code);
    }
    if response.errors.len() > max_errors {
        response.errors.truncate(max_errors);
        response.extensions.insert("truncated".into(), true.into());
    }
    if refused { Outcome::Refused(response) } else { Outcome::Ran(response) }
}

fn is_coded(error: &ServerError) -> bool {
    error.extensions.as_ref().is_some_and(|extensions| extensions.get("code").is_some())
}
