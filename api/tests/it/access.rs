//! No answer tells of what its caller may not see. Every field and mutation that takes an identifier
//! is found in the schema and asked by everybody for what there is and for what there is not: where
//! it is hidden from the caller, the two answers are the same. A new field joins by itself, and fails
//! the test while it is not said what its identifier names.

use crate::camera;
use crate::footage::rfc3339;
use crate::playback::now_ms;
use crate::server::{PATIENCE, Server};
use serde_json::{Value, json};
use std::time::Instant;

/// What an identifier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Device,
    ExternalId,
    Stream,
    Segment,
    Hold,
    Plan,
    Credential,
    Share,
    User,
    UserName,
    Event,
    Webhook,
}

/// Those that `node` finds, and their types.
const NODES: [(Kind, &str); 10] = [
    (Kind::Device, "Device"),
    (Kind::Stream, "Stream"),
    (Kind::Segment, "Segment"),
    (Kind::Hold, "Hold"),
    (Kind::Plan, "RetentionPlan"),
    (Kind::Credential, "DeviceCredential"),
    (Kind::Share, "DeviceShare"),
    (Kind::User, "User"),
    (Kind::Event, "Event"),
    (Kind::Webhook, "Webhook"),
];

/// What the identifier at the end of a path names.
fn kinds(path: &str) -> Vec<Kind> {
    let last = path.rsplit('.').next().unwrap();
    vec![match (path, last) {
        ("node.id" | "nodes.ids", _) => return NODES.map(|(kind, _)| kind).to_vec(),
        ("device.ref.id" | "updateDevice.input.id" | "retireDevice.input.id", _) => Kind::Device,
        ("updateRetentionPlan.input.id", _) => Kind::Plan,
        ("revokeDeviceCredential.id", _) => Kind::Credential,
        ("releaseHold.id", _) => Kind::Hold,
        ("revokeShare.id", _) => Kind::Share,
        ("updateUser.input.id" | "shareDevice.input.user.id", _) => Kind::User,
        ("shareDevice.input.user.name", _) => Kind::UserName,
        ("deleteWebhook.id" | "replayWebhook.input.id", _) => Kind::Webhook,
        (_, "externalId") => Kind::ExternalId,
        (_, "deviceId" | "deviceIds") => Kind::Device,
        (_, "streamId") => Kind::Stream,
        (_, "eventIds") => Kind::Event,
        (_, "retentionPlanId") => Kind::Plan,
        _ => panic!("say here what {path} names, so that it is tested who sees it"),
    }]
}

/// One of each kind, by its identifier.
type Objects = Vec<(Kind, String)>;

fn of(objects: &Objects, kind: Kind) -> &str {
    &objects.iter().find(|(known, _)| *known == kind).unwrap().1
}

/// Something of the same form that is not there.
fn ghost(kind: Kind, id: &str) -> String {
    match kind {
        Kind::ExternalId => "no-such-camera".into(),
        Kind::UserName => "nobody".into(),
        _ => format!("{}0000", &id[..id.len() - 4]),
    }
}

struct Caller {
    name: &'static str,
    token: Option<String>,
    /// What it may do to the objects of [`objects`], in the order of the kinds: Manage, View, or
    /// nothing for they do not exist for it.
    rights: &'static str,
    is_abroad: bool,
}

impl Caller {
    fn right(&self, kind: Kind) -> char {
        self.rights.chars().nth(kind as usize).unwrap()
    }
}

struct Fixture {
    server: Server,
    callers: Vec<Caller>,
    home: Objects,
    abroad: Objects,
}

fn ask(server: &Server, token: &str, query: &str, variables: Value) -> Value {
    let answer = server.graphql(Some(token), query, variables);
    assert!(answer["errors"].is_null(), "{answer}");
    answer["data"].clone()
}

