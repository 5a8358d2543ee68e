//! The GraphQL schema: one file per type, besides what all of them share. Resolvers decide nothing
//! about access and know no backend; what is exported is spelled as in `schema.graphql`.

pub mod asked;
pub mod audit;
pub mod calendar;
pub mod change_plan;
pub mod clip;
pub mod coverage;
pub mod credential;
pub mod delete_footage;
pub mod device;
pub mod document;
pub mod event;
pub mod execute;
pub mod fault;
pub mod heartbeat;
pub mod hold;
pub mod image;
pub mod ingest;
pub mod ingest_events;
pub mod loader;
pub mod mark_events_seen;
pub mod mutation;
pub mod node;
pub mod pagination;
pub mod plan;
pub mod playback;
pub mod query;
pub mod register;
pub mod scalar;
pub mod segment;
pub mod service;
pub mod share;
pub mod stream;
pub mod subscriber;
pub mod subscription;
pub mod time_range;
pub mod update_device;
pub mod update_user;
pub mod upload_grant;
pub mod usage;
pub mod user;
pub mod user_error;
pub mod viewer;
pub mod webhook;

use async_graphql::SDLExportOptions;
use mutation::Mutation;
use query::Query;
use std::sync::LazyLock;
use subscription::Subscription;

pub use asked::Asked;
pub use execute::{Outcome, Prepared, Request, execute, prepare, subscribe};
pub use subscriber::{End, Subscriber};

pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// The schema; one serves every request, since what belongs to a request comes along with it.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    // Depth, cost and aliases are measured in `document`, before validation has to go through them.
    Schema::build(Query, Mutation, Subscription).finish()
});

/// The schema as a document, sorted.
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items()
        .prefer_single_line_descriptions()
        .include_specified_by()
        .use_space_ident();
    SCHEMA.sdl_with_options(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::parser::parse_schema;
    use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};

    /// A schema's definitions without positions, their members and themselves sorted.
    fn sorted(text: &str) -> Vec<String> {
        let mut definitions: Vec<String> = parse_schema(text)
            .unwrap()
            .definitions
            .into_iter()
            .map(|mut definition| {
                if let TypeSystemDefinition::Type(definition) = &mut definition {
                    match &mut definition.node.kind {
                        TypeKind::Object(object) => {
                            object.fields.sort_by_key(|field| field.node.name.to_string());
                            object.implements.sort_by_key(ToString::to_string);
                        }
                        TypeKind::Interface(interface) => {
                            interface.fields.sort_by_key(|field| field.node.name.to_string());
                        }
                        TypeKind::Union(union) => union.members.sort_by_key(ToString::to_string),
                        TypeKind::Enum(values) => {
                            values.values.sort_by_key(|value| value.node.value.to_string());
                        }
                        TypeKind::InputObject(input) => {
                            input.fields.sort_by_key(|field| field.node.name.to_string());
                        }
                        TypeKind::Scalar => {}
                    }
                }
                let shown = format!("{definition:?}");
                let mut parts = shown.split("Pos(");
                let first = parts.next().unwrap_or_default().to_owned();
                parts.fold(first, |text, part| text + part.split_once(')').unwrap().1)
            })
            .collect();
        definitions.sort();
        definitions
    }

    #[test]
    fn the_contract_at_the_root_is_what_is_exported() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../schema.graphql");
        let contract = sorted(&std::fs::read_to_string(path).unwrap());
        let exported = sorted(&sdl());
        for definition in &exported {
            assert!(contract.contains(definition), "write schema.graphql anew: {definition}");
        }
        assert_eq!(contract.len(), exported.len(), "write schema.graphql anew");
    }
}

/// A field that fails does so alone. Every type is asked for field by field without the request
/// that resolvers need, so that each one which needs it fails.
#[cfg(test)]
mod failing_alone {
    use super::fault::Maybe;
    use super::*;
    use crate::access::{Principal, Subject};
    use crate::segment::{SegmentId, TimeRange};
    use crate::{
        access, account, device as devices, event as events, id, keeping, playback as playing,
        segment as segments, webhook as webhooks,
    };
    use async_graphql::{EmptyMutation, EmptySubscription, Object};
    use lookback_wire::Timestamp;
    use serde_json::{Value, json};

