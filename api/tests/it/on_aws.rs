//! What the service does to Kinesis Video Streams when devices come, change and go, and what becomes
//! of it where Kinesis refuses: a server of ours in its place, and moto as DynamoDB and STS.

use crate::both_backends::OnAws;
use crate::camera::{self, Registered};
use crate::footage::{self, rfc3339};
use crate::front::{Front, Refusal};
use crate::sdk::{admin_keys, control_client};
use crate::server::{PATIENCE, Server};
use crate::signature::{self, Payload};
use aws_sdk_kinesisvideo::Client;
use aws_sdk_kinesisvideo::config::Credentials;
use aws_sdk_kinesisvideo::types::{ApiName, StreamInfo};
use lookback_wire::matroska::writer;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The service, Kinesis behind what may refuse, and a client that goes past it.
struct Setting {
    aws: OnAws,
    front: Front,
    control: Client,
    manager: String,
}

impl Setting {
    async fn new() -> Self {
        let kinesis = Server::start();
        let front = Front::start(&kinesis).await;
        let control = control_client(&kinesis, &admin_keys(&kinesis));
        let aws = OnAws::reaching(kinesis, &front.url, None);
        let manager = aws.server.token(&["--role", "admin"]);
        Self { aws, front, control, manager }
    }

    /// What a manager's operation answers.
    fn ask(&self, query: &str, variables: Value) -> Value {
        self.aws.server.graphql(Some(&self.manager), query, variables)
    }

    fn register(&self, input: Value) -> Value {
        let mut all = json!({"name": "Door", "timeZone": "UTC"});
        all.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
        let query = "mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) {
            device { id state streams { id name mediaStreamName } } credential { token }
            userErrors { code path } } }";
        self.ask(query, json!({"input": all}))
    }

    /// A camera that is registered.
    fn camera(&self, external_id: &str) -> Registered {
        let answer = self.register(json!({"externalId": external_id}));
        let made = &answer["data"]["registerDevice"];
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        Registered {
            device: text(&made["device"]["id"]),
            stream: text(&made["device"]["streams"][0]["id"]),
            media_stream: text(&made["device"]["streams"][0]["mediaStreamName"]),
            token: text(&made["credential"]["token"]),
        }
    }

    /// How the video stream is kept, where there is one.
    async fn kept(&self, name: &str) -> Option<StreamInfo> {
        let described = self.control.describe_stream().stream_name(name).send().await;
        match described {
            Ok(described) => described.stream_info,
            Err(error) => {
                assert!(error.into_service_error().is_resource_not_found_exception(), "{name}");
                None
            }
        }
    }

    async fn hours(&self, name: &str) -> Option<i32> {
        self.kept(name).await?.data_retention_in_hours()
    }
}

