// GraphiQL in Chromium: its tabs run as they are, its docs are the schema's, and a subscription tells
// of what happens.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { browser, demo, openPage, screenshot, withDemo } from "./demo.mjs";
import { post } from "./service.mjs";

const SLOW = { timeout: 20_000 };
const TABS = [
  "Devices",
  "ClipsOfADay",
  "Coverage",
  "PlaybackSession",
  "Events",
  "IngestSegments",
  "RegisterDevice",
  "EventOccurred",
];

withDemo();

/** Waits until every camera has some. */
async function footage() {
  const query = "{ devices { nodes { stream { latest } } } }";
  const until = Date.now() + SLOW.timeout;
  while ((await demo.query(query)).devices.nodes.some(({ stream }) => stream.latest === null)) {
    assert.ok(Date.now() < until, "the cameras send nothing");
    await sleep(500);
  }
}

test("the tabs are ready to run", { timeout: 120_000 }, async () => {
  await footage();
  const { page, complaints, close } = await openPage(browser);
  const { hash } = new URL(demo.url);
  await page.goto(`${demo.origin}/graphiql${hash}`);
  const tab = (name) => page.locator(`.graphiql-tab-button[title="${name}"]`);
  const answer = page.locator(".result-window .CodeMirror");
  const run = () => page.locator(".graphiql-execute-button").click();
  const shown = () => answer.evaluate((element) => element.CodeMirror.getValue());
  const answered = async (text) => {
    const until = Date.now() + SLOW.timeout;
    while (!(await shown()).includes(text)) {
      assert.ok(Date.now() < until, `no ${text} in ${await shown()}`);
      await page.waitForTimeout(100);
    }
    return shown();
  };
  await tab("Devices").waitFor(SLOW);
  for (const name of TABS) assert.equal(await tab(name).count(), 1, name);

  for (const [name, text] of [
    ["Devices", "Front door"],
    ["ClipsOfADay", "mediaSeconds"],
    ["Coverage", "totalCoveredSeconds"],
    ["PlaybackSession", "/hls/v1/s/"],
    ["Events", '"nodes"'],
  ]) {
    await tab(name).click();
    // The editor looks for operations a moment after it was filled.
    await page.waitForTimeout(500);
    await run();
    const whole = await answered(text);
    assert.ok(!whole.includes('"errors"'), `${name}: ${whole}`);
  }

  await tab("EventOccurred").click();
  await page.waitForTimeout(500);
  await run();
  await page.waitForTimeout(1_000);
  const register = `mutation { registerDevice(input: {
    externalId: "bell", name: "Bell", timeZone: "UTC" }) { credential { token } } }`;
  const { registerDevice } = await demo.query(register);
  const headers = { authorization: `Bearer ${registerDevice.credential.token}` };
  const now = new Date().toISOString();
  const query = `mutation { ingestEvents(input: { sentAt: "${now}", events: [
    { clientEventId: "a", type: DOORBELL, start: "${now}" }] }) { results { status } } }`;
  await post(`${demo.origin}/graphql`, headers, { query });
  assert.match(await answered("DOORBELL"), /Bell/);
  await run();

  await page.getByRole("button", { name: "Show Documentation Explorer" }).click();
  await page.getByRole("link", { name: "Subscription" }).click();
  await page.getByText("Events as they begin and as they change").first().waitFor(SLOW);
  await screenshot(page, "graphiql");
  assert.deepEqual(complaints, []);
  await close();
});

test("who is not signed in is told so", { timeout: 120_000 }, async () => {
  const { page, close } = await openPage(browser);
  await page.goto(`${demo.origin}/graphiql`);
  await page.getByRole("link", { name: "Sign in" }).waitFor(SLOW);
  await close();
});
