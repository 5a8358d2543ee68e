//! The Kinesis API as the Rust SDK's clients call it.

use crate::camera::{self, Upload};
use crate::media::{Document, documents};
use crate::server::{PATIENCE, Server, lookback, outcome};
use aws_sdk_kinesisvideo::Client;
use aws_sdk_kinesisvideo::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_kinesisvideo::error::ProvideErrorMetadata;
use aws_sdk_kinesisvideo::types::{
    ApiName, ComparisonOperator, ConfigurationStatus, DefaultStorageTier,
    NotificationConfiguration, NotificationDestinationConfig, Status, StreamNameCondition,
    StreamStorageConfiguration, Tag, UpdateDataRetentionOperation,
};
use aws_sdk_kinesisvideoarchivedmedia::primitives::DateTime;
use aws_sdk_kinesisvideoarchivedmedia::types::{
    FragmentSelector, FragmentSelectorType, TimestampRange,
};
use aws_sdk_kinesisvideomedia::types::{StartSelector, StartSelectorType};
use bytes::Bytes;
use lookback_wire::matroska::writer;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

/// An admin's access key pair.
pub fn admin_keys(server: &Server) -> (String, String) {
    let printed =
        outcome(lookback().args(["access-key", "--data-dir"]).arg(server.data_dir())).stdout;
    let pair: Value = serde_json::from_slice(&printed).unwrap();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    (text("accessKeyId"), text("secretAccessKey"))
}

