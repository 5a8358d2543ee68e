//! No answer tells of what its caller may not see. Every field, mutation and subscription that takes
//! an identifier is found in the schema and asked by everybody for what there is and for what there is
//! not: where it is hidden from the caller, the two answers are the same. A new field joins by itself,
//! and fails the test while it is not said what its identifier names, or of a subscription, while
//! nothing happens that it tells of.

use crate::camera::{self, Registered};
use crate::footage::rfc3339;
use crate::playback::{self, now_ms};
use crate::server::{NO_RATES, PATIENCE, Server};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

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
    fn on(server: Server) -> Self {
        const PASSWORD: &str = "correct horse battery";
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
                    let mutates = question.operation == "mutation";
                    if mutates && (right == 'M' || right == 'V' && is_argument) {
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
                        _ if mutates => {
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
    operation: &'static str,
    /// The field and the way down to the identifier, with dots between; the field alone where none is
    /// named.
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
        let arguments = match &arguments[..] {
            [] => String::new(),
            some => format!("({})", some.join(", ")),
        };
        format!("{} {{ {name}{arguments} {selection} }}", self.operation)
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
            let operation = match object_name {
                "Mutation" => "mutation",
                "Subscription" => "subscription",
                _ => "query",
            };
            let needs = |arg: &Value| arg["type"]["kind"] == "NON_NULL";
            if operation == "subscription" && !list(&field["args"]).any(needs) {
                paths.push(field["name"].as_str().unwrap().to_owned());
            }
            questions.extend(paths.into_iter().map(|path| Question {
                operation,
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
    let fixture = Fixture::on(Server::start());
    let admin = fixture.callers.last().unwrap();
    let mut questions = questions(&fixture.server, admin.token.as_deref().unwrap());
    questions.retain(|question| question.operation != "subscription");
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
    for question in
        first.into_iter().chain(last).filter(|question| question.operation == "mutation")
    {
        let kind = kinds(&question.path)[0];
        let real = of(&fixture.home, kind);
        let not_there = fixture.answer(admin, question, kind, &ghost(kind, real));
        let found = fixture.answer(admin, question, kind, real);
        assert_ne!(found, not_there, "{}", question.path);
    }
}

/// A subscription that is open, as server-sent events.
struct Listener {
    told: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl Listener {
    fn open(address: SocketAddr, token: Option<&str>, query: &str) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let body = json!({ "query": query }).to_string();
        let bearer = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let head = format!(
            "POST /graphql HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
             accept: text/event-stream\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{}\r\n",
            body.len(),
            bearer.unwrap_or_default()
        );
        socket.write_all((head + &body).as_bytes()).unwrap();
        let mut socket = BufReader::new(socket);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(socket.read_line(&mut line).unwrap(), 0, "{query}");
            assert!(!line.starts_with("HTTP/1.1 4"), "{line}: {query}");
        }
        let told = Arc::new(Mutex::new(String::new()));
        let heard = told.clone();
        let reading = std::thread::spawn(move || {
            while let Some(event) = chunk(&mut socket) {
                // Signs of life come by the clock.
                if event != ":\n\n" {
                    *heard.lock().unwrap() += &event;
                }
            }
        });
        Self { told, reading }
    }

    fn is_told(&self) -> bool {
        self.told.lock().unwrap().contains("\"data\":{")
    }

    /// All that was said, once the server has ended it.
    fn end(self) -> String {
        self.reading.join().unwrap();
        self.told.lock().unwrap().clone()
    }
}

/// The next chunk of an answer; `None` at its end.
fn chunk(socket: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    socket.read_line(&mut line).unwrap();
    let len = usize::from_str_radix(line.trim_end(), 16).ok().filter(|len| *len > 0)?;
    let mut chunk = vec![0; len + 2];
    socket.read_exact(&mut chunk).unwrap();
    Some(String::from_utf8(chunk[..len].to_vec()).unwrap())
}

impl Fixture {
    /// Makes happen on the device at home what subscriptions tell of, for the `n`-th time.
    fn happen(&self, n: u64) {
        let token = |name| {
            let caller = self.callers.iter().find(|caller| caller.name == name).unwrap();
            caller.token.as_deref().unwrap()
        };
        let (itself, admin) = (token("the camera itself"), token("admin"));
        let now = rfc3339(now_ms());
        let report = "mutation($input: IngestEventsInput!) { ingestEvents(input: $input) {
            results { rejection { code } } } }";
        let event = json!({"clientEventId": format!("n{n}"), "type": "MOTION", "start": now});
        let input = json!({"sentAt": now, "events": [event]});
        let reported = ask(&self.server, itself, report, json!({"input": input}));
        assert_eq!(reported["ingestEvents"]["results"], json!([{"rejection": null}]));
        let stream = of(&self.home, Kind::Stream);
        let named = "query($id: ID!) { node(id: $id) { ... on Stream { mediaStreamName } } }";
        let named = ask(&self.server, admin, named, json!({"id": stream}));
        let camera = Registered {
            device: of(&self.home, Kind::Device).into(),
            stream: stream.into(),
            media_stream: named["node"]["mediaStreamName"].as_str().unwrap().into(),
            token: itself.into(),
        };
        playback::upload(&self.server, &camera, [now_ms() - 3_600_000 + n * 1_000]);
        let suspend = "mutation($input: UpdateDeviceInput!) { updateDevice(input: $input) {
            userErrors { code } } }";
        for suspended in [true, false] {
            let input = json!({"id": of(&self.home, Kind::Device), "suspended": suspended});
            ask(&self.server, admin, suspend, json!({"input": input}));
        }
    }
}

