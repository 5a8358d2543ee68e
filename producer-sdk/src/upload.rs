//! The only socket: PutMedia over HTTP/1.1 with its answer read while the request is being written,
//! and short JSON calls. A connection each; plain or TLS.

use crate::config::{MediaTarget, Roots};
use crate::error::{LinkError, StartError};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use lookback_wire::ack::AckParser;
use lookback_wire::{Ack, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Name lookup, TCP and TLS together.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A whole JSON call after connecting, and PutMedia's response head.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The largest JSON answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How much of a refusal's body is told.
const MAX_REFUSAL_BYTES: usize = 4 << 10;
/// What the kernel holds unsent. Small, so that a dead link shows as one that takes no bytes.
const SEND_BUFFER_BYTES: u32 = 256 << 10;
/// Writes that wait for the socket, each of 16 KiB and more.
const QUEUED_WRITES: usize = 2;
/// Acknowledgements that wait for the session.
const QUEUED_ACKS: usize = 64;

const AGENT: &str = concat!("lookback-producer/", env!("CARGO_PKG_VERSION"));

/// An http or https URL that paths are appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    host: String,
    port: u16,
    /// Without a slash at its end.
    path: String,
}

impl Url {
    pub fn parse(url: &str) -> Result<Self, LinkError> {
        let invalid = |cause: &str| LinkError::Url { url: url.to_owned(), cause: cause.to_owned() };
        let uri: Uri = url.parse().map_err(|_| invalid("it cannot be parsed"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid("its scheme is neither http nor https")),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        Ok(Self {
            tls,
            host: host.ok_or_else(|| invalid("it has no host"))?.to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// One more path segment.
    pub fn join(&self, segment: &str) -> Self {
        Self { path: format!("{}/{segment}", self.path), ..self.clone() }
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Opens connections.
#[derive(Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
}

impl Client {
    pub fn new(roots: &Roots) -> Result<Self, StartError> {
        let mut store = RootCertStore::empty();
        match roots {
            Roots::WebPki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::Pem(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate =
                        certificate.map_err(|error| StartError::Roots(error.to_string()))?;
                    store.add(certificate).map_err(|error| StartError::Roots(error.to_string()))?;
                }
                if store.is_empty() {
                    return Err(StartError::Roots("there is none in the bundle".to_owned()));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| StartError::Roots(error.to_string()))?
            .with_root_certificates(store)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(tls) })
    }

    /// Posts JSON and reads the JSON answer of a 200.
    pub async fn post_json(
        &self,
        what: &'static str,
        url: &Url,
        bearer: &str,
        body: &Value,
    ) -> Result<Value, LinkError> {
        let (mut sender, connection) = self.connect(url).await?;
        let request = Request::post(&url.path)
            .header(HOST, url.authority())
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Bearer {bearer}"))
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| LinkError::Broken(error.to_string()))?;
        let _connection = Task(tokio::spawn(async move {
            let _ = connection.await;
        }));
        within(what, ANSWER_WITHIN, async {
            let response = sender.send_request(request).await.map_err(broken)?;
            if response.status() != StatusCode::OK {
                return Err(refused(what, response).await);
            }
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| LinkError::Broken(error.to_string()))?.to_bytes();
            serde_json::from_slice(&body)
                .map_err(|error| LinkError::Answer { what, cause: error.to_string() })
        })
        .await
    }

    /// Opens PutMedia: answers once the service has said 200, before any media was sent.
    pub async fn put_media(
        &self,
        target: &MediaTarget,
        bearer: &str,
        started_at: Timestamp,
    ) -> Result<Upload, LinkError> {
        let what = "putMedia";
        let url = Url::parse(&target.endpoint)?.join(what);
        let (mut sender, connection) = self.connect(&url).await?;
        let (media, queue) = mpsc::channel(QUEUED_WRITES);
        let millis = started_at.as_millis();
        let started = format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000));
        let request = Request::post(&url.path)
            .header(HOST, url.authority())
            .header(USER_AGENT, AGENT)
            .header(AUTHORIZATION, format!("Bearer {bearer}"))
            .header("x-amzn-stream-name", &target.media_stream_name)
            .header("x-amzn-fragment-timecode-type", "ABSOLUTE")
            .header("x-amzn-fragment-acknowledgment-required", "1")
            .header("x-amzn-producer-start-timestamp", started)
            .body(Media(queue))
            .map_err(|error| LinkError::Broken(error.to_string()))?;
        let connection = Task(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let response = within(what, ANSWER_WITHIN, async {
            let response = sender.send_request(request).await.map_err(broken)?;
            match response.status() {
                StatusCode::OK => Ok(response),
                _ => Err(refused(what, response).await),
            }
        })
        .await?;
        let (told, news) = mpsc::channel(QUEUED_ACKS);
        let reading = Task(tokio::spawn(read_acks(response.into_body(), told)));
        Ok(Upload { media: Some(media), news, _tasks: [connection, reading] })
    }

    async fn connect<B>(
        &self,
        url: &Url,
    ) -> Result<(SendRequest<B>, http1::Connection<TokioIo<Box<dyn Stream>>, B>), LinkError>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let failed = |cause: String| LinkError::Connect { address: url.authority(), cause };
        within("connecting", CONNECT_WITHIN, async {
            let tcp = connect_tcp(url).await.map_err(|error| failed(error.to_string()))?;
            let stream: Box<dyn Stream> = if url.tls {
                let name = url.host.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
                let connector = TlsConnector::from(self.tls.clone());
                let tls = connector.connect(name, tcp).await;
                Box::new(tls.map_err(|error| failed(error.to_string()))?)
            } else {
                Box::new(tcp)
            };
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)
        })
        .await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// An open PutMedia.
#[derive(Debug)]
pub struct Upload {
    /// Each send becomes one HTTP chunk. Dropping it ends the body.
    pub media: Option<mpsc::Sender<Bytes>>,
    pub news: mpsc::Receiver<News>,
    _tasks: [Task; 2],
}

/// What comes back from the service.
#[derive(Debug)]
pub enum News {
    Ack(Ack<String>),
    /// The last one.
    Ended(LinkError),
}

async fn read_acks(mut body: Incoming, told: mpsc::Sender<News>) {
    let mut parser = AckParser::new();
    let end = loop {
        let data = match body.frame().await {
            None => break LinkError::Closed,
            Some(Err(error)) => break broken(error),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        parser.push(&data);
        loop {
            match parser.next() {
                Ok(None) => break,
                // Passed over: its fragment is sent again if nothing better comes.
                Err(_) => {}
                Ok(Some(ack)) => {
                    if told.send(News::Ack(ack)).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let _ = told.send(News::Ended(end)).await;
}

/// The request's body: whatever is queued.
struct Media(mpsc::Receiver<Bytes>);

impl Body for Media {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A task that ends with its handle.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect_tcp(url: &Url) -> std::io::Result<TcpStream> {
    let host = url.host.trim_matches(['[', ']']);
    let mut last = std::io::Error::other("the name has no address");
    for address in lookup_host((host, url.port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.set_keepalive(true)?;
        match socket.connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn within<T>(
    what: &'static str,
    limit: Duration,
    doing: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let timed_out = LinkError::TimedOut { what, seconds: limit.as_secs() };
    timeout(limit, doing).await.unwrap_or(Err(timed_out))
}

async fn refused(what: &'static str, response: Response<Incoming>) -> LinkError {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_REFUSAL_BYTES).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    LinkError::Refused { what, status, message: String::from_utf8_lossy(&body).into_owned() }
}

fn broken(error: hyper::Error) -> LinkError {
    LinkError::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_http_or_https() {
        let check = |url: &str, expected: Option<&str>| {
            let joined = Url::parse(url).ok().map(|url| url.join("putMedia").to_string());
            assert_eq!(joined.as_deref(), expected, "{url}");
        };
        check("http://127.0.0.1:8080", Some("http://127.0.0.1:8080/putMedia"));
        check("https://lookback.example/", Some("https://lookback.example:443/putMedia"));
        check("https://lookback.example/a/b", Some("https://lookback.example:443/a/b/putMedia"));
        check("http://[::1]:81", Some("http://[::1]:81/putMedia"));
        check("rtsp://lookback.example", None);
        check("lookback.example", None);
        check("http://", None);
    }
}