/// A client of the control plane.
pub fn control_client(server: &Server, (id, secret): &(String, String)) -> Client {
    let config = aws_sdk_kinesisvideo::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(server.url())
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// The same for what is archived.
pub fn archived_client(
    server: &Server,
    (id, secret): &(String, String),
) -> aws_sdk_kinesisvideoarchivedmedia::Client {
    let config = aws_sdk_kinesisvideoarchivedmedia::Config::builder()
        .behavior_version(aws_sdk_kinesisvideoarchivedmedia::config::BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(server.url())
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    aws_sdk_kinesisvideoarchivedmedia::Client::from_conf(config)
}

#[tokio::test]
async fn the_control_plane() {
    let server = Server::start();
    let client = control_client(&server, &admin_keys(&server));

    let created = client
        .create_stream()
        .stream_name("cam")
        .media_type("video/h264")
        .data_retention_in_hours(24)
        .tags("site", "lab")
        .send()
        .await
        .unwrap();
    let arn = created.stream_arn().unwrap();
    let again = client.create_stream().stream_name("cam").send().await.unwrap_err();
    assert!(again.into_service_error().is_resource_in_use_exception());

    let describe = async || {
        let described = client.describe_stream().stream_name("cam").send().await.unwrap();
        described.stream_info().unwrap().clone()
    };
    let first = describe().await;
    assert_eq!((first.stream_arn(), first.status()), (Some(arn), Some(&Status::Active)));
    assert_eq!(
        (first.media_type(), first.data_retention_in_hours()),
        (Some("video/h264"), Some(24))
    );
    assert!(first.creation_time().is_some());

    let update = async |version: &str| {
        client
            .update_data_retention()
            .stream_arn(arn)
            .current_version(version)
            .operation(UpdateDataRetentionOperation::DecreaseDataRetention)
            .data_retention_change_in_hours(4)
            .send()
            .await
    };
    let version = first.version().unwrap();
    update(version).await.unwrap();
    let stale = update(version).await.unwrap_err().into_service_error();
    assert!(stale.is_version_mismatch_exception(), "{stale:?}");
    let second = describe().await;
    assert_eq!(second.data_retention_in_hours(), Some(20));
    client
        .update_stream()
        .stream_name("cam")
        .current_version(second.version().unwrap())
        .device_name("door")
        .send()
        .await
        .unwrap();
    let third = describe().await;
    assert_eq!(third.device_name(), Some("door"));

    client.tag_stream().stream_name("cam").tags("a", "b").send().await.unwrap();
    let tag = Tag::builder().key("c").value("d").build().unwrap();
    client.tag_resource().resource_arn(arn).tags(tag).send().await.unwrap();
    client.untag_stream().stream_name("cam").tag_key_list("a").send().await.unwrap();
    let tags = client.list_tags_for_stream().stream_name("cam").send().await.unwrap();
    let mut tags: Vec<_> = tags.tags().unwrap().clone().into_iter().collect();
    tags.sort();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(tags, [pair("c", "d"), pair("site", "lab")]);

    let destination = NotificationDestinationConfig::builder().uri("arn:aws:sns:a").build();
    let notification = NotificationConfiguration::builder()
        .status(ConfigurationStatus::Enabled)
        .destination_config(destination.unwrap())
        .build()
        .unwrap();
    client
        .update_notification_configuration()
        .stream_name("cam")
        .notification_configuration(notification.clone())
        .send()
        .await
        .unwrap();
    let described = client.describe_notification_configuration().stream_arn(arn).send().await;
    assert_eq!(described.unwrap().notification_configuration(), Some(&notification));
    let warm = StreamStorageConfiguration::builder()
        .default_storage_tier(DefaultStorageTier::Warm)
        .build()
        .unwrap();
    client
        .update_stream_storage_configuration()
        .stream_name("cam")
        .current_version(describe().await.version().unwrap())
        .stream_storage_configuration(warm.clone())
        .send()
        .await
        .unwrap();
    let described = client.describe_stream_storage_configuration().stream_arn(arn).send().await;
    assert_eq!(described.unwrap().stream_storage_configuration(), Some(&warm));

    client.create_stream().stream_name("cam-2").send().await.unwrap();
    let condition = StreamNameCondition::builder()
        .comparison_operator(ComparisonOperator::BeginsWith)
        .comparison_value("cam")
        .build();
    let listed: Result<Vec<_>, _> = client
        .list_streams()
        .stream_name_condition(condition)
        .into_paginator()
        .page_size(1)
        .send()
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect();
    let names: Vec<_> = listed
        .unwrap()
        .iter()
        .flat_map(|page| page.stream_info_list())
        .filter_map(|info| info.stream_name().map(str::to_owned))
        .collect();
    assert_eq!(names, ["cam", "cam-2"]);

    let endpoint =
        client.get_data_endpoint().stream_name("cam").api_name(ApiName::GetClip).send().await;
    assert_eq!(endpoint.unwrap().data_endpoint(), Some(server.url().as_str()));
    let unsupported = client.list_signaling_channels().send().await.unwrap_err();
    assert_eq!(unsupported.code(), Some("UnsupportedOperationException"));

    client.delete_stream().stream_arn(arn).send().await.unwrap();
    let gone = client.describe_stream().stream_name("cam").send().await.unwrap_err();
    assert!(gone.into_service_error().is_resource_not_found_exception());
}

/// An upload of one fragment that stays open, and when the fragment begins.
fn upload(server: &Server, token: &str, media_stream: &str) -> (Upload, u64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let at_ms = now.as_millis() as u64 - 60_000;
    let mut upload = Upload::open(server.address, token, media_stream, &[]).unwrap();
    assert_eq!(upload.status, 200);
    upload.send(&writer::header(&camera::header())).unwrap();
    upload.send(&camera::fragment(at_ms, &camera::frames(at_ms, 20, 500))).unwrap();
    upload.send(&camera::end_of_fragment()).unwrap();
    upload.persisted(at_ms).unwrap();
    (upload, at_ms)
}

fn fragment_count(server: &Server, token: &str, media_stream: &str) -> usize {
    let bearer = format!("Bearer {token}");
    let ever = json!({ "StartTimestamp": 0, "EndTimestamp": 4_000_000_000u64 });
    let selector = json!({ "FragmentSelectorType": "SERVER_TIMESTAMP", "TimestampRange": ever });
    let input = json!({ "StreamName": media_stream, "FragmentSelector": selector });
    let answer = server.post_json("/listFragments", &[("authorization", &bearer)], &input);
    answer.json()["Fragments"].as_array().unwrap().len()
}

#[tokio::test]
async fn footage_goes_with_its_stream_to_the_device_that_adopts_it_or_away() {
    let server = Server::start();
    let admin = server.token(&["--role", "admin"]);
    let client = control_client(&server, &admin_keys(&server));
    let create = async |name: &str| {
        let create = client.create_stream().stream_name(name).data_retention_in_hours(24);
        create.send().await.unwrap().stream_arn().unwrap().to_owned()
    };
    create("adopted").await;
    drop(upload(&server, &admin, "adopted"));
    let query = "mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) {
        device { streams { mediaStreamName earliest } } userErrors { message } } }";
    let input = json!({"externalId": "adopted", "name": "Door", "timeZone": "UTC",
        "mediaStreamNames": ["adopted"]});
    let body = json!({"query": query, "variables": {"input": input}});
    let bearer = format!("Bearer {admin}");
    let answer = server.post_json("/graphql", &[("authorization", &bearer)], &body).json();
    let stream = &answer["data"]["registerDevice"]["device"]["streams"][0];
    assert_eq!(stream["mediaStreamName"], "adopted", "{answer}");
    assert!(stream["earliest"].is_string(), "{answer}");
    assert_eq!(fragment_count(&server, &admin, "adopted"), 1);

    let arn = create("deleted").await;
    let (mut open, mut at_ms) = upload(&server, &admin, "deleted");
    assert_eq!(fragment_count(&server, &admin, "deleted"), 1);
    client.delete_stream().stream_arn(arn).send().await.unwrap();
    let refused = Upload::open(server.address, &admin, "deleted", &[]).unwrap();
    assert_eq!(refused.status, 404);
    let begun = Instant::now();
    loop {
        at_ms += 1_000;
        let fragment = camera::fragment(at_ms, &camera::frames(at_ms, 20, 500));
        open.send(&[fragment, camera::end_of_fragment()].concat()).unwrap();
        if open.persisted(at_ms).is_err() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the upload goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    create("deleted").await;
    assert_eq!(fragment_count(&server, &admin, "deleted"), 0);
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let server = Server::start();
    let (id, _) = admin_keys(&server);
    let client = control_client(&server, &(id, "wrong".into()));
    let refused = client.list_streams().send().await.unwrap_err();
    assert_eq!(refused.code(), Some("InvalidSignatureException"));
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 403);
}

