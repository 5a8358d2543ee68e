// Tokens of OIDC issuers at the built service, and a person who signs in through one in a browser.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openPage, screenshot, startBrowser, startDemo } from "./demo.mjs";
import { SECRET, startMock, startProvider } from "./issuers.mjs";

const SLOW = { timeout: 60_000 };
/** The issuers are asked for their keys every few seconds until they answer. */
const TRIES = 60;

const dir = mkdtempSync(join(tmpdir(), "lookback-oidc-"));
let provider;
let mock;
let demo;
let browser;
before(async () => {
  provider = await startProvider();
  mock = await startMock();
  const secret = join(dir, "secret");
  writeFileSync(secret, `${SECRET}\n`);
  demo = await startDemo(`
[[issuers]]
name = "gate"
display_name = "the Gate"
url = "${provider.url}"
plain_http = true
create_users = true
role_claim = "groups"
roles = { guards = "VIEWER" }
[issuers.sign_in]
client_id = "viewer"
client_secret_file = "${secret}"
[[issuers]]
name = "mock"
url = "${mock.url}"
plain_http = true
create_users = true
default_role = "MEMBER"
`);
  // The service has been up for a while when this issuer comes.
  provider.serve(demo.origin);
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await demo?.stop();
  await mock?.stop();
  await provider?.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** What `/graphql` answers to whoever has a token. */
async function ask(token, query = "{ viewer { id displayName role } }") {
  const response = await fetch(`${demo.origin}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    body: JSON.stringify({ query }),
  });
  return { status: response.status, body: await response.json() };
}

/** The same once it is taken: an issuer may have come a moment ago. */
async function askUntilTaken(token) {
  for (let tries = 0; tries < TRIES; tries++) {
    const answer = await ask(token);
    if (answer.status === 200) return answer.body.data.viewer;
    await sleep(500);
  }
  throw new Error(`never taken: ${JSON.stringify(await ask(token))}`);
}

test("a script calls the API with a token of oidc-provider", async () => {
  const viewer = await askUntilTaken(await provider.token());
  assert.equal(viewer.role, "VIEWER");
  assert.match(viewer.id, /^usr_/);
  const again = await ask(await provider.token());
  assert.equal(again.body.data.viewer.id, viewer.id);
});

test("only right tokens are taken, and new keys are seen at once", async () => {
  const first = await askUntilTaken(await mock.token());
  assert.deepEqual([first.displayName, first.role], ["One", "MEMBER"]);
  const now = Math.floor(Date.now() / 1000);
  const [head, claims, signature] = (await mock.token()).split(".");
  const none = Buffer.from('{"alg":"none","typ":"at+jwt"}').toString("base64url");
  const refused = {
    "for another audience": await mock.token({}, { aud: "billing" }),
    "for nobody": await mock.token({}, { aud: null }),
    "an ID token": await mock.token({ typ: "JWT" }),
    expired: await mock.token({}, { exp: now - 60 }),
    "without end": await mock.token({}, { exp: null }),
    "not yet": await mock.token({}, { nbf: now + 600 }),
    "of another issuer": await mock.token({}, { iss: provider.url }),
    "of an issuer nobody named": await mock.token({}, { iss: "https://evil.example" }),
    huge: await mock.token({}, { groups: "x".repeat(9000) }),
    unsigned: `${none}.${claims}.`,
    "cut short": `${head}.${claims}.${signature.slice(0, -10)}`,
  };
  for (const [what, token] of Object.entries(refused)) {
    const { status, body } = await ask(token);
    assert.equal(status, 401, what);
    assert.equal(body.data, undefined, what);
  }
  await mock.rotate("ES256");
  assert.equal((await ask(await mock.token())).body.data?.viewer.id, first.id);
  // A second one within the minute waits for its end: anybody can make up keys.
  await mock.rotate("RS256");
  assert.equal((await ask(await mock.token())).status, 401);
});

test("a person signs in through the issuer, leaves, and is shut out", async () => {
  await askUntilTaken(await provider.token());
  const { page, close } = await openPage(browser);
  await page.goto(`${demo.origin}/?from=link`);
  const link = page.getByRole("link", { name: "Sign in with the Gate" });
  await link.waitFor(SLOW);
  await screenshot(page, "sign-in-issuer");
  await link.click();
  await page.locator("[name=login]").fill("anna", SLOW);
  await page.locator("[name=password]").fill("anything");
  await page.locator("button[type=submit]").click();
  await page.getByRole("button", { name: "Continue" }).click(SLOW);
  await page.getByRole("link", { name: "Front door" }).waitFor(SLOW);
  assert.equal(page.url(), `${demo.origin}/?from=link`, "where it began");
  const cookies = await page.context().cookies(`${demo.origin}/auth/refresh`);
  const refresh = cookies.find(({ name }) => name === "lookback_refresh");
  assert.ok(refresh.httpOnly && refresh.sameSite === "Strict", JSON.stringify(refresh));
  await page.reload();
  await page.getByRole("link", { name: "Front door" }).waitFor(SLOW);

  const users = "{ users(first: 100) { nodes { id name displayName role } } }";
  const { nodes } = (await demo.query(users)).users;
  const anna = nodes.find(({ name }) => name === "anna");
  assert.deepEqual([anna.displayName, anna.role], ["anna of the gate", "VIEWER"]);
  const update = `mutation($input: UpdateUserInput!) {
    updateUser(input: $input) { user { disabled } userErrors { code } } }`;
  const promoted = await demo.query(update, { input: { id: anna.id, role: "ADMIN" } });
  assert.deepEqual(promoted.updateUser.userErrors, [{ code: "WRONG_STATE" }]);

  await page.getByRole("button", { name: "Sign out" }).click();
  await link.waitFor(SLOW);
  await page.reload();
  await link.click(SLOW);
  // The issuer still knows the browser.
  await page.getByRole("link", { name: "Front door" }).waitFor(SLOW);
  const { accessToken } = await page.evaluate(async () =>
    (await fetch("/auth/refresh", { method: "POST" })).json(),
  );
  assert.equal((await ask(accessToken)).status, 200);
  await demo.query(update, { input: { id: anna.id, disabled: true } });
  const endsBy = Date.now() + 5_000;
  while ((await ask(accessToken)).status !== 401) assert.ok(Date.now() < endsBy, "within 5 s");
  await page.reload();
  await link.click(SLOW);
  await page.getByText("You have no access here.").waitFor(SLOW);
  await screenshot(page, "sign-in-nobody");
  await close();

  const range = `{ start: "2020-01-01T00:00:00Z", end: "2100-01-01T00:00:00Z" }`;
  const log = `{ auditLog(range: ${range}, first: 100) { nodes { actorId action targetId address } } }`;
  const lines = (await demo.query(log)).auditLog.nodes;
  const count = (action, who) =>
    lines.filter((line) => line.action === action && (line.actorId ?? line.targetId) === who);
  assert.equal(count("SIGN_IN", anna.id).length, 2);
  assert.equal(count("SIGN_IN_REFUSED", anna.id).length, 1);
  assert.ok(
    lines.every(({ address }) => address === "127.0.0.1"),
    JSON.stringify(lines),
  );
});

test("what was not begun here ends nowhere", async () => {
  const go = (path) => fetch(`${demo.origin}${path}`, { redirect: "manual" });
  const { headers } = await go("/auth/oidc/gate/start?page=//evil.example");
  const cookie = headers.get("set-cookie");
  for (const part of ["HttpOnly", "SameSite=Lax", "Path=/auth/oidc", "Max-Age=600"]) {
    assert.ok(cookie.includes(part), cookie);
  }
  const asked = new URL(headers.get("location")).searchParams;
  assert.equal(asked.get("code_challenge_method"), "S256");
  assert.equal((await go("/auth/oidc/mock/start")).status, 404, "no signing in there");
  assert.equal((await go("/auth/oidc/nobody/start")).status, 404);
  const state = asked.get("state");
  const ticket = cookie.split(";")[0];
  for (const [query, withTicket, expected, issuer = "gate"] of [
    [{ code: "x", state }, false, "stale"],
    [{ code: "x", state: "guess" }, true, "stale"],
    [{ code: "x" }, true, "stale"],
    [{ error: "access_denied", state, iss: provider.url }, true, "declined"],
    [{ code: "x", state, iss: "https://evil.example" }, true, "failed"],
    [{ code: "x", state }, true, "failed"],
    [{ code: "x", state, iss: provider.url }, true, "failed", "mock"],
    [{ error: "access_denied", state, iss: provider.url }, true, "failed", "mock"],
    [{ error: "access_denied", state, iss: provider.url }, true, "failed", "nobody"],
    [{ code: "x", state, iss: provider.url }, true, "failed"],
  ]) {
    const response = await fetch(
      `${demo.origin}/auth/oidc/${issuer}/callback?${new URLSearchParams(query)}`,
      { redirect: "manual", headers: withTicket ? { cookie: ticket } : {} },
    );
    const said = `${JSON.stringify(query)} ${withTicket} ${issuer}`;
    assert.equal(response.headers.get("location"), `/#sign-in=${expected}`, said);
    assert.ok(!response.headers.get("set-cookie").includes("lookback_refresh"), said);
  }
});
