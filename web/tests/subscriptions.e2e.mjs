// Subscriptions over graphql-transport-ws, by the client that everybody uses and by hand, and over
// server-sent events.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { startDemo } from "./demo.mjs";
import { startService } from "./service.mjs";

/** A busy machine takes its time; what is goal and what was measured is printed. */
const PATIENCE = { timeout: 60_000 };
const DEADLINE_MS = 5_000;
const SUBSCRIBERS = 1_000;
const PROTOCOL = "graphql-transport-ws";

let service;
let admin;
before(async () => {
  service = await startService(
    `[limits]\nsockets_per_user = ${2 * SUBSCRIBERS}\nsocket_queue = 8\nsocket_init_seconds = 1\n[rates]\nenabled = false\n`,
  );
  admin = service.token("admin");
});
after(() => service?.stop());

const socketUrl = () => `${service.origin.replace("http", "ws")}/graphql`;

function clientOf(token, options = {}) {
  return createClient({
    url: socketUrl(),
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${token}` },
    retryAttempts: 0,
    ...options,
  });
}

let registered = 0;
/** A new camera: its identifiers and its token. */
async function camera() {
  registered += 1;
  const input = { externalId: `cam-${registered}`, name: `Cam ${registered}`, timeZone: "UTC" };
  const { registerDevice } = await service.ask(
    admin,
    `mutation ($input: RegisterDeviceInput!) { registerDevice(input: $input) {
       device { id stream { id } } credential { token credential { id } } } }`,
    { input },
  );
  const { device, credential } = registerDevice;
  const { token } = credential;
  return { id: device.id, token, credentialId: credential.credential.id };
}

let reported = 0;
/** Reports an event, or with a `clientEventId` more of it. */
async function report(cam, event = {}) {
  reported += 1;
  const now = new Date().toISOString();
  const input = {
    sentAt: now,
    events: [{ clientEventId: `event-${reported}`, type: "MOTION", start: now, ...event }],
  };
  const { ingestEvents } = await service.ask(
    cam.token,
    `mutation ($input: IngestEventsInput!) { ingestEvents(input: $input) {
       results { status event { id } rejection { message } } } }`,
    { input },
  );
  const [{ event: stored, rejection }] = ingestEvents.results;
  assert.equal(rejection, null);
  return stored.id;
}

const shareWith = (user, cam, input = {}) =>
  service
    .ask(
      admin,
      `mutation ($input: ShareDeviceInput!) { shareDevice(input: $input) { share { id } } }`,
      { input: { deviceId: cam.id, user: { id: user.id }, role: "VIEWER", ...input } },
    )
    .then(({ shareDevice }) => shareDevice.share.id);

/** A socket by hand: sends text, and remembers what comes. */
async function open(options = {}) {
  const socket = new WebSocket(socketUrl(), options.protocol ?? PROTOCOL, options);
  const messages = [];
  socket.on("message", (data) => messages.push(JSON.parse(data.toString())));
  const closed = once(socket, "close").then(([code, reason]) => ({
    code,
    reason: reason.toString(),
  }));
  socket.on("error", () => undefined);
  await once(socket, "open");
  return {
    socket,
    messages,
    closed,
    /** Bytes go as text as they are; options are those of the socket's `send`. */
    say: (message, options) => {
      const isRaw = typeof message === "string" || Buffer.isBuffer(message);
      socket.send(isRaw ? message : JSON.stringify(message), { binary: false, ...options });
    },
    async until(found) {
      const until = Date.now() + PATIENCE.timeout;
      while (!messages.some(found)) {
        assert.ok(Date.now() < until, `not among ${JSON.stringify(messages)}`);
        await sleep(10);
      }
      return messages.find(found);
    },
  };
}

const init = (token) => ({
  type: "connection_init",
  payload: { authorization: `Bearer ${token}` },
});
const subscribe = (id, query = "subscription { eventOccurred { id } }") => ({
  type: "subscribe",
  id,
  payload: { query },
});

/** Opens a socket, is acknowledged and subscribes; answers when both are sure. */
async function listening(token, query) {
  const one = await open();
  one.say(init(token));
  await one.until(({ type }) => type === "connection_ack");
  one.say(subscribe("1", query));
  // Messages are taken in order: what is answered after it tells that it was read.
  one.say({ type: "ping" });
  await one.until(({ type }) => type === "pong");
  return one;
}

test("the client of graphql-ws is told of what happens", PATIENCE, async () => {
  const cam = await camera();
  const client = clientOf(admin);
  const events = client.iterate({
    query: `subscription ($of: [ID!]) { eventOccurred(deviceIds: $of, filter: { types: [PERSON] }) {
      id type end seen device { id } } }`,
    variables: { of: [cam.id] },
  });
  const devices = client.iterate({ query: "subscription { deviceStatusChanged { id state } }" });
  const first = events.next();
  const came = devices.next();
  await listening(admin).then((one) => one.socket.close());
  await sleep(500);
  await report(cam, { type: "MOTION" });
  const start = new Date().toISOString();
  const id = await report(cam, { clientEventId: "p", type: "PERSON", start });
  const event = { id, type: "PERSON", end: null, seen: false, device: { id: cam.id } };
  assert.deepEqual((await first).value.data.eventOccurred, event);
  const end = new Date(Date.parse(start) + 1_000).toISOString();
  await report(cam, { clientEventId: "p", type: "PERSON", start, end });
  assert.equal((await events.next()).value.data.eventOccurred.end, end);
  const status = async (next) => (await next).value.data.deviceStatusChanged;
  assert.deepEqual(await status(came), { id: cam.id, state: "ACTIVE" });
  await service.ask(
    admin,
    `mutation ($id: ID!) { updateDevice(input: { id: $id, suspended: true }) { device { id } } }`,
    { id: cam.id },
  );
  assert.deepEqual(await status(devices.next()), { id: cam.id, state: "SUSPENDED" });
  await client.dispose();
});

test("what the protocol forbids closes the socket as it says", PATIENCE, async (t) => {
  const long = "x".repeat(70_000);
  const name = "é".repeat(60);
  const probes = [
    ["subscribe before init", [subscribe("1")], 4401],
    ["junk", ["junk"], 4400],
    ["an unknown type", [{ type: "start" }], 4400],
    ["no id", [init(admin), { type: "subscribe", payload: { query: "{ a }" } }], 4400],
    ["init twice", [init(admin), init(admin)], 4429],
    ["an id twice", [init(admin), subscribe(name), subscribe(name)], 4409],
    ["no init at all", [], 4408],
    ["a bad token", [init("nonsense")], 4403],
    ["no token", [{ type: "connection_init" }], 4403],
    ["a message that is too long", [init(admin), { type: "ping", payload: long }], 1009],
    ["text that is not UTF-8", [init(admin), Buffer.from([0x22, 0xff, 0x22])], 1007],
  ];
  for (const [what, messages, code] of probes) {
    await t.test(what, PATIENCE, async () => {
      const { say, closed } = await open();
      for (const message of messages) say(message);
      const end = await closed;
      assert.equal(end.code, code, end.reason);
      assert.ok(Buffer.byteLength(end.reason) <= 123);
    });
  }
  await t.test("a message that is too long in parts", PATIENCE, async () => {
    const { say, closed } = await open();
    const half = long.slice(0, long.length / 2);
    say(half, { fin: false });
    say(half, { fin: true });
    assert.equal((await closed).code, 1009);
  });
});

test("what is no subscription is refused, and the socket stays", PATIENCE, async () => {
  const { say, until, socket } = await open();
  say(init(admin));
  await until(({ type }) => type === "connection_ack");
  for (const [id, query] of [
    ["query", "{ service { version } }"],
    ["mutation", `mutation { revokeShare(id: "x") { revokedShareId } }`],
    ["invalid", "subscription { nothing }"],
    ["syntax", "subscription {"],
    ["two", "subscription { eventOccurred { id } deviceStatusChanged { id } }"],
    [
      "costly",
      "subscription { deviceStatusChanged { stream { clips(first: 400) { nodes { size } } } } }",
    ],
    ["many", `subscription { footageAdded(deviceIds: [${'"x",'.repeat(17)}]) { growing } }`],
  ]) {
    say(subscribe(id, query));
    const { type, payload } = await until((message) => message.id === id);
    assert.equal(type, "error", query);
    assert.ok(payload[0].extensions.code, query);
  }
  for (let id = 0; id <= 10; id += 1) say(subscribe(`${id}`));
  const refused = await until(({ id }) => id === "10");
  assert.equal(refused.payload[0].extensions.code, "LIMIT_REACHED");
  say({ type: "complete", id: "0" });
  say(subscribe("10"));
  say({ type: "ping", payload: { a: 1 } });
  assert.deepEqual((await until(({ type }) => type === "pong")).payload, { a: 1 });
  const cam = await camera();
  await report(cam);
  await until(({ id, type }) => id === "10" && type === "next");
  socket.close();
});

test("pages of other origins and other protocols get no socket", PATIENCE, async () => {
  for (const [protocol, options, status] of [
    [PROTOCOL, { origin: "https://elsewhere.example" }, 403],
    ["graphql-ws", {}, 400],
  ]) {
    const socket = new WebSocket(socketUrl(), protocol, options);
    const [error] = await once(socket, "error");
    assert.match(error.message, new RegExp(`${status}`));
  }
  const { socket } = await open({ origin: service.origin });
  socket.close();
});

test("who may see less than before is cut off", PATIENCE, async (t) => {
  const cam = await camera();
  const change = (query, variables) => service.ask(admin, query, variables);
  const endings = [
    [
      "a share that is revoked",
      async () => {
        const user = await service.signIn("shared", "member");
        const id = await shareWith(user, cam);
        const revoke = `mutation ($id: ID!) { revokeShare(id: $id) { revokedShareId } }`;
        return { token: user.token, end: () => change(revoke, { id }) };
      },
    ],
    [
      "a user who is disabled",
      async () => {
        const user = await service.signIn("disabled", "viewer");
        const disable = `mutation ($id: ID!) {
          updateUser(input: { id: $id, disabled: true }) { user { id } } }`;
        return { token: user.token, end: () => change(disable, { id: user.id }) };
      },
    ],
    [
      "a credential that is revoked",
      async () => {
        const own = await camera();
        const revoke = `mutation ($id: ID!) {
          revokeDeviceCredential(id: $id) { credential { id } } }`;
        return { token: own.token, end: () => change(revoke, { id: own.credentialId }) };
      },
    ],
    [
      "a token that expires",
      async () => ({ token: service.token("viewer", "--ttl", "4s"), end: async () => undefined }),
    ],
  ];
  for (const [what, prepare] of endings) {
    await t.test(what, PATIENCE, async () => {
      const { token, end } = await prepare();
      const { closed } = await listening(token);
      const begun = Date.now();
      await end();
      const { code, reason } = await closed;
      console.log(`${what}: closed with ${code} (${reason}) after ${Date.now() - begun} ms`);
      assert.equal(code, 4403);
    });
  }
});

test("a share that is given while somebody listens opens more", PATIENCE, async () => {
  const [cam, other] = [await camera(), await camera()];
  const user = await service.signIn("guest", "member");
  const { until, messages, socket } = await listening(user.token);
  await report(cam);
  await shareWith(user, cam);
  await sleep(4_000);
  await report(other);
  const id = await report(cam);
  await until(({ payload }) => payload?.data?.eventOccurred.id === id);
  assert.equal(messages.filter(({ type }) => type === "next").length, 1);
  socket.close();
});

test("everybody is told of what they may see, and of nothing else", PATIENCE, async () => {
  const [cam, other] = [await camera(), await camera()];
  const [owner, guest, stranger] = await Promise.all(
    ["owner", "invited", "stranger"].map((name) => service.signIn(name, "member")),
  );
  await shareWith(owner, cam, { role: "MANAGER" });
  await shareWith(guest, cam);
  await shareWith(stranger, other);
  const callers = [
    ["an administrator", admin, true],
    ["a manager", service.token("manager"), true],
    ["a viewer", service.token("viewer"), true],
    ["its owner", owner.token, true],
    ["a guest", guest.token, true],
    ["the camera itself", cam.token, true],
    ["a guest of another camera", stranger.token, false],
    ["another camera", other.token, false],
    ["another account's administrator", service.token("admin", "--account", "elsewhere"), false],
  ];
  const named = `subscription { eventOccurred(deviceIds: ["${cam.id}", "nonsense"]) { id } }`;
  for (const query of ["subscription { eventOccurred { id } }", named]) {
    const listeners = await Promise.all(callers.map(([, token]) => listening(token, query)));
    const id = await report(cam);
    const event = { id: "1", type: "next", payload: { data: { eventOccurred: { id } } } };
    await Promise.all(
      listeners.map(({ until }, n) => callers[n][2] && until(({ type }) => type === "next")),
    );
    await sleep(500);
    for (const [n, { messages, socket }] of listeners.entries()) {
      const [who, , isTold] = callers[n];
      const told = messages.filter(({ id }) => id === "1");
      assert.deepEqual(told, isTold ? [event] : [], `${who}: ${query}`);
      socket.close();
    }
  }
});

test("footage comes piece by piece", PATIENCE, async () => {
  const demo = await startDemo();
  try {
    const { devices } = await demo.query("{ devices { nodes { id } } }");
    const client = clientOf(await demo.token(), {
      url: `${demo.origin.replace("http", "ws")}/graphql`,
    });
    const [device, other] = devices.nodes;
    const pieces = client.iterate({
      query: `subscription ($of: [ID!]!) { footageAdded(deviceIds: $of) {
        stream { device { id } } range { start end durationSeconds } mediaSeconds size growing } }`,
      variables: { of: [device.id] },
    });
    let end = "";
    for (let n = 0; n < 3; n += 1) {
      const { value } = await pieces.next();
      const piece = value.data.footageAdded;
      assert.equal(piece.stream.device.id, device.id);
      assert.ok(piece.range.start >= end, `${piece.range.start} is not before ${end}`);
      assert.ok(piece.mediaSeconds > 0 && piece.mediaSeconds < 21);
      assert.ok(Number(piece.size) > 1_000);
      end = piece.range.start;
    }
    assert.notEqual(device.id, other.id);
    await client.dispose();
  } finally {
    await demo.stop();
  }
});

test("one event reaches a thousand subscribers", PATIENCE, async () => {
  const cam = await camera();
  const all = [];
  while (all.length < SUBSCRIBERS) {
    const some = Array.from({ length: 50 }, () => listening(admin));
    all.push(...(await Promise.all(some)));
  }
  let begun = 0;
  const told = all.map(({ socket }) => once(socket, "message").then(() => Date.now() - begun));
  begun = Date.now();
  await report(cam);
  const late = sleep(DEADLINE_MS, undefined, { ref: false }).then(() => {
    throw new Error(`not all were told within ${DEADLINE_MS} ms`);
  });
  const times = (await Promise.race([Promise.all(told), late])).sort((a, b) => a - b);
  const at = (share) => times[Math.floor((times.length - 1) * share)];
  const [middle, most] = [at(0.5), at(0.95)];
  console.log(
    `${all.length} subscribers: p50 ${middle} ms, p95 ${most} ms (goal 500), all ${at(1)} ms`,
  );
  for (const { socket } of all) socket.terminate();
});

test("who does not read is cut off, and nobody waits for it", PATIENCE, async () => {
  const cam = await camera();
  const attributes = { text: "x".repeat(3_900) };
  const query = `subscription { eventOccurred { id attributes
    ${Array.from({ length: 14 }, (_, n) => `a${n}: attributes`).join(" ")} } }`;
  const slow = await listening(admin, query);
  const quick = await listening(admin, query);
  slow.socket.pause();
  const ids = [];
  for (let sent = 0; sent < 300; sent += 1) ids.push(await report(cam, { attributes }));
  await quick.until(({ payload }) => payload?.data?.eventOccurred.id === ids.at(-1));
  const heard = quick.messages.filter(({ type }) => type === "next");
  assert.deepEqual(
    heard.map(({ payload }) => payload.data.eventOccurred.id),
    ids,
  );
  slow.socket.resume();
  const { code } = await slow.closed;
  console.log(`the slow one had ${slow.messages.length} messages and was closed with ${code}`);
  assert.ok(slow.messages.length < ids.length);
  quick.socket.close();
});

/** Events of an answer as they come. */
async function* eventsOf(response) {
  let text = "";
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    text += part;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const field = (name) =>
        lines
          .find((line) => line.startsWith(`${name}:`))
          ?.slice(name.length + 1)
          .trim();
      if (field("event")) yield { event: field("event"), data: field("data") };
    }
  }
}

async function collect(items) {
  const all = [];
  for await (const item of items) all.push(item);
  return all;
}

test("server-sent events tell the same", PATIENCE, async () => {
  const cam = await camera();
  const stream = (query, token, method = "POST") => {
    const headers = { accept: "text/event-stream", "content-type": "application/json" };
    if (token) headers.authorization = `Bearer ${token}`;
    if (method === "GET") {
      const url = `${service.origin}/graphql?query=${encodeURIComponent(query)}`;
      return fetch(url, { headers });
    }
    return fetch(`${service.origin}/graphql`, {
      method,
      headers,
      body: JSON.stringify({ query }),
    });
  };
  const complete = { event: "complete", data: "" };
  for (const method of ["POST", "GET"]) {
    const response = await stream("subscription { eventOccurred { id } }", admin, method);
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-type"), /^text\/event-stream/);
    await sleep(500);
    const id = await report(cam);
    const { value } = await eventsOf(response).next();
    assert.equal(value.event, "next");
    assert.equal(JSON.parse(value.data).data.eventOccurred.id, id);
  }
  for (const [query, token, shown] of [
    ["{ service { __typename } }", admin, /"data":\{"service"/],
    ["subscription { nothing }", admin, /GRAPHQL_VALIDATION_FAILED/],
    ["subscription { eventOccurred { id } }", undefined, /UNAUTHENTICATED/],
  ]) {
    const response = await stream(query, token);
    assert.equal(response.status, 200);
    const [only, end] = await collect(eventsOf(response));
    assert.equal(only.event, "next");
    assert.match(only.data, shown);
    assert.deepEqual(end, complete);
  }
  const ending = await stream(
    "subscription { eventOccurred { id } }",
    service.token("viewer", "--ttl", "3s"),
  );
  assert.deepEqual(await collect(eventsOf(ending)), [], "it ends without complete");
  assert.equal((await stream("{ service { time } }", "nonsense")).status, 401);
});