#[tokio::test]
async fn media_read_back() {
    let server = Server::start();
    let camera = camera::register(&server, "cam");
    let keys = admin_keys(&server);
    let start_ms = 1_700_000_000_000;
    let body = [
        writer::header(&camera::header()).to_vec(),
        camera::fragment(start_ms, &camera::frames(1, 20, 500)),
        camera::fragment(start_ms + 800, &camera::frames(2, 20, 500)),
        camera::end_of_fragment(),
    ];
    let (token, stream) = (&camera.token, &camera.media_stream);
    let mut upload = Upload::open(server.address, token, stream, &[]).unwrap();
    upload.send(&body.concat()).unwrap();
    upload.persisted(start_ms + 800).unwrap();

    let archived = archived_client(&server, &keys);
    let range = TimestampRange::builder()
        .start_timestamp(DateTime::from_secs(0))
        .end_timestamp(DateTime::from_secs(4_000_000_000))
        .build()
        .unwrap();
    let selector = FragmentSelector::builder()
        .fragment_selector_type(FragmentSelectorType::ServerTimestamp)
        .timestamp_range(range)
        .build()
        .unwrap();
    let pages: Vec<_> = archived
        .list_fragments()
        .stream_name(stream)
        .fragment_selector(selector)
        .into_paginator()
        .page_size(1)
        .send()
        .collect()
        .await;
    let numbers: Vec<String> = pages
        .into_iter()
        .flat_map(|page| page.unwrap().fragments().to_vec())
        .map(|fragment| fragment.fragment_number().unwrap().to_owned())
        .collect();
    assert_eq!(numbers.len(), 2);
    let answer = archived
        .get_media_for_fragment_list()
        .stream_name(stream)
        .set_fragments(Some(numbers.clone()))
        .send()
        .await
        .unwrap();
    let payload = answer.payload.collect().await.unwrap().into_bytes();
    let frames = |documents: Vec<Document>| -> Vec<Bytes> {
        let frames = documents.into_iter().flat_map(|document| document.frames);
        frames.map(|frame| frame.payload.to_bytes()).collect()
    };
    let sent = [camera::frames(1, 20, 500), camera::frames(2, 20, 500)].concat();
    assert_eq!(frames(documents(&payload)), sent);
    let unknown = archived.get_media_for_fragment_list().stream_name("none").fragments("1").send();
    assert!(unknown.await.unwrap_err().into_service_error().is_resource_not_found_exception());

    let media = aws_sdk_kinesisvideomedia::Config::builder()
        .behavior_version(aws_sdk_kinesisvideomedia::config::BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(server.url())
        .credentials_provider(Credentials::new(keys.0, keys.1, None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let media = aws_sdk_kinesisvideomedia::Client::from_conf(media);
    let start = StartSelector::builder().start_selector_type(StartSelectorType::Earliest);
    let mut answer = media
        .get_media()
        .stream_name(stream)
        .start_selector(start.build().unwrap())
        .send()
        .await
        .unwrap();
    // The answer goes on for as long as it is read.
    let mut payload = Vec::new();
    let last = b"AWS_KINESISVIDEO_CONTINUATION_TOKEN";
    while payload.windows(last.len()).filter(|window| window == last).count() < 2 {
        payload.extend(answer.payload.try_next().await.unwrap().unwrap());
    }
    assert_eq!(frames(documents(&payload)), sent);
}