/// That the backend did not do it, and that it may be tried again.
fn check_unavailable(answer: &Value) {
    let error = &answer["errors"][0];
    assert_eq!(error["extensions"]["code"], "BACKEND_UNAVAILABLE", "{answer}");
    assert!(error["message"].as_str().unwrap().contains("try again"), "{answer}");
    assert!(error["extensions"]["traceId"].is_string(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_kinesis_refuses_can_be_made_again() {
    let setting = Setting::new().await;
    let in_service = || {
        let listed = setting.ask("{ devices { nodes { externalId } } }", Value::Null);
        listed["data"]["devices"]["nodes"].as_array().unwrap().len()
    };
    let table = [
        ("createStream", 0..99, Refusal::Throttled, Some("key")),
        // The main stream is made, the other one not.
        ("createStream", 1..99, Refusal::NotAuthorized, Some("key")),
        ("createStream", 1..99, Refusal::NotAuthorized, None),
        ("describeStream", 0..99, Refusal::ServerError, None),
    ];
    for (n, (operation, places, refusal, key)) in table.into_iter().enumerate() {
        let what = format!("{operation} {places:?} {refusal:?} {key:?}");
        setting.front.refuse(operation, places, refusal);
        let input = json!({
            "externalId": format!("SN-{n}"),
            "streams": ["main", "sub"],
            "idempotencyKey": key.map(|key| format!("{key}-{n}")),
        });
        let refused = setting.register(input.clone());
        check_unavailable(&refused);
        assert!(refused["data"]["registerDevice"].is_null(), "{what}: {refused}");
        assert_eq!(in_service(), n, "{what}");

        setting.front.allow();
        let made = setting.register(input.clone());
        let made = &made["data"]["registerDevice"];
        assert_eq!(made["userErrors"], json!([]), "{what}");
        assert_eq!(made["device"]["state"], "PROVISIONED", "{what}");
        assert_eq!(in_service(), n + 1, "{what}");
        for stream in made["device"]["streams"].as_array().unwrap() {
            let name = stream["mediaStreamName"].as_str().unwrap();
            assert_eq!(setting.hours(name).await, Some(7 * 24), "{what}");
        }
        let grant = "mutation { createUploadGrant(input: {}) { grant { sessionToken } } }";
        let token = made["credential"]["token"].as_str();
        let granted = setting.aws.server.graphql(token, grant, Value::Null);
        let granted = &granted["data"]["createUploadGrant"]["grant"];
        assert!(granted["sessionToken"].is_string(), "{what}: {granted}");
        // Once it is done, only the key does it again.
        let again = setting.register(input);
        let refused = &again["data"]["registerDevice"]["userErrors"][0]["code"];
        assert_eq!(refused.as_str(), if key.is_some() { None } else { Some("TAKEN") }, "{again}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_stream_of_somebody_else_is_in_nobodys_way() {
    let setting = Setting::new().await;
    let others = setting.control.create_stream().stream_name("shared");
    let others = others.data_retention_in_hours(5).tags("lookback:stream", "str_of_somebody");
    others.send().await.unwrap();
    let with = |names: Value| {
        let streams = ["main", "sub"];
        let input = json!({"externalId": "SN-1", "streams": streams, "mediaStreamNames": names});
        setting.register(input)["data"]["registerDevice"].clone()
    };
    for _ in 0..2 {
        let refused = with(json!(["own", "shared"]));
        let mistake = json!([{"code": "TAKEN", "path": ["input", "mediaStreamNames"]}]);
        assert_eq!(refused["userErrors"], mistake, "{refused}");
        assert!(refused["device"].is_null() && refused["credential"].is_null(), "{refused}");
    }
    assert_eq!(setting.hours("shared").await, Some(5));
    let listed = setting.ask("{ devices { nodes { externalId } } }", Value::Null);
    assert_eq!(listed["data"]["devices"]["nodes"], json!([]));
    let made = with(json!(["own", "other"]));
    assert_eq!(made["userErrors"], json!([]), "{made}");
    let names: Vec<_> = made["device"]["streams"].as_array().unwrap().iter().collect();
    let names: Vec<_> = names.iter().map(|stream| &stream["mediaStreamName"]).collect();
    assert_eq!(names, ["own", "other"]);
    for name in ["own", "other"] {
        assert_eq!(setting.hours(name).await, Some(7 * 24), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plan_is_told_to_kinesis() {
    let setting = Setting::new().await;
    let camera = setting.camera("SN-1");
    let plan = |days: u32| {
        let query = "mutation($days: Int!) { createRetentionPlan(input: { name: \"A plan\",
            days: $days }) { plan { id } userErrors { message } } }";
        setting.ask(query, json!({"days": days}))["data"]["createRetentionPlan"]["plan"]["id"]
            .clone()
    };
    let (month, year) = (plan(30), plan(365));
    let change = |plan: &Value| {
        let query = "mutation($id: ID!, $plan: ID!) { updateDevice(input: { id: $id,
            retentionPlanId: $plan }) { device { retentionPlan { days } } userErrors { code } } }";
        setting.ask(query, json!({"id": camera.device, "plan": plan}))
    };
    let days =
        |answer: &Value| answer["data"]["updateDevice"]["device"]["retentionPlan"]["days"].as_i64();
    // The first sweep may tell it at the same time.
    let was_told = || {
        let seen = setting.front.seen("updateDataRetention");
        setting.front.allow();
        seen > 0
    };
    was_told();
    assert_eq!(days(&change(&month)), Some(30));
    assert_eq!((setting.hours(&camera.media_stream).await, was_told()), (Some(30 * 24), true));
    assert_eq!(days(&change(&month)), Some(30));
    assert_eq!((setting.hours(&camera.media_stream).await, was_told()), (Some(30 * 24), false));

    setting.front.refuse("updateDataRetention", 0..99, Refusal::Throttled);
    check_unavailable(&change(&year));
    assert_eq!(setting.hours(&camera.media_stream).await, Some(30 * 24));
    setting.front.allow();
    assert_eq!(days(&change(&year)), Some(365));
    assert_eq!((setting.hours(&camera.media_stream).await, was_told()), (Some(365 * 24), true));
    // What keeps less is in force a day later.
    assert_eq!(days(&change(&month)), Some(30));
    assert_eq!((setting.hours(&camera.media_stream).await, was_told()), (Some(365 * 24), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_devices_footage_goes_whatever_comes_in_between() {
    let mut setting = Setting::new().await;
    let start_ms = footage::an_hour_ago() / 1000 * 1000;
    let retire = "mutation($id: ID!) { retireDevice(input: { id: $id, deleteFootage: true }) {
        device { state } userErrors { code } } }";
    for (n, is_restarted) in [false, true].into_iter().enumerate() {
        let camera = setting.camera(&format!("SN-{n}"));
        let over_there =
            Registered { token: setting.aws.kinesis.token(&["--role", "admin"]), ..camera.clone() };
        footage::connection(setting.aws.kinesis.address, &over_there, |upload| {
            (0..3).try_for_each(|n| footage::persist(upload, start_ms + n * 800, n))
        })
        .unwrap();
        let announce = "mutation($input: IngestSegmentsInput!) { ingestSegments(input: $input) {
            results { status } } }";
        let (start, end) = (rfc3339(start_ms), rfc3339(start_ms + 2_400));
        let segment = json!({"clientSegmentId": "a", "start": start, "end": end});
        let input = json!({"input": {"sentAt": end, "segments": [segment]}});
        let announced = setting.aws.server.graphql(Some(&camera.token), announce, input);
        let status = &announced["data"]["ingestSegments"]["results"][0]["status"];
        assert_eq!(status, "STORED", "{announced}");
        let rows = |setting: &Setting| {
            let query = "query($ref: DeviceRef!, $range: TimeRangeInput!) { device(ref: $ref) {
                state stream { clips(range: $range) { nodes { range { start } } }
                  segments(range: $range) { nodes { trigger } } } } }";
            let range = json!({"start": start, "end": end});
            let found = setting.ask(query, json!({"ref": {"id": camera.device}, "range": range}));
            let device = &found["data"]["device"];
            let nodes = |of: &str| device["stream"][of]["nodes"].as_array();
            let count = |of: &str| nodes(of).unwrap_or_else(|| panic!("{found}")).len();
            let state = device["state"].as_str().unwrap_or_else(|| panic!("{found}"));
            (state.to_owned(), count("clips"), count("segments"))
        };
        assert_eq!((rows(&setting).1, rows(&setting).2), (1, 1));

        setting.front.refuse("deleteStream", 0..99, Refusal::NotAuthorized);
        check_unavailable(&setting.ask(retire, json!({"id": camera.device})));
        assert!(setting.kept(&camera.media_stream).await.is_some());
        assert_eq!(rows(&setting).0, "RETIRED");
        setting.front.allow();
        if is_restarted {
            setting.aws = setting.aws.restarted();
            let begun = Instant::now();
            while setting.kept(&camera.media_stream).await.is_some() || rows(&setting).2 > 0 {
                assert!(begun.elapsed() < PATIENCE, "the footage is still there");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        } else {
            let retired = setting.ask(retire, json!({"id": camera.device}));
            assert_eq!(retired["data"]["retireDevice"]["device"]["state"], "RETIRED", "{retired}");
            assert!(setting.kept(&camera.media_stream).await.is_none());
        }
        assert_eq!(rows(&setting), ("RETIRED".to_owned(), 0, 0));
        // It comes again with a video stream that is as good as new.
        let again = setting.camera(&format!("SN-{n}"));
        assert_eq!((&again.device, &again.stream), (&camera.device, &camera.stream));
        assert_eq!(setting.hours(&again.media_stream).await, Some(7 * 24));
    }
}

