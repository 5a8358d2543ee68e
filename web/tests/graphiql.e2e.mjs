// GraphiQL in Chromium: its tabs run as they are, its docs are the schema's, and a subscription tells
// of what happens.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openPage, screenshot, startBrowser, startDemo } from "./demo.mjs";
import { post } from "./service.mjs";

const SLOW = { timeout: 60_000 };
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

let demo;
let browser;
before(async () => {
  demo = await startDemo();
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

test("the tabs are ready to run", SLOW, async () => {
  const { page, complaints, close } = await openPage(browser);
  const { hash } = new URL(demo.url);
  await page.goto(`${demo.origin}/graphiql${hash}`);
  const tab = (name) => page.getByRole("tab", { name, exact: true });
  const answer = page.locator(".result-window .CodeMirror");
  const run = () => page.locator(".graphiql-execute-button").click();
  const answered = async (text) => {
    await page.waitForFunction(
      (wanted) =>
        document
          .querySelector(".result-window .CodeMirror")
          ?.CodeMirror.getValue()
          .includes(wanted),
      text,
      SLOW,
    );
    return answer.evaluate((element) => element.CodeMirror.getValue());
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
    await run();
    const shown = await answered(text);
    assert.ok(!shown.includes('"errors"'), `${name}: ${shown}`);
  }

  await tab("EventOccurred").click();
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

test("who is not signed in is told so", SLOW, async () => {
  const { page, close } = await openPage(browser);
  await page.goto(`${demo.origin}/graphiql`);
  await page.getByRole("link", { name: "Sign in" }).waitFor(SLOW);
  await close();
});