    const AT: Timestamp = Timestamp::from_millis(1_763_803_800_000);
    const RANGE: TimeRange = TimeRange { start: AT, end: AT.plus_millis(20_000) };

    /// One object of each type that has fields which may fail.
    struct Objects {
        stream: devices::Stream,
        device: devices::Device,
        segment: segments::Segment,
    }

    impl Objects {
        fn new() -> Self {
            let device = devices::Device {
                id: id::DeviceId::new(AT),
                account: id::AccountId::new(AT),
                external_id: "cam".into(),
                name: "Cam".into(),
                model: None,
                firmware_version: None,
                state: devices::DeviceState::Active,
                time_zone: "UTC".into(),
                plan: id::PlanId::new(AT),
                created_at: AT,
                last_seen_at: None,
                clock_skew_ms: None,
            };
            let stream = devices::Stream {
                id: id::StreamId::new(AT),
                device: device.id,
                account: device.account,
                name: "main".into(),
                position: 0,
                media_stream_name: "cam-main".into(),
                created_at: AT,
            };
            let segment = segments::Segment {
                id: SegmentId { stream: stream.id, window: 0, key: 0 },
                client_segment_id: "a".into(),
                range: RANGE,
                ingested_at: AT,
                trigger: segments::RecordingTrigger::Continuous,
                codecs: None,
                width: None,
                height: None,
                size_bytes: None,
            };
            Self { stream, device, segment }
        }
    }

    #[Object]
    impl Objects {
        async fn query(&self) -> Maybe<Query> {
            Some(Ok(Query))
        }

        async fn viewer(&self) -> Maybe<viewer::Viewer> {
            let principal = Principal {
                subject: Subject::User(id::UserId::new(AT)),
                account: self.device.account,
                role: account::Role::Admin,
                shares: Vec::new(),
                expires_at: AT,
            };
            Some(Ok(viewer::Viewer(principal)))
        }

        async fn device(&self) -> Maybe<device::Device> {
            Some(Ok(device::Device(self.device.clone())))
        }

        async fn stream(&self) -> Maybe<stream::Stream> {
            Some(Ok(stream::Stream(self.stream.clone())))
        }

        async fn segment(&self) -> Maybe<segment::Segment> {
            Some(Ok(segment::Segment(self.segment.clone())))
        }

        async fn hold(&self) -> Maybe<hold::Hold> {
            let hold = keeping::Hold {
                id: id::HoldId::new(AT),
                stream: self.stream.id,
                range: RANGE,
                reason: None,
                until: None,
                created_at: AT,
            };
            Some(Ok(hold::Hold(hold)))
        }

        async fn event(&self) -> Maybe<event::Event> {
            let event = events::Event {
                id: events::EventId { device: self.device.id, window: 0, key: 0 },
                client_event_id: "a".into(),
                event_type: events::EventType::Motion,
                label: None,
                severity: events::EventSeverity::Notice,
                start: AT,
                end: None,
                confidence: None,
                attributes: None,
                picture: None,
                ingested_at: AT,
            };
            Some(Ok(event::Event(event)))
        }

        async fn user(&self) -> Maybe<user::User> {
            Some(Ok(user::User(account::User {
                id: id::UserId::new(AT),
                account: self.device.account,
                name: "ann".into(),
                display_name: "Ann".into(),
                role: account::Role::Member,
                password_hash: None,
                identity: None,
                time_zone: None,
                disabled: false,
                created_at: AT,
            })))
        }

        async fn webhook(&self) -> Maybe<webhook::Webhook> {
            Some(Ok(webhook::Webhook(webhooks::Webhook {
                id: id::WebhookId::new(AT),
                account: self.device.account,
                url: "https://receiver.example/".into(),
                types: None,
                min_severity: None,
                created_at: AT,
            })))
        }

        async fn share(&self) -> Maybe<share::DeviceShare> {
            Some(Ok(share::DeviceShare(access::Share {
                id: id::ShareId::new(AT),
                account: self.device.account,
                device: self.device.id,
                user: id::UserId::new(AT),
                role: access::DeviceRole::Viewer,
                expires_at: None,
                created_at: AT,
            })))
        }

        async fn clip(&self) -> Maybe<clip::Clip> {
            let clip =
                playing::timeline::Clip { range: RANGE, media_ms: 1, bytes: None, growing: false };
            Some(Ok(clip::Clip { stream: self.stream.clone(), clip, list: RANGE }))
        }

