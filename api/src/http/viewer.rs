//! The web viewer and GraphiQL, embedded in the binary as Vite built them.

use actix_web::http::Method;
use actix_web::http::header::{self, ETag, EntityTag, Header, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "../web/dist"]
struct Dist;

const INDEX: &str = "index.html";
const GRAPHIQL: &str = "graphiql.html";
/// Vite puts a hash of their content into the names of what is in here.
const HASHED: &str = "assets/";

/// hls.js plays from blobs and works in a worker made from one.
const POLICY: &str = "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; \
                      img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; \
                      frame-ancestors 'none'; form-action 'self'";
/// GraphiQL's editor writes its styles into the page and brings its fonts along.
const GRAPHIQL_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
                               font-src 'self' data:; worker-src 'self' blob:; \
                               img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                               frame-ancestors 'none'; form-action 'self'";

const LEFT_OUT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Lookback</title>\
    <h1>The viewer was left out of this build</h1>\
    <p>The service runs. To have its viewer, install Node 20 and npm, run <code>npm ci</code> and \
    <code>npm run build</code> in <code>web</code>, and build the server again.";

/// A file of the viewer; for other paths that a browser opens, the viewer itself, which knows its
/// own screens.
pub async fn page(request: HttpRequest) -> HttpResponse {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_found();
    }
    let path = request.path().trim_start_matches('/');
    if let Some(file) = Dist::get(path) {
        return answer(&request, path, &file);
    }
    if !is_screen(&request) {
        return not_found();
    }
    html(&request, INDEX)
}

/// `GET /graphiql`
pub async fn graphiql(request: HttpRequest) -> HttpResponse {
    html(&request, GRAPHIQL)
}

fn html(request: &HttpRequest, name: &str) -> HttpResponse {
    match Dist::get(name) {
        Some(file) => answer(request, name, &file),
        None => HttpResponse::NotFound()
            .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body(LEFT_OUT),
    }
}

/// Whether a browser opens a page here, rather than a client that mistook a path.
fn is_screen(request: &HttpRequest) -> bool {
    let path = request.path();
    let machine = ["/auth/", "/graphql", "/hls/", "/dash/", "/mp4/", "/images/", "/.well-known/"];
    !machine.iter().any(|prefix| path.starts_with(prefix))
        && !path.rsplit('/').next().is_some_and(|name| name.contains('.'))
        && request.headers().get(header::ACCEPT).is_some_and(|accept| {
            accept.as_bytes().windows(9).any(|part| part.eq_ignore_ascii_case(b"text/html"))
        })
}

fn not_found() -> HttpResponse {
    HttpResponse::NotFound()
        .insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"))
        .body("not found\n")
}

fn answer(request: &HttpRequest, path: &str, file: &EmbeddedFile) -> HttpResponse {
    let hash = file.metadata.sha256_hash();
    let tag: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // Weak: the same page may travel compressed or not.
    let tag = EntityTag::new_weak(tag);
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Ok(IfNoneMatch::Any) | Err(_) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let kept =
        if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    response.insert_header(ETag(tag)).insert_header((header::CACHE_CONTROL, kept));
    if path.ends_with(".html") {
        let policy = if path == GRAPHIQL { GRAPHIQL_POLICY } else { POLICY };
        response.insert_header((header::CONTENT_SECURITY_POLICY, policy));
    }
    if known {
        return response.finish();
    }
    let media_type = mime_guess::from_path(path).first_or_octet_stream();
    let media_type = match media_type.type_() {
        mime_guess::mime::TEXT => format!("{media_type}; charset=utf-8"),
        _ => media_type.to_string(),
    };
    response.insert_header((header::CONTENT_TYPE, media_type)).body(file.data.to_vec())
}
