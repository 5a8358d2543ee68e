//! Trusted documents: GraphQL that the service knows beforehand, each by its hash. A client may send
//! the hash in place of the text, and where they are required, nothing else is run for it.

use crate::config;
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The operations of the viewer, as its generator lists them.
const VIEWER: &str = include_str!("../../web/src/graphql/documents.json");
/// Of a manifest's file; the viewer's operations have some 10 KiB.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// The SHA-256 of a document's text; `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DocumentId([u8; 32]);

impl DocumentId {
    pub fn of(text: &str) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(id)
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that names no document.
#[derive(Debug, thiserror::Error)]
#[error("it is not sha256: and 64 hexadecimal digits")]
pub struct NoDocumentId;

impl FromStr for DocumentId {
    type Err = NoDocumentId;

    fn from_str(text: &str) -> Result<Self, NoDocumentId> {
        let hex = text.strip_prefix("sha256:").ok_or(NoDocumentId)?;
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoDocumentId);
        }
        let mut id = [0; 32];
        for (byte, digits) in id.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = str::from_utf8(digits).map_err(|_| NoDocumentId)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NoDocumentId)?;
        }
        Ok(Self(id))
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{path}: {cause}")]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{0} has more than {MAX_MANIFEST_BYTES} bytes")]
    TooLong(PathBuf),
    #[error("{path}: {cause}")]
    Malformed { path: PathBuf, cause: serde_json::Error },
    #[error("{path}: {name:?} is not the hash of its document, {id}")]
    WrongHash { path: PathBuf, name: String, id: DocumentId },
}

/// The trusted documents.
#[derive(Debug, Default)]
pub struct Documents {
    texts: HashMap<DocumentId, String>,
    required: bool,
}

impl Documents {
    /// Knows the viewer's operations and those of the manifest: a JSON object of texts by their SHA-256, with or without `sha256:`, as
    /// GraphQL Code Generator writes it for persisted documents.
    pub fn open(documents: &config::Documents) -> Result<Self, ManifestError> {
        let mut texts = parse(VIEWER, Path::new("the viewer's operations"))?;
        if let Some(path) = &documents.manifest {
            texts.extend(read(path)?);
        }
        Ok(Self { texts, required: documents.required })
    }

    pub fn text(&self, id: DocumentId) -> Option<&str> {
        self.texts.get(&id).map(String::as_str)
    }

    /// Whether people who do not administer their account may run only these.
    pub fn are_required(&self) -> bool {
        self.required
    }
}

fn read(path: &Path) -> Result<HashMap<DocumentId, String>, ManifestError> {
    let unreadable = |cause| ManifestError::Unreadable { path: path.into(), cause };
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLong(path.into()));
    }
    let manifest = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&manifest, path)
}

fn parse(manifest: &str, path: &Path) -> Result<HashMap<DocumentId, String>, ManifestError> {
    let named: HashMap<String, String> = serde_json::from_str(manifest)
        .map_err(|cause| ManifestError::Malformed { path: path.into(), cause })?;
    let mut texts = HashMap::with_capacity(named.len());
    for (name, text) in named {
        let id = DocumentId::of(&text);
        let spelled = id.to_string();
        if name != spelled && spelled.strip_prefix("sha256:") != Some(name.as_str()) {
            return Err(ManifestError::WrongHash { path: path.into(), name, id });
        }
        texts.insert(id, text);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = "{ service { version } }";

    #[test]
    fn names_come_back() {
        let id = DocumentId::of("");
        let spelled = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(id.to_string(), spelled);
        for (text, known) in [
            (spelled.to_owned(), true),
            (spelled.to_uppercase().replace("SHA256", "sha256"), true),
            (spelled.replace("sha256:", ""), false),
            (spelled.replace("sha256:", "md5:"), false),
            (spelled.replace("e3b0", "e3b"), false),
            (spelled.replace("e3b0", "e3b+"), false),
            (String::new(), false),
        ] {
            assert_eq!(text.parse().ok(), known.then_some(id), "{text}");
        }
    }

    #[test]
    fn a_manifest_names_each_document_by_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("documents.json");
        let id = DocumentId::of(TEXT);
        let bare = id.to_string().replace("sha256:", "");
        for (manifest, readable) in [
            (json!({}).to_string(), true),
            (json!({id.to_string(): TEXT}).to_string(), true),
            (json!({bare: TEXT}).to_string(), true),
            (json!({id.to_string(): "{ viewer { id } }"}).to_string(), false),
            (json!({"a": TEXT}).to_string(), false),
            (json!([TEXT]).to_string(), false),
            (String::new(), false),
        ] {
            std::fs::write(&path, &manifest).unwrap();
            let config = config::Documents { manifest: Some(path.clone()), required: true };
            let opened = Documents::open(&config);
            assert_eq!(opened.is_ok(), readable, "{manifest}: {opened:?}");
            if let Ok(documents) = opened {
                let found = manifest.contains("version").then_some(TEXT);
                assert_eq!(documents.text(id), found, "{manifest}");
            }
        }
        let missing = config::Documents { manifest: Some(dir.path().into()), required: false };
        assert!(Documents::open(&missing).is_err());
    }
}
