//! Runs a request: measures it, parses it, hands it to the schema, and says how it ended.

use super::asked::Asked;
use super::document::{self, coded};
use super::{SCHEMA, fault::Fault};
use async_graphql::parser::parse_query;
use async_graphql::parser::types::{ExecutableDocument, OperationType};
use async_graphql::{Error, Pos, Response, ServerError, Value, Variables};
use std::time::Duration;

/// Longer than any question takes; what is not answered by then has gone wrong.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Errors in an answer: a document of 2,000 tokens can have as many mistakes.
const MAX_ERRORS: usize = 20;

/// A request as it was sent.
#[derive(Debug, Default)]
pub struct Request {
    pub query: String,
    pub operation_name: Option<String>,
    pub variables: Variables,
}

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// It did not get as far as running (GraphQL, September 2025, §7.1.3): the answer has no data.
    Refused(Response),
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
}

/// Reads a request, as far as that needs no schema.
pub fn prepare(request: Request) -> Result<Prepared, ServerError> {
    document::check_text(&request.query)?;
    let document =
        parse_query(&request.query).map_err(|error| coded("GRAPHQL_PARSE_FAILED", error.into()))?;
    let name = request.operation_name.as_deref();
    document::check(&document, name, &request.variables)?;
    let mutates = document
        .operations
        .iter()
        .filter(|(own_name, _)| name.is_none() || own_name.map(|own| own.as_str()) == name)
        .any(|(_, operation)| operation.node.ty == OperationType::Mutation);
    Ok(Prepared { request, document, mutates })
}

/// Runs a prepared request. A mutation goes on where the answer is waited for no longer.
pub async fn execute(prepared: Prepared, asked: Asked) -> Outcome {
    let Prepared { request, document, mutates } = prepared;
    let mut run = async_graphql::Request::new(request.query).variables(request.variables);
    run.operation_name = request.operation_name;
    run.set_parsed_query(document);
    let running = SCHEMA.execute(run.data(asked));
    let answer = if mutates {
        let running = tokio::spawn(running);
        tokio::time::timeout(TIMEOUT, running).await.map(|joined| {
            joined.unwrap_or_else(|panic| {
                let error = Error::from(Fault::internal(panic));
                Response::from_errors(vec![error.into_server_error(Pos::default())])
            })
        })
    } else {
        tokio::time::timeout(TIMEOUT, running).await
    };
    finish(answer.unwrap_or_else(|_| {
        let message = format!("not answered within {} s", TIMEOUT.as_secs());
        Response::from_errors(vec![coded("TIMEOUT", ServerError::new(message, None))])
    }))
}

/// Gives errors of the library a code, cuts a flood of them, and tells how the request ended.
fn finish(mut response: Response) -> Outcome {
    // What a resolver failed with has a code, and what failed while running has a place in the
    // answer; validation's errors have neither.
    let ran = response.errors.iter().all(|error| is_coded(error) || !error.path.is_empty());
    let refused = !ran && response.data == Value::Null;
    let code = if refused { "GRAPHQL_VALIDATION_FAILED" } else { "BAD_USER_INPUT" };
    for error in response.errors.iter_mut().filter(|error| !is_coded(error)) {
        error.extensions.get_or_insert_default().set("code", code);
    }
    if response.errors.len() > MAX_ERRORS {
        response.errors.truncate(MAX_ERRORS);
        response.extensions.insert("truncated".into(), true.into());
    }
    if refused { Outcome::Refused(response) } else { Outcome::Ran(response) }
}

fn is_coded(error: &ServerError) -> bool {
    error.extensions.as_ref().is_some_and(|extensions| extensions.get("code").is_some())
}