/// A device of the account that `admin` administers, and all that belongs to it.
fn objects(
    server: &Server,
    admin: &str,
    external_id: &str,
    guest: (&str, &str),
) -> (Objects, String) {
    let register = "mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) {
        device { id streams { id } retentionPlan { id } }
        credential { token credential { id } } } }";
    let input = json!({"externalId": external_id, "name": external_id, "timeZone": "UTC"});
    let made = &ask(server, admin, register, json!({"input": input}))["registerDevice"];
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let device = text(&made["device"]["id"]);
    let stream = text(&made["device"]["streams"][0]["id"]);
    let token = text(&made["credential"]["token"]);
    let announce = "mutation($input: IngestSegmentsInput!) { ingestSegments(input: $input) {
        results { segment { id } } } }";
    let range = json!({"start": rfc3339(now_ms() - 60_000), "end": rfc3339(now_ms() - 40_000)});
    let mut segment = range.clone();
    segment["clientSegmentId"] = json!("a");
    let input = json!({"sentAt": rfc3339(now_ms()), "segments": [segment]});
    let announced = &ask(server, &token, announce, json!({"input": input}))["ingestSegments"];
    let report = "mutation($input: IngestEventsInput!) { ingestEvents(input: $input) {
        results { event { id } } } }";
    let event = json!({"clientEventId": "a", "type": "MOTION", "start": range["start"]});
    let input = json!({"sentAt": rfc3339(now_ms()), "events": [event]});
    let reported = &ask(server, &token, report, json!({"input": input}))["ingestEvents"];
    let hold = "mutation($input: PlaceHoldInput!) { placeHold(input: $input) { hold { id } } }";
    let input = json!({"streamId": stream, "range": range});
    let held = &ask(server, admin, hold, json!({"input": input}))["placeHold"];
    let create = "mutation($input: CreateWebhookInput!) { createWebhook(input: $input) {
        webhook { id } } }";
    // Nothing listens there, and nothing is due.
    let input = json!({"url": "https://receiver.invalid/", "types": ["TAMPER"]});
    let posted = &ask(server, admin, create, json!({"input": input}))["createWebhook"];
    let share = share(server, admin, &device, guest.0, "VIEWER", Value::Null);
    let objects = vec![
        (Kind::Device, device),
        (Kind::ExternalId, external_id.to_owned()),
        (Kind::Stream, stream),
        (Kind::Segment, text(&announced["results"][0]["segment"]["id"])),
        (Kind::Hold, text(&held["hold"]["id"])),
        (Kind::Plan, text(&made["device"]["retentionPlan"]["id"])),
        (Kind::Credential, text(&made["credential"]["credential"]["id"])),
        (Kind::Share, share),
        (Kind::User, guest.1.to_owned()),
        (Kind::UserName, guest.0.to_owned()),
        (Kind::Event, text(&reported["results"][0]["event"]["id"])),
        (Kind::Webhook, text(&posted["webhook"]["id"])),
    ];
    (objects, token)
}

fn share(
    server: &Server,
    admin: &str,
    device: &str,
    user: &str,
    role: &str,
    expires_at: Value,
) -> String {
    let share = "mutation($input: ShareDeviceInput!) { shareDevice(input: $input) {
        share { id } } }";
    let input = json!({
        "deviceId": device, "user": {"name": user}, "role": role, "expiresAt": expires_at,
    });
    let given = &ask(server, admin, share, json!({"input": input}))["shareDevice"];
    given["share"]["id"].as_str().unwrap_or_else(|| panic!("{given}")).to_owned()
}