/// What an STS knows: the keys that it gives out, and what it was asked for.
#[derive(Debug, Default)]
struct Sts {
    keys: (String, String),
    asked: Vec<String>,
}

/// An STS that gives out the keys of a server of ours with a session token to them; its address.
async fn sts(sts: Arc<Mutex<Sts>>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !String::from_utf8_lossy(&request).contains("DurationSeconds=900") {
                socket.read_buf(&mut request).await.unwrap();
            }
            let body = {
                let mut sts = sts.lock().unwrap();
                sts.asked.push(String::from_utf8(request).unwrap());
                let (id, secret) = &sts.keys;
                format!(
                    "<AssumeRoleResponse><AssumeRoleResult><Credentials>\
                     <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                     <SessionToken>a session</SessionToken>\
                     <Expiration>2099-11-22T10:00:00Z</Expiration>\
                     </Credentials></AssumeRoleResult></AssumeRoleResponse>"
                )
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n",
                body.len()
            );
            socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_uploads_with_what_it_was_granted() {
    let kinesis = Server::start();
    let known = Arc::<Mutex<Sts>>::default();
    let sts_url = sts(known.clone()).await;
    let kinesis_url = kinesis.url();
    let OnAws { server, kinesis, .. } = &OnAws::reaching(kinesis, &kinesis_url, Some(&sts_url));
    let camera = camera::register(server, "SN-1");
    // Over there, what opens the camera's stream and nothing else.
    let query = "{ devices { nodes { id streams { mediaStreamName } } } }";
    let listed = kinesis.graphql(Some(&kinesis.token(&["--role", "admin"])), query, Value::Null);
    let device = &listed["data"]["devices"]["nodes"][0];
    assert_eq!(device["streams"][0]["mediaStreamName"], camera.media_stream.as_str(), "{listed}");
    let (_, id, secret) = signature::access_key(kinesis, device["id"].as_str().unwrap());
    known.lock().unwrap().keys = (id, secret);

    let query = "mutation { createUploadGrant(input: { durationSeconds: 900 }) { grant { endpoint
        region accessKeyId secretAccessKey sessionToken streams { mediaStreamName } } } }";
    let granted = server.graphql(Some(&camera.token), query, Value::Null);
    let grant = &granted["data"]["createUploadGrant"]["grant"];
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{granted}")).to_owned();
    let (id, secret) = (text(&grant["accessKeyId"]), text(&grant["secretAccessKey"]));
    let (session, stream) = (text(&grant["sessionToken"]), camera.media_stream.as_str());
    assert_eq!(grant["streams"], json!([{"mediaStreamName": stream}]));
    {
        let asked = &known.lock().unwrap().asked;
        assert_eq!(asked.len(), 1);
        for part in [
            format!("RoleSessionName={}&", camera.device),
            "DurationSeconds=900".to_owned(),
            format!("%3Aus-east-1%3A123456789012%3Astream%2F{stream}%2F%2A"),
        ] {
            assert!(asked[0].contains(&part), "no {part} in {}", asked[0]);
        }
    }

    let credentials = Credentials::new(&id, &secret, Some(session.clone()), None, "grant");
    let config = control_client(kinesis, &(id.clone(), secret.clone())).config().to_builder();
    let config = config.endpoint_url(text(&grant["endpoint"])).credentials_provider(credentials);
    let control = Client::from_conf(config.build());
    let endpoint = control.get_data_endpoint().stream_name(stream).api_name(ApiName::PutMedia);
    let endpoint = endpoint.send().await.unwrap();
    let address = endpoint.data_endpoint().unwrap().strip_prefix("http://").unwrap();

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut sent = signature::put_media(stream);
    sent.set("x-amz-security-token", &session);
    let keys = (id.as_str(), secret.as_str());
    let sent = signature::signed_by(keys, now.as_secs(), sent, Payload::Nothing, false);
    let mut upload = camera::Upload::request(address.parse().unwrap(), &sent.head()).unwrap();
    assert_eq!(upload.status, 200, "{sent:?}");
    let at_ms = now.as_millis() as u64 - 60_000;
    upload.send(&writer::header(&camera::header())).unwrap();
    footage::persist(&mut upload, at_ms, 1).unwrap();
    upload.finish().unwrap();

    let query = "query($input: PlaybackSessionInput!) { playbackSession(input: $input) {
        ... on PlaybackSession { url range { start } } ... on MediaUnavailable { code } } }";
    let (start, end) = (rfc3339(at_ms), rfc3339(at_ms + 800));
    let input = json!({"input": {"streamId": camera.stream, "start": start, "end": end}});
    let viewer = server.token(&["--role", "viewer"]);
    let session = server.graphql(Some(&viewer), query, input);
    let url = text(&session["data"]["playbackSession"]["url"]);
    let path = url.strip_prefix(&kinesis.url()).unwrap_or_else(|| panic!("{session}"));
    assert_eq!(kinesis.get(path, &[]).status, 200);
}