#[test]
fn what_a_caller_may_not_see_it_is_not_told_of() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, format!("{NO_RATES}[limits]\nsockets_per_user = 100\n")).unwrap();
    let flags = ["--config", config.to_str().unwrap()];
    let mut fixture = Fixture::on(Server::start_with(&flags, TempDir::new().unwrap()));
    let admin = fixture.callers.last().unwrap();
    let mut questions = questions(&fixture.server, admin.token.as_deref().unwrap());
    questions.retain(|question| question.operation == "subscription");
    assert!(questions.len() >= 5, "{questions:?}");

    // Whoever is to be told of nothing listens first.
    let mut callers: Vec<&Caller> = fixture.callers.iter().collect();
    callers.sort_by_key(|caller| caller.right(Kind::Device) != '-');
    let mut listening = Vec::new();
    for caller in callers {
        for question in &questions {
            let is_named = question.path.contains('.');
            let kinds = if is_named { kinds(&question.path) } else { vec![Kind::Device] };
            for kind in kinds {
                let real = of(&fixture.home, kind);
                let listen = |id: &str| {
                    let query = question.query(kind, id, &fixture.home);
                    Listener::open(fixture.server.address, caller.token.as_deref(), &query)
                };
                let of_ghost = is_named.then(|| listen(&ghost(kind, real)));
                listening.push((caller, question, kind, listen(real), of_ghost));
            }
        }
    }
    let begun = Instant::now();
    for n in 0.. {
        fixture.happen(n);
        let waits = listening
            .iter()
            .find(|(caller, _, kind, of_real, _)| caller.right(*kind) != '-' && !of_real.is_told());
        let Some((caller, question, _, of_real, _)) = waits else { break };
        let (late, told) = (begun.elapsed() > PATIENCE, of_real.told.lock().unwrap());
        assert!(!late, "{} is not told by {}: {told}", caller.name, question.path);
        drop(told);
        std::thread::sleep(Duration::from_millis(200));
    }
    fixture.happen(1_000);
    fixture.server.signal("TERM");
    let secrets: Vec<(Kind, String)> = fixture.home.clone();
    for (caller, question, kind, of_real, of_ghost) in listening {
        let case = format!("{} subscribes {} about {kind:?}", caller.name, question.path);
        let real = of(&fixture.home, kind);
        let told = of_real.end().replace(real, "<id>");
        let of_ghost = of_ghost.map(|ghosts| ghosts.end().replace(&ghost(kind, real), "<id>"));
        assert!(!told.contains("GRAPHQL_") && !told.contains("INTERNAL"), "{case}: {told}");
        for (hidden, secret) in &secrets {
            let leaks = caller.right(*hidden) == '-' && told.contains(&format!("\"{secret}\""));
            assert!(!leaks, "{case} and is told of {hidden:?}: {told}");
        }
        let of_ghost = of_ghost.as_deref();
        match caller.right(kind) {
            '-' => {
                assert!(!told.contains("\"data\":{"), "{case}: {told}");
                assert!(of_ghost.is_none_or(|of_ghost| of_ghost == told), "{case}: {told}");
            }
            _ => assert!(of_ghost.is_none_or(|of_ghost| of_ghost.is_empty()), "{case}: {told}"),
        }
    }
    fixture.server.ended();
}
