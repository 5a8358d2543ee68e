//! Every route of the service, on one screen, and what all of them have in common.

pub mod auth;
mod body;
pub mod caller;
mod edge;
mod graphql;
mod health;
mod ipc_video_metadata;
mod kinesis;
mod media;
mod oidc;
mod putmedia;
mod tls;
mod viewer;

use crate::service::Service;
pub use actix_web::dev::{Server, ServerHandle};
use actix_web::http::Method;
use actix_web::web::{self, Data, ServiceConfig, get, post, put};
use actix_web::{App, HttpServer, guard, middleware};
use rustix::net::sockopt::set_tcp_user_timeout;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

pub use tls::{CertificateError, Certificates};

/// Request heads come at once; who takes longer than this holds a place for nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the pause between two requests of a player.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// What is left of the 10 s that a stop may take is for closing the store.
const GRACE_S: u64 = 6;

/// `is_archive` is whether this service keeps media itself, and speaks the API of Kinesis Video
/// Streams then.
fn routes(routes: &mut ServiceConfig, is_archive: bool) {
    routes
        .service(
            web::scope("/auth")
                .wrap(middleware::from_fn(edge::cors))
                .route("/login", post().to(auth::login))
                .route("/refresh", post().to(auth::refresh))
                .route("/logout", post().to(auth::logout))
                .route("/issuers", get().to(oidc::issuers))
                .route("/oidc/{issuer}/start", get().to(oidc::start))
                .route("/oidc/{issuer}/callback", get().to(oidc::callback)),
        )
        .service(
            web::resource("/graphql")
                .wrap(middleware::from_fn(edge::cors))
                .route(
                    get()
                        .guard(guard::fn_guard(graphql::socket::is_asked_for))
                        .to(graphql::socket::open),
                )
                .route(get().to(graphql::get))
                .route(post().to(graphql::post))
                .default_service(web::to(graphql::other)),
        )
        .service(
            web::resource("/ipc-video-metadata")
                .route(get().to(ipc_video_metadata::get))
                .route(put().to(ipc_video_metadata::put))
                .default_service(web::to(ipc_video_metadata::other)),
        )
        .route("/.well-known/jwks.json", get().to(auth::jwks))
        // `/{token}/{file}`: matched as a pattern, a token costs more than what is served under it.
        .service(web::scope("/hls/v1/s").default_service(web::to(media::hls::serve)))
        .service(
            web::resource("/images/v1/s/{token}/{file}")
                .route(get().to(media::image::serve))
                .route(web::head().to(media::image::serve))
                .route(web::method(Method::OPTIONS).to(media::preflight)),
        )
        .service(
            web::resource("/mp4/v1/s/{token}/{file}")
                .route(get().to(media::mp4::serve))
                .route(web::head().to(media::mp4::serve))
                .route(web::method(Method::OPTIONS).to(media::preflight)),
        )
        .service(
            web::resource("/dash/v1/s/{token}/{file}")
                .route(get().to(media::dash::serve))
                .route(web::head().to(media::dash::serve))
                .route(web::method(Method::OPTIONS).to(media::preflight)),
        )
        .service(
            web::resource(["/hls/v1/{file}", "/dash/v1/{file}"])
                .guard(guard::fn_guard(move |_| is_archive))
                .route(get().to(media::kinesis::serve))
                .route(web::head().to(media::kinesis::serve))
                .route(web::method(Method::OPTIONS).to(media::preflight)),
        )
        .route("/livez", get().to(health::livez))
        .route("/readyz", get().to(health::readyz))
        .route("/metrics", get().to(health::metrics))
        .service(
            web::scope("")
                .guard(guard::Post())
                .guard(guard::fn_guard(move |_| is_archive))
                .wrap(middleware::from_fn(kinesis::identify))
                .route("/createStream", post().to(kinesis::create_stream))
                .route("/describeStream", post().to(kinesis::describe_stream))
                .route("/listStreams", post().to(kinesis::list_streams))
                .route("/updateStream", post().to(kinesis::update_stream))
                .route("/updateDataRetention", post().to(kinesis::update_data_retention))
                .route("/deleteStream", post().to(kinesis::delete_stream))
                .route("/getDataEndpoint", post().to(kinesis::get_data_endpoint))
                .route("/getMedia", post().to(kinesis::get_media))
                .route("/listFragments", post().to(kinesis::list_fragments))
                .route("/getMediaForFragmentList", post().to(kinesis::get_media_for_fragment_list))
                .route(
                    "/getHLSStreamingSessionURL",
                    post().to(kinesis::get_hls_streaming_session_url),
                )
                .route(
                    "/getDASHStreamingSessionURL",
                    post().to(kinesis::get_dash_streaming_session_url),
                )
                .route("/getClip", post().to(kinesis::get_clip))
                .route("/getImages", post().to(kinesis::get_images))
                .route("/tagStream", post().to(kinesis::tag_stream))
                .route("/untagStream", post().to(kinesis::untag_stream))
                .route("/listTagsForStream", post().to(kinesis::list_tags_for_stream))
                .route("/TagResource", post().to(kinesis::tag_resource))
                .route("/UntagResource", post().to(kinesis::untag_resource))
                .route("/ListTagsForResource", post().to(kinesis::list_tags_for_resource))
                .route(
                    "/describeImageGenerationConfiguration",
                    post().to(kinesis::describe_image_generation),
                )
                .route(
                    "/updateImageGenerationConfiguration",
                    post().to(kinesis::update_image_generation),
                )
                .route(
                    "/describeNotificationConfiguration",
                    post().to(kinesis::describe_notification),
                )
                .route("/updateNotificationConfiguration", post().to(kinesis::update_notification))
                .route(
                    "/describeStreamStorageConfiguration",
                    post().to(kinesis::describe_stream_storage),
                )
                .route(
                    "/updateStreamStorageConfiguration",
                    post().to(kinesis::update_stream_storage),
                )
                .service(
                    web::resource(kinesis::UNSUPPORTED)
                        .route(post().to(kinesis::unsupported_operation)),
                )
                .route("/putMedia", post().to(putmedia::put_media))
                .default_service(web::to(kinesis::unknown_operation)),
        )
        .service(
            web::scope("")
                .wrap(middleware::Compress::default())
                .route("/graphiql", get().to(viewer::graphiql))
                .default_service(web::to(viewer::page)),
        );
}

