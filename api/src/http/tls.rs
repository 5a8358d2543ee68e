//! The service's own TLS: certificates that can be exchanged while it runs.

use crate::config::Tls;
use parking_lot::RwLock;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: rustls::pki_types::pem::Error },
    #[error("{path}: holds no certificate")]
    Empty { path: PathBuf },
    #[error("{path} and {key}: {cause}")]
    Unusable { path: PathBuf, key: PathBuf, cause: rustls::Error },
}

/// The certificate and key in force, and where they come from.
#[derive(Debug)]
pub struct Certificates {
    files: Tls,
    in_force: RwLock<Arc<CertifiedKey>>,
}

impl Certificates {
    pub fn read(files: Tls) -> Result<Self, CertificateError> {
        let in_force = RwLock::new(Arc::new(read(&files)?));
        Ok(Self { files, in_force })
    }

    /// Reads the files again. Where they cannot be used, what was in force stays.
    pub fn reload(&self) {
        match read(&self.files) {
            Ok(key) => {
                *self.in_force.write() = Arc::new(key);
                tracing::info!(cert = %self.files.cert.display(), "certificate read again");
            }
            Err(e) => tracing::error!(error = %e, "the certificate in force stays"),
        }
    }

    /// Reads the files again whenever they change. Does not return.
    pub async fn follow(&self) {
        let mut seen = self.changed_at();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.changed_at();
            if now != seen {
                seen = now;
                self.reload();
            }
        }
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        [&self.files.cert, &self.files.key]
            .map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_force.read().clone())
    }
}

fn read(files: &Tls) -> Result<CertifiedKey, CertificateError> {
    let path = files.cert.clone();
    let certificates = CertificateDer::pem_file_iter(&path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| CertificateError::File { path: path.clone(), cause })?;
    if certificates.is_empty() {
        return Err(CertificateError::Empty { path });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|cause| CertificateError::File { path: files.key.clone(), cause })?;
    CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider())
        .map_err(|cause| CertificateError::Unusable { path, key: files.key.clone(), cause })
}

/// TLS 1.2 and 1.3. The server names `http/1.1` as the only protocol itself: it is built without
/// HTTP/2.
pub fn config(certificates: Arc<Certificates>) -> io::Result<rustls::ServerConfig> {
    Ok(rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificates))
}
