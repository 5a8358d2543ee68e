//! Footage whose every byte is known by a number: sent fragment by fragment, and played back.

use crate::camera::{self, Registered, Upload};
use crate::server::Server;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

pub const FRAGMENT_MS: u64 = 800;
const FRAMES: usize = 20;
const FRAME_BYTES: usize = 2_000;

/// Where footage may begin that is all in the past, in milliseconds since the epoch.
pub fn an_hour_ago() -> u64 {
    now_ms() - 3_600_000
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

/// Opens an upload for `footage` and ends it.
pub fn connection(
    address: SocketAddr,
    camera: &Registered,
    footage: impl FnOnce(&mut Upload) -> io::Result<()>,
) -> io::Result<()> {
    let mut upload = Upload::open(address, &camera.token, &camera.media_stream, &[])?;
    if upload.status != 200 {
        return Err(io::Error::other(format!("status {}", upload.status)));
    }
    upload.send(&lookback_wire::matroska::writer::header(&camera::header()))?;
    footage(&mut upload)?;
    upload.finish()
}

/// Sends the fragment that `seed` stands for, and waits until it is PERSISTED.
pub fn persist(upload: &mut Upload, timecode_ms: u64, seed: u64) -> io::Result<()> {
    let frames = camera::frames(seed, FRAMES, FRAME_BYTES);
    upload.send(&camera::fragment(timecode_ms, &frames))?;
    upload.send(&camera::end_of_fragment())?;
    upload.persisted(timecode_ms)?;
    Ok(())
}

/// Whether a played fragment holds the frames that `seed` stands for, in their order, one chunk
/// after the other.
pub fn is_of(body: &[u8], seed: u64) -> bool {
    let mut rest = body;
    camera::frames(seed, FRAMES, FRAME_BYTES).iter().all(|frame| {
        let place = rest.windows(frame.len()).position(|window| window == &frame[..]);
        place.map(|place| rest = &rest[place + frame.len()..]).is_some()
    }) && rest.is_empty()
}

/// Everything of the last two hours that plays, by its start.
pub fn played(server: &Server, camera: &Registered) -> BTreeMap<u64, Vec<u8>> {
    let viewer = format!("Bearer {}", server.token(&["--role", "viewer"]));
    let answer = server
        .post_json(
            "/graphql",
            &[("authorization", &viewer)],
            &json!({
                "query": "query($input: PlaybackSessionInput!) { playbackSession(input: $input) {
                    ... on PlaybackSession { url } ... on MediaUnavailable { code } } }",
                "variables": {"input": {
                    "streamId": camera.stream,
                    "start": rfc3339(now_ms() - 7_200_000),
                    "end": rfc3339(now_ms()),
                }},
            }),
        )
        .json();
    let session = &answer["data"]["playbackSession"];
    let Some(url) = session["url"].as_str() else {
        assert_eq!(session["code"], "NO_MEDIA", "{answer}");
        return BTreeMap::new();
    };
    let folder = url.strip_prefix(&server.url()).unwrap().rsplit_once('/').unwrap().0;
    let playlist = server.get(&format!("{folder}/video.m3u8"), &[]);
    assert_eq!(playlist.status, 200, "{playlist:?}");
    let segments = playlist.text().lines().filter(|line| !line.starts_with('#'));
    segments
        .filter_map(|name| {
            let segment = server.get(&format!("{folder}/{name}"), &[]);
            let at = name.split('-').next().unwrap().parse().unwrap();
            (segment.status == 200).then_some((at, segment.body))
        })
        .collect()
}

/// An instant as the API takes it.
pub fn rfc3339(ms: u64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