impl Fixture {
    fn new() -> Self {
        const PASSWORD: &str = "correct horse battery";
        let server = Server::start();
        let (admin, foreign) =
            (server.token(&["--role", "admin"]), ["--role", "admin", "--account", "elsewhere"]);
        let foreign_admin = server.token(&foreign);
        let far = server.add_user("far", PASSWORD, &["--role", "member", "--account", "elsewhere"]);
        let names = ["guest", "owner", "stranger", "left", "late"];
        let ids = names.map(|name| server.add_user(name, PASSWORD, &["--role", "member"]));
        let (home, itself) = objects(&server, &admin, "cam-at-home", ("guest", &ids[0]));
        let (abroad, _) = objects(&server, &foreign_admin, "cam-abroad", ("far", &far));
        let device = of(&home, Kind::Device);
        share(&server, &admin, device, "owner", "MANAGER", Value::Null);
        let revoked = share(&server, &admin, device, "left", "MANAGER", Value::Null);
        let revoke = "mutation($id: ID!) { revokeShare(id: $id) { revokedShareId } }";
        ask(&server, &admin, revoke, json!({"id": revoked}));
        let soon = json!(rfc3339(now_ms() + 1_000));
        share(&server, &admin, device, "late", "MANAGER", soon);
        let signed_in = |name: &str| {
            let typed = json!({"name": name, "password": PASSWORD});
            let login = server.post_json("/auth/login", &[], &typed).json();
            Some(login["accessToken"].as_str().unwrap().to_owned())
        };
        let other_camera = camera::register(&server, "other-cam").token;
        let script = |role| Some(server.token(&["--role", role]));
        let caller = |name, token, rights| Caller { name, token, rights, is_abroad: false };
        let callers = vec![
            //                         Device ExternalId Stream Segment Hold Plan Credential Share User UserName Event Webhook
            caller("anonymous", None, "------------"),
            Caller {
                is_abroad: true,
                ..caller("another account's admin", Some(foreign_admin), "------------")
            },
            caller("stranger", signed_in("stranger"), "-----V------"),
            caller("whose share was revoked", signed_in("left"), "-----V------"),
            caller("whose share expired", signed_in("late"), "-----V------"),
            caller("another camera", Some(other_camera), "-----V------"),
            caller("the camera itself", Some(itself), "VVVVVV----V-"),
            caller("viewer", script("viewer"), "VVVVVV----V-"),
            caller("guest", signed_in("guest"), "VVVVVV-VVVV-"),
            caller("owner", signed_in("owner"), "MMMMMVMMVVM-"),
            caller("manager", script("manager"), "MMMMMVMMVVM-"),
            caller("admin", Some(admin), "MMMMMMMMMMMM"),
        ];
        let fixture = Self { server, callers, home, abroad };
        let late = fixture.callers.iter().find(|c| c.name == "whose share expired").unwrap();
        let sees = "query($id: ID!) { node(id: $id) { id } }";
        let begun = Instant::now();
        let id = json!({"id": of(&fixture.home, Kind::Device)});
        while !fixture.server.graphql(late.token.as_deref(), sees, id.clone())["data"]["node"]
            .is_null()
        {
            assert!(begun.elapsed() < PATIENCE, "the share does not end");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        fixture
    }

    /// The answer to `question` about an identifier, with that identifier taken out.
    fn answer(&self, caller: &Caller, question: &Question, kind: Kind, id: &str) -> String {
        let own = if caller.is_abroad { &self.abroad } else { &self.home };
        let query = question.query(kind, id, own);
        let answer = self.server.graphql(caller.token.as_deref(), &query, json!({})).to_string();
        assert!(!answer.contains("\"INTERNAL\""), "{} of {query}: {answer}", caller.name);
        assert!(!answer.contains("GRAPHQL_"), "{query}: {answer}");
        answer.replace(id, "<id>")
    }

    /// Asks on everybody's behalf.
    fn check(&self, questions: &[Question]) {
        for question in questions {
            for kind in kinds(&question.path) {
                let real = of(&self.home, kind);
                for caller in &self.callers {
                    let right = caller.right(kind);
                    let case = format!("{} asks {} about {kind:?}", caller.name, question.path);
                    // Whoever sees an event may say so; plans and users are named beside what is changed.
                    let is_argument =
                        matches!(kind, Kind::Plan | Kind::User | Kind::UserName | Kind::Event);
                    if question.mutates && (right == 'M' || right == 'V' && is_argument) {
                        continue;
                    }
                    let found = self.answer(caller, question, kind, real);
                    for (hidden, secret) in &self.home {
                        let is_hidden = caller.right(*hidden) == '-' && *hidden != kind;
                        let leaks = is_hidden && found.contains(&format!("\"{secret}\""));
                        assert!(!leaks, "{case} and is told of {hidden:?}: {found}");
                    }
                    let not_there = self.answer(caller, question, kind, &ghost(kind, real));
                    match right {
                        '-' => assert_eq!(found, not_there, "{case}"),
                        _ if question.mutates => {
                            assert!(found.contains("\"FORBIDDEN\""), "{case}: {found}");
                        }
                        _ => assert_ne!(found, not_there, "{case}"),
                    }
                }
            }
        }
    }
}

/// A field at the root, and where one of its identifiers stands.
#[derive(Debug)]
struct Question {
    mutates: bool,
    /// The field and the way down to the identifier, with dots between.
    path: String,
    field: Value,
    types: std::rc::Rc<Types>,
}

impl Question {
    fn query(&self, kind: Kind, id: &str, own: &Objects) -> String {
        let name = self.field["name"].as_str().unwrap();
        let asked = (&self.path[..], id);
        let arguments: Vec<String> = self.field["args"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|arg| self.types.value(arg, name, asked, own))
            .collect();
        let node = NODES.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name);
        let selection = self.types.selection(&type_name(&self.field["type"]), node, 2);
        let operation = if self.mutates { "mutation" } else { "query" };
        format!("{operation} {{ {name}({}) {selection} }}", arguments.join(", "))
    }
}

#[derive(Debug)]
struct Types(Value);

/// The name of a type without its wrappers.
fn type_name(of: &Value) -> String {
    let mut of = of;
    while of["ofType"].is_object() {
        of = &of["ofType"];
    }
    of["name"].as_str().unwrap().to_owned()
}