        async fn coverage(&self) -> Maybe<coverage::Coverage> {
            let coverage = playing::timeline::Coverage {
                range: RANGE,
                bucket_ms: 1000,
                covered_ms: Vec::new(),
                gaps: Some(vec![RANGE]),
            };
            Some(Ok(coverage::Coverage { stream: self.stream.clone(), coverage, max_gap_ms: 0 }))
        }
    }

    fn named(name: &str, list: &Value) -> Value {
        let all = list.as_array().unwrap();
        all.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    }

    /// The name of a type below its wrappers, and whether it is nullable.
    fn type_of(field: &Value) -> (String, bool) {
        let mut of = &field["type"];
        let nullable = of["kind"] != "NON_NULL";
        while of["ofType"].is_object() {
            of = &of["ofType"];
        }
        (of["name"].as_str().unwrap().to_owned(), nullable)
    }

    /// Something valid for each argument that is required.
    fn arguments(field: &Value) -> String {
        let required = |argument: &&Value| argument["type"]["kind"] == "NON_NULL";
        let value = |argument: &Value| match type_of(argument).0.as_str() {
            "ID" => "\"x\"",
            "TimeRangeInput" => "{start: \"2026-01-01T00:00:00Z\", end: \"2026-01-02T00:00:00Z\"}",
            "LocalDate" => "\"2026-01-01\"",
            "DeviceRef" => "{externalId: \"x\"}",
            "PlaybackSessionInput" => {
                "{streamId: \"x\", start: \"2026-01-01T00:00:00Z\", end: \"2026-01-02T00:00:00Z\"}"
            }
            other => panic!("no example of {other}"),
        };
        let all: Vec<String> = field["args"]
            .as_array()
            .unwrap()
            .iter()
            .filter(required)
            .map(|argument| format!("{}: {}", argument["name"].as_str().unwrap(), value(argument)))
            .collect();
        if all.is_empty() { String::new() } else { format!("({})", all.join(", ")) }
    }

    #[tokio::test]
    async fn every_field() {
        let schema = async_graphql::Schema::new(Objects::new(), EmptyMutation, EmptySubscription);
        let introspection = "{ __schema { types { name kind fields { name
            args { name type { kind name ofType { kind name ofType { kind name ofType { name } } } } }
            type { kind name ofType { kind name ofType { kind name ofType { name } } } } } } } }";
        let answer = schema.execute(introspection).await;
        let types = answer.data.into_json().unwrap()["__schema"]["types"].clone();
        let (mut failed_alone, mut failed_with_parent) = (0, 0);
        for object in named("Objects", &types)["fields"].as_array().unwrap() {
            let parent = object["name"].as_str().unwrap();
            let (type_name, _) = type_of(object);
            for field in named(&type_name, &types)["fields"].as_array().unwrap() {
                let name = field["name"].as_str().unwrap();
                let (inner, nullable) = type_of(field);
                let kind = named(&inner, &types)["kind"].clone();
                let leaf = kind == "SCALAR" || kind == "ENUM";
                let selection = if leaf { "" } else { "{ __typename }" };
                let query = format!(
                    "{{ {parent} {{ __typename {name}{} {selection} }} }}",
                    arguments(field)
                );
                let answer = schema.execute(query.as_str()).await;
                if answer.errors.is_empty() {
                    continue;
                }
                let data = answer.data.into_json().unwrap();
                let error = serde_json::to_value(&answer.errors).unwrap();
                assert_eq!(error[0]["extensions"]["code"], "INTERNAL", "{query}: {error}");
                assert_eq!(error[0]["path"], json!([parent, name]), "{query}: {error}");
                assert_eq!(error.as_array().unwrap().len(), 1, "{query}: {error}");
                if nullable {
                    let expected = json!({parent: {"__typename": type_name, name: null}});
                    assert_eq!(data, expected, "{query}");
                    failed_alone += 1;
                } else {
                    assert_eq!(data, json!({parent: null}), "{query}");
                    failed_with_parent += 1;
                }
            }
        }
        assert!(failed_alone > 15 && failed_with_parent > 5, "{failed_alone} {failed_with_parent}");
    }
}
