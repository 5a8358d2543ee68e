//! The service's own TLS: what it negotiates, and certificates that are exchanged while it runs.

use crate::server::{Answer, PATIENCE, Server};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;

/// Writes a certificate for `localhost` and its key; answers the certificate.
pub fn make_certificate(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

/// What a client that trusts only `certificate` is answered, and the protocol that was agreed on.
fn ask(
    address: SocketAddr,
    certificate: &CertificateDer<'static>,
    request: &str,
) -> std::io::Result<(Answer, Vec<u8>)> {
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let answer = Answer::read(&mut reader, false);
    let protocol = reader.get_ref().conn.alpn_protocol().unwrap_or_default().to_vec();
    Ok((answer, protocol))
}

#[test]
fn certificates_are_exchanged_while_it_runs() {
    let files = TempDir::new().unwrap();
    let first = make_certificate(files.path());
    let path = |name| files.path().join(name).to_str().unwrap().to_owned();
    let flags = ["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem")];
    let server = Server::start_with(&flags, TempDir::new().unwrap());
    let livez = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (answer, protocol) = ask(server.address, &first, livez).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(protocol, b"http/1.1");

    let logout = "POST /auth/logout HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    let (answer, _) = ask(server.address, &first, logout).unwrap();
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"), "{answer:?}");

    let second = make_certificate(files.path());
    assert!(ask(server.address, &second, livez).is_err());
    server.signal("HUP");
    let begun = Instant::now();
    while ask(server.address, &second, livez).is_err() {
        assert!(begun.elapsed() < PATIENCE, "the new certificate is not served");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(ask(server.address, &first, livez).is_err());

    // What cannot be used does not replace what can.
    std::fs::write(files.path().join("cert.pem"), "nothing").unwrap();
    server.signal("HUP");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(ask(server.address, &second, livez).unwrap().0.status, 200);
}