fn is_list(of: &Value) -> bool {
    of["kind"] == "LIST" || of["ofType"].is_object() && is_list(&of["ofType"])
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Types {
    fn named(&self, name: &str) -> &Value {
        list(&self.0).find(|known| known["name"] == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Where identifiers stand at or below an argument: every `ID`, and whatever names one object.
    fn identifiers(&self, arg: &Value, path: &str, found: &mut Vec<String>) {
        let path = format!("{path}.{}", arg["name"].as_str().unwrap());
        let name = type_name(&arg["type"]);
        let inner = self.named(&name);
        if name == "ID" {
            found.push(path);
        } else if inner["kind"] == "INPUT_OBJECT" {
            for field in list(&inner["inputFields"]) {
                if inner["isOneOf"] == true && type_name(&field["type"]) == "String" {
                    found.push(format!("{path}.{}", field["name"].as_str().unwrap()));
                }
                self.identifiers(field, &path, found);
            }
        }
    }

    /// An argument, if it is required or leads to the identifier that is asked about.
    fn value(&self, arg: &Value, path: &str, asked: (&str, &str), own: &Objects) -> Option<String> {
        let name = arg["name"].as_str().unwrap();
        let path = format!("{path}.{name}");
        let leads = asked.0 == path || asked.0.starts_with(&format!("{path}."));
        let is_required = arg["type"]["kind"] == "NON_NULL" && arg["defaultValue"].is_null();
        if !leads && !is_required {
            return None;
        }
        let type_name = type_name(&arg["type"]);
        let inner = self.named(&type_name);
        let value = match (&type_name[..], inner["kind"].as_str().unwrap()) {
            _ if asked.0 == path => json!(asked.1).to_string(),
            ("ID", _) => json!(of(own, kinds(&path)[0])).to_string(),
            (_, "INPUT_OBJECT") if inner["isOneOf"] == true && !leads => {
                let first = &inner["inputFields"][0];
                let id_path = format!("{path}.{}", first["name"].as_str().unwrap());
                let id = of(own, kinds(&id_path)[0]);
                format!("{{{}: {}}}", first["name"].as_str().unwrap(), json!(id))
            }
            (_, "INPUT_OBJECT") => {
                let fields = list(&inner["inputFields"]);
                let fields: Vec<String> =
                    fields.filter_map(|field| self.value(field, &path, asked, own)).collect();
                format!("{{{}}}", fields.join(", "))
            }
            (_, "ENUM") => inner["enumValues"][0]["name"].as_str().unwrap().to_owned(),
            ("DateTime", _) if name == "end" => json!(rfc3339(now_ms() - 40_000)).to_string(),
            ("DateTime", _) => json!(rfc3339(now_ms() - 60_000)).to_string(),
            ("TimeZone", _) => "\"UTC\"".into(),
            ("String", _) => "\"some text\"".into(),
            ("Int" | "Float", _) => "1".into(),
            ("Boolean", _) => "false".into(),
            (other, _) => panic!("no example of {other} for {path}"),
        };
        let optional = if type_name == "PlaybackSessionInput" {
            // What its mode requires.
            let (start, end) = (rfc3339(now_ms() - 60_000), rfc3339(now_ms() - 40_000));
            value.replacen('{', &format!("{{start: \"{start}\", end: \"{end}\", "), 1)
        } else {
            value
        };
        let value = if is_list(&arg["type"]) { format!("[{optional}]") } else { optional };
        Some(format!("{name}: {value}"))
    }

    /// All that can be selected of a type without arguments, `depth` objects deep.
    fn selection(&self, name: &str, node: Option<&str>, depth: usize) -> String {
        let inner = self.named(name);
        match inner["kind"].as_str().unwrap() {
            "SCALAR" | "ENUM" => String::new(),
            "UNION" => "{ __typename }".into(),
            "INTERFACE" => {
                let node = node.unwrap_or_else(|| panic!("no type of {name} is said"));
                let of_node = self.selection(node, None, depth);
                format!("{{ __typename ... on {node} {of_node} }}")
            }
            _ => {
                let mut fields = vec!["__typename".to_owned()];
                for field in list(&inner["fields"]) {
                    let needs = |arg: &Value| {
                        arg["type"]["kind"] == "NON_NULL" && arg["defaultValue"].is_null()
                    };
                    let of_field = type_name(&field["type"]);
                    let kind = self.named(&of_field)["kind"].as_str().unwrap();
                    let is_leaf = matches!(kind, "SCALAR" | "ENUM");
                    if list(&field["args"]).any(needs) || !is_leaf && depth == 0 {
                        continue;
                    }
                    // Their clocks differ between two answers.
                    if matches!(&of_field[..], "DeviceAdvice" | "IssuedCredential") {
                        continue;
                    }
                    let inner = self.selection(&of_field, node, depth.saturating_sub(1));
                    fields.push(format!("{} {inner}", field["name"].as_str().unwrap()));
                }
                format!("{{ {} }}", fields.join(" "))
            }
        }
    }
}

/// Every way to ask by an identifier.
fn questions(server: &Server, token: &str) -> Vec<Question> {
    let inner = "kind name ofType { kind name ofType { kind name ofType { kind name } } }";
    let introspection = format!(
        "{{ __schema {{ types {{ name kind isOneOf enumValues {{ name }}
           inputFields {{ name defaultValue type {{ {inner} }} }}
           fields {{ name type {{ {inner} }}
             args {{ name defaultValue type {{ {inner} }} }} }} }} }} }}"
    );
    let types = ask(server, token, &introspection, json!({}))["__schema"]["types"].clone();
    let types = std::rc::Rc::new(Types(types));
    let mut questions = Vec::new();
    for object in list(&types.0).filter(|object| object["kind"] == "OBJECT") {
        let object_name = object["name"].as_str().unwrap();
        for field in list(&object["fields"]) {
            let mut paths = Vec::new();
            for arg in list(&field["args"]) {
                types.identifiers(arg, field["name"].as_str().unwrap(), &mut paths);
            }
            let is_root = matches!(object_name, "Query" | "Mutation" | "Subscription");
            assert!(is_root || paths.is_empty(), "{object_name} takes identifiers: {paths:?}");
            if object_name == "Subscription" {
                // It answers nothing by itself; who is told is asked in `subscriptions.e2e.mjs`.
                continue;
            }
            questions.extend(paths.into_iter().map(|path| Question {
                mutates: object_name == "Mutation",
                path,
                field: field.clone(),
                types: types.clone(),
            }));
        }
    }
    questions
}