/// Serves on `listener` until it is stopped through its handle; HTTP/1.1 only, since PutMedia
/// needs its chunks one by one.
pub fn serve(
    service: Arc<Service>,
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
) -> io::Result<Server> {
    let workers = service.config.workers;
    let is_archive = service.storage.local().is_ok();
    // Linux hands it on to every connection. The HTTP server has no such timeout: whoever asked, then
    // read nothing and never closed would hold its connection and what is buffered there for good.
    let unread_ms = service.config.limits.unread_seconds.saturating_mul(1_000);
    set_tcp_user_timeout(&listener, unread_ms)?;
    let data = Data::new(service);
    let store = Data::new(health::Store::default());
    let mut server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .app_data(store.clone())
            .configure(|config| routes(config, is_archive))
            .wrap(middleware::from_fn(edge::end_unread_uploads))
            .wrap(edge::security_headers())
            .wrap(middleware::from_fn(edge::record))
    })
    .client_request_timeout(HEAD_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    // Whoever closes its side has left; one that waits for media that is still to come is noticed.
    .h1_allow_half_closed(false)
    // An acknowledgement is a packet of its own; waiting to fill one costs 40 ms each.
    .tcp_nodelay(true)
    .shutdown_timeout(GRACE_S)
    .disable_signals();
    if let Some(workers) = workers {
        server = server.workers(workers);
    }
    let server = match certificates {
        Some(certificates) => server.listen_rustls_0_23(listener, tls::config(certificates)?)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}
