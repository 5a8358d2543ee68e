//! What stands between the SDK and a server of ours in Amazon's place: it counts what is asked for,
//! and refuses some of it.

use crate::server::Server;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How a request is refused.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// The SDK tries again.
    Throttled,
    /// Likewise.
    ServerError,
    /// The SDK does not try again.
    NotAuthorized,
}

impl Refusal {
    fn answer(self) -> String {
        let (status, code) = match self {
            Self::Throttled => ("400 Bad Request", "ClientLimitExceededException"),
            Self::ServerError => ("500 Internal Server Error", "InternalFailure"),
            Self::NotAuthorized => ("401 Unauthorized", "NotAuthorizedException"),
        };
        let body = "{\"Message\":\"as planned\"}";
        format!(
            "HTTP/1.1 {status}\r\nx-amzn-errortype: {code}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

#[derive(Debug, Default)]
struct Requests {
    refused: HashMap<String, (Range<usize>, Refusal)>,
    /// Of each operation, since it was last planned.
    seen: HashMap<String, usize>,
}

impl Requests {
    /// Counts a request; answers how it is refused, if it is.
    fn note(&mut self, operation: &str) -> Option<Refusal> {
        let seen = self.seen.entry(operation.to_owned()).or_default();
        *seen += 1;
        let place = *seen - 1;
        let planned = self.refused.get(operation).filter(|(places, _)| places.contains(&place));
        planned.map(|(_, refusal)| *refusal)
    }
}

#[derive(Debug)]
pub struct Front {
    /// Without a slash at the end.
    pub url: String,
    requests: Arc<Mutex<Requests>>,
}

impl Front {
    pub async fn start(server: &Server) -> Self {
        let upstream = server.address;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Requests>>::default();
        let noted = requests.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, upstream, noted.clone()));
            }
        });
        Self { url, requests }
    }

    /// Refuses requests of an operation by their places, counted from now on.
    pub fn refuse(&self, operation: &str, places: Range<usize>, refusal: Refusal) {
        let mut requests = self.requests.lock().unwrap();
        requests.seen.remove(operation);
        requests.refused.insert(operation.to_owned(), (places, refusal));
    }

    /// Lets everything pass from now on, and counts it anew.
    pub fn allow(&self) {
        *self.requests.lock().unwrap() = Requests::default();
    }

    /// Requests of an operation since it was last planned.
    pub fn seen(&self, operation: &str) -> usize {
        self.requests.lock().unwrap().seen.get(operation).copied().unwrap_or(0)
    }
}

/// One request of a connection, which closes after it.
async fn pass(
    mut client: TcpStream,
    upstream: SocketAddr,
    requests: Arc<Mutex<Requests>>,
) -> Option<()> {
    let mut request = Vec::new();
    let (head, body_len) = loop {
        if let Some(end) = request.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8(request[..end + 4].to_vec()).unwrap();
            let len = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length:").map(|len| len.trim().parse::<usize>().unwrap())
            });
            break (head, len.unwrap_or(0));
        }
        client.read_buf(&mut request).await.ok().filter(|read| *read > 0)?;
    };
    while request.len() < head.len() + body_len {
        client.read_buf(&mut request).await.ok().filter(|read| *read > 0)?;
    }
    let operation = head.split([' ', '/', '?']).find(|part| !part.is_empty() && *part != "POST")?;
    let refusal = requests.lock().unwrap().note(operation);
    if let Some(refusal) = refusal {
        return client.write_all(refusal.answer().as_bytes()).await.ok();
    }
    let mut server = TcpStream::connect(upstream).await.ok()?;
    let closing = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    server.write_all(closing.as_bytes()).await.ok()?;
    server.write_all(&request[head.len()..]).await.ok()?;
    tokio::io::copy(&mut server, &mut client).await.ok().map(drop)
}