impl Fixture {
    /// Asks at `/ipc-video-metadata`, the one path beside GraphQL that takes an identifier of the
    /// caller's choice.
    fn check_metadata(&self) {
        let real = of(&self.home, Kind::ExternalId);
        for caller in &self.callers {
            for method in ["GET", "PUT"] {
                let answer = |device: &str| {
                    let fields = json!({
                        "clientID": "a", "deviceID": device, "streamName": "main", "duration": "1",
                        "begTime": "1763803800000", "endTime": "1763803801000",
                    })
                    .to_string();
                    let bearer = caller.token.as_ref().map(|token| format!("Bearer {token}"));
                    let len = fields.len().to_string();
                    let mut headers = vec![("content-type", "application/json")];
                    headers.extend(bearer.as_ref().map(|bearer| ("authorization", &bearer[..])));
                    headers.extend((method == "GET").then_some(("content-length", &len[..])));
                    let path = "/ipc-video-metadata";
                    let answer = self.server.request(method, path, &headers, fields.as_bytes());
                    (answer.status, answer.text().replace(device, "<id>"))
                };
                let case = format!("{} asks {method}", caller.name);
                let (found, not_there) = (answer(real), answer(&ghost(Kind::ExternalId, real)));
                let sees = caller.right(Kind::ExternalId) != '-';
                if method == "GET" && sees || caller.name == "the camera itself" {
                    assert_ne!(found, not_there, "{case}");
                } else {
                    assert_eq!(found, not_there, "{case}");
                }
            }
        }
    }
}

#[test]
fn what_a_caller_may_not_see_does_not_exist_for_it() {
    let fixture = Fixture::new();
    let admin = fixture.callers.last().unwrap();
    let questions = questions(&fixture.server, admin.token.as_deref().unwrap());
    assert!(questions.len() >= 19, "{questions:?}");
    fixture.check(&questions);
    fixture.check_metadata();
    let suspend = "mutation($id: ID!) { updateDevice(input: {id: $id, suspended: true}) {
        device { state } } }";
    let id = json!({"id": of(&fixture.home, Kind::Device)});
    ask(&fixture.server, admin.token.as_deref().unwrap(), suspend, id);
    fixture.check(&questions);
    // The questions reach what they are about: to whoever may do all, what there is and what there is
    // not are two things.
    let (last, first): (Vec<_>, Vec<_>) =
        questions.iter().partition(|question| question.path.starts_with("delete"));
    for question in first.into_iter().chain(last).filter(|question| question.mutates) {
        let kind = kinds(&question.path)[0];
        let real = of(&fixture.home, kind);
        let not_there = fixture.answer(admin, question, kind, &ghost(kind, real));
        let found = fixture.answer(admin, question, kind, real);
        assert_ne!(found, not_there, "{}", question.path);
    }
}
