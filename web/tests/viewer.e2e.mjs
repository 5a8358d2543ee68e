// The viewer, driven in Chromium against the demo: what is asserted is what the picture shows.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { browser, demo, openPage, screenshot, withDemo } from "./demo.mjs";
import {
  longestStandstill,
  median,
  newestPicture,
  picturesSince,
  watchPictures,
} from "./picture.mjs";

/** Figures are goals; these bounds only tell a broken viewer from a busy machine. */
const LIVE_BOUND_MS = 10_000;
const PICTURE_BOUND_MS = 5_000;
const STANDSTILL_BOUND_MS = 2_500;
const SLOW = { timeout: 60_000 };

withDemo();

async function openDevice(name, options) {
  const opened = await openPage(browser, options);
  await opened.page.goto(demo.url);
  await opened.page.getByRole("link", { name }).click(SLOW);
  await opened.page.waitForSelector('[data-testid="player"][data-phase="playing"]', SLOW);
  await watchPictures(opened.page);
  return opened;
}

/** Presses the timeline where an instant is; answers the instant that this asked for. */
async function press(page, ms) {
  const timeline = page.getByTestId("timeline");
  const box = await timeline.boundingBox();
  const startMs = Number(await timeline.getAttribute("data-start-ms"));
  const endMs = Number(await timeline.getAttribute("data-end-ms"));
  assert.ok(startMs <= ms && ms < endMs, `${ms} is in the view ${startMs}-${endMs}`);
  const x = box.x + ((ms - startMs) / (endMs - startMs)) * box.width;
  await page.mouse.click(x, box.y + box.height / 2);
  const asked = page.locator('[data-testid="player"][data-asked-ms]');
  return Number(await asked.getAttribute("data-asked-ms", SLOW));
}

/** Waits for a picture of `ms` or up to a second later that came after the last press. */
async function pictureOf(page, ms) {
  const found = await page.waitForFunction(
    (wanted) => {
      const first = window.pictures.find(
        (note) => note.at > window.pressedAt && Math.abs(note.ms - wanted) < 1000,
      );
      return first && { ...first, afterMs: first.at - window.pressedAt };
    },
    ms,
    SLOW,
  );
  return found.jsonValue();
}

async function coveredMs(page) {
  return Number(await page.getByTestId("footage").getAttribute("data-covered-ms"));
}

async function gapOf(name) {
  const { devices } = await demo.query(
    "{ service { time } devices(first: 10) { nodes { name stream { id earliest latest } } } }",
  );
  const { stream } = devices.nodes.find((device) => device.name === name);
  const { node } = await demo.query(
    `query ($id: ID!, $range: TimeRangeInput!) {
       node(id: $id) { ... on Stream { coverage(range: $range) { gaps { range { start end } } } } }
     }`,
    { id: stream.id, range: { start: stream.earliest, end: stream.latest } },
  );
  return node.coverage.gaps
    .map(({ range }) => ({ startMs: Date.parse(range.start), endMs: Date.parse(range.end) }))
    .find((gap) => gap.endMs - gap.startMs > 30_000);
}

test("the demo's URL opens signed in, with live picture and a timeline that grows", async () => {
  const { page, complaints, close } = await openPage(browser);
  await page.goto(demo.url);
  await page.getByRole("link", { name: "Front door" }).waitFor(SLOW);
  assert.equal(new URL(page.url()).hash, "", "the code has gone from the address");
  await page.getByText("Last picture").first().waitFor(SLOW);
  await screenshot(page, "devices");
  await page.getByRole("link", { name: "Front door" }).click();
  await page.waitForSelector('[data-testid="player"][data-phase="playing"]', SLOW);
  await watchPictures(page);
  await page.getByTestId("live-indicator").waitFor(SLOW);
  await newestPicture(page);
  const coveredBefore = await coveredMs(page);

  const behind = [];
  for (let round = 0; round < 40; round++) {
    behind.push(Date.now() - (await newestPicture(page)));
    await sleep(250);
  }
  const pictures = await picturesSince(page);
  assert.ok(pictures.length > 50, `${pictures.length} pictures in 10 s`);
  console.log(
    `live: ${median(behind)} ms behind (median), ${Math.max(...behind)} ms at most; ` +
      `longest standstill ${longestStandstill(pictures)} ms`,
  );
  assert.ok(median(behind) < LIVE_BOUND_MS);
  assert.ok((await coveredMs(page)) >= coveredBefore + 5_000, "the timeline grew");
  await screenshot(page, "live");
  assert.deepEqual(complaints, []);
  await close();
});

test("a pressed point of the timeline shows that instant to within one frame", async () => {
  const { page, complaints, close } = await openDevice("Front door");
  const timeline = page.getByTestId("timeline");
  await page.waitForFunction(
    () => Number(document.querySelector('[data-testid="footage"]').dataset.coveredMs) > 30_000,
    null,
    SLOW,
  );
  const nowMs = await newestPicture(page);
  const frames = await picturesSince(page);
  const steps = frames.slice(1).map((note, i) => note.ms - frames[i].ms);
  const frameMs = Math.max(1, median(steps.filter((step) => step > 0)));

  // The first press opens a session, the later ones seek in it or open another.
  const took = [];
  for (const backMs of [20_000, 12_345, 26_000, 8_000, 24_321]) {
    const askedMs = await press(page, nowMs - backMs);
    const shown = await pictureOf(page, askedMs);
    took.push(Math.round(shown.afterMs));
    const offMs = shown.ms - askedMs;
    assert.ok(Math.abs(offMs) <= frameMs + 1, `${offMs} ms off, a frame is ${frameMs} ms`);
    await sleep(700);
  }
  console.log(`time to the pressed picture: ${took.join(", ")} ms; a frame is ${frameMs} ms`);
  assert.ok(median(took) < PICTURE_BOUND_MS);
  assert.equal(await page.getByTestId("player").getAttribute("data-mode"), "recorded");
  await screenshot(page, "recorded");

  await pictureOf(page, await press(page, nowMs - 8_000));
  await sleep(500);
  await timeline.focus();
  const before = Number(await page.getByTestId("player").getAttribute("data-wall-ms"));
  await page.keyboard.press("ArrowLeft");
  await page.waitForFunction(
    (ms) => document.querySelector('[data-testid="player"]').dataset.wallMs < ms,
    before - 5_000,
    SLOW,
  );
  assert.match(await timeline.getAttribute("aria-valuetext"), /\d\d:\d\d:\d\d/);
  const span = async () =>
    Number(await timeline.getAttribute("data-end-ms")) -
    Number(await timeline.getAttribute("data-start-ms"));
  const whole = await span();
  await page.keyboard.press("+");
  assert.equal(await span(), whole / 2);
  await page.keyboard.press("-");
  await page.mouse.move(640, (await timeline.boundingBox()).y + 20);
  await page.mouse.wheel(0, -400);
  await page.waitForFunction(
    (ms) => {
      const { startMs, endMs } = document.querySelector('[data-testid="timeline"]').dataset;
      return endMs - startMs < ms;
    },
    whole,
    SLOW,
  );

  await page.getByTestId("live").click();
  await page.getByTestId("live-indicator").waitFor(SLOW);
  assert.deepEqual(complaints, []);
  await close();
});

test("a finger taps, drags and pinches the timeline", async () => {
  const { page, complaints, close } = await openDevice("Front door", {
    viewport: { width: 360, height: 740 },
    hasTouch: true,
    isMobile: true,
  });
  const timeline = page.getByTestId("timeline");
  const view = async () => ({
    startMs: Number(await timeline.getAttribute("data-start-ms")),
    endMs: Number(await timeline.getAttribute("data-end-ms")),
  });
  const asked = async () => Number(await page.getByTestId("player").getAttribute("data-asked-ms"));
  await timeline.scrollIntoViewIfNeeded();
  const box = await timeline.boundingBox();
  const y = box.y + box.height / 2;
  const devtools = await page.context().newCDPSession(page);
  const touch = (type, ...xs) =>
    devtools.send("Input.dispatchTouchEvent", {
      type,
      touchPoints: xs.map((x, id) => ({ x, y, id })),
    });
  const { startMs, endMs } = await view();
  const instantAt = (x) => startMs + ((x - box.x) / box.width) * (endMs - startMs);
  const head = await page.getByTestId("playhead").boundingBox();

  await page.touchscreen.tap(head.x - 12, y);
  await pictureOf(page, await asked());
  assert.ok(Math.abs((await asked()) - instantAt(head.x - 12)) < (endMs - startMs) / box.width);

  await touch("touchStart", head.x - 20);
  for (let step = 1; step <= 6; step++) await touch("touchMove", head.x - 20 + 2 * step);
  await touch("touchEnd");
  await pictureOf(page, instantAt(head.x - 8));
  assert.ok(Math.abs((await asked()) - instantAt(head.x - 8)) < (endMs - startMs) / box.width);

  const askedBefore = await asked();
  const middle = box.x + box.width / 2;
  await touch("touchStart", middle - 20, middle + 20);
  for (let step = 1; step <= 5; step++) {
    await touch("touchMove", middle - 20 - 10 * step, middle + 20 + 10 * step);
  }
  await touch("touchEnd");
  await page.waitForFunction(
    (ms) => {
      const { startMs, endMs } = document.querySelector('[data-testid="timeline"]').dataset;
      return endMs - startMs < ms / 2;
    },
    endMs - startMs,
    SLOW,
  );
  assert.equal(await asked(), askedBefore, "a pinch plays nothing");
  assert.deepEqual(complaints, []);
  await close();
});

test("days with footage are marked, and days are cut in a zone that the screen names", async () => {
  const { page, complaints, close } = await openDevice("Front door");
  const { devices } = await demo.query("{ devices(first: 1) { nodes { timeZone } } }");
  const zone = devices.nodes[0].timeZone;
  assert.match(await page.getByTestId("zone").textContent(), new RegExp(`^${zone}`));
  const today = await page.getByTestId("day").getAttribute("data-date");
  assert.equal(today, new Date().toLocaleDateString("sv-SE", { timeZone: zone }));
  await page.getByTestId("day").click();
  const marked = page.locator(`.month-grid [data-date="${today}"].covered`);
  await marked.waitFor(SLOW);
  await screenshot(page, "day-picker");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Day before" }).click();
  await page.getByText("No footage in this span.").waitFor(SLOW);
  const timeline = page.getByTestId("timeline");
  const dayMs =
    Number(await timeline.getAttribute("data-end-ms")) -
    Number(await timeline.getAttribute("data-start-ms"));
  assert.ok([23, 24, 25].includes(dayMs / 3_600_000), `a day of ${dayMs} ms`);
  assert.deepEqual(complaints, []);
  await close();
});

test("a name and a password sign in, and signing out ends it", async () => {
  demo.addUser("anna", "correct horse battery staple");
  const { page, close } = await openPage(browser);
  await page.goto(demo.origin);
  await page.getByLabel("Name").fill("anna", SLOW);
  await page.getByLabel("Password").fill("wrong");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByText("Name and password do not match.").waitFor(SLOW);
  await screenshot(page, "sign-in");
  await page.getByLabel("Password").fill("correct horse battery staple");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("link", { name: "Front door" }).waitFor(SLOW);
  await page.reload();
  await page.getByRole("link", { name: "Front door" }).waitFor(SLOW);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Password").waitFor(SLOW);
  await page.reload();
  await page.getByLabel("Password").waitFor(SLOW);
  await close();
});

test("GraphiQL asks as the signed-in viewer and needs nothing from elsewhere", async () => {
  const { page, complaints, close } = await openPage(browser);
  const elsewhere = [];
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith("http") && origin !== demo.origin) elsewhere.push(request.url());
  });
  await page.goto(demo.url);
  await page.getByRole("link", { name: "Front door" }).waitFor(SLOW);
  await page.goto(`${demo.origin}/graphiql`);
  await page.locator(".graphiql-query-editor", { hasText: "devices(first: $first)" }).waitFor(SLOW);
  await page.getByRole("button", { name: /Execute query/ }).click(SLOW);
  const result = page.locator(".result-window", { hasText: "{" });
  await result.waitFor(SLOW);
  assert.match(await result.innerText(), /Front door/);
  await screenshot(page, "graphiql");
  assert.deepEqual(elsewhere, []);
  assert.deepEqual(complaints, []);
  await close();
});

test("every screen fits 360 px and a desktop, light and dark", async () => {
  for (const [width, height] of [
    [360, 740],
    [1280, 900],
  ]) {
    for (const colorScheme of ["light", "dark"]) {
      const name = `${width}-${colorScheme}`;
      const options = { viewport: { width, height }, colorScheme, hasTouch: width < 500 };
      const { page, close } = await openPage(browser, options);
      const fits = async (screen) => {
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${screen} is ${wide} px wide at ${name}`);
        await screenshot(page, `${screen}-${name}`);
      };
      await page.goto(demo.url);
      await page.getByText("Last picture").first().waitFor(SLOW);
      await fits("devices");
      await page.getByRole("link", { name: "Garage" }).click();
      await page.waitForSelector('[data-testid="player"][data-phase="playing"]', SLOW);
      await page.getByTestId("live-indicator").waitFor(SLOW);
      await fits("device");
      await page.getByTestId("day").click();
      await page.locator(".month-grid .covered").first().waitFor(SLOW);
      await fits("day-picker");
      await page.getByRole("button", { name: "Sign out" }).click();
      await page.getByLabel("Password").waitFor(SLOW);
      await fits("sign-in");
      await close();
    }
  }
});

test("playback goes on over a gap of 40 s without a stall", async () => {
  let gap;
  for (let tries = 0; tries < 90 && !gap; tries++) {
    gap = await gapOf("Garden");
    if (!gap) await sleep(2_000);
  }
  assert.ok(gap, "the camera paused");
  const { page, complaints, close } = await openDevice("Garden");
  const askedMs = await press(page, gap.startMs - 6_000);
  const first = await pictureOf(page, askedMs);
  await page.waitForFunction((ms) => window.pictures.at(-1).ms >= ms, gap.endMs + 3_000, SLOW);
  const pictures = (await picturesSince(page, first.at)).filter(
    ({ ms }) => ms >= askedMs - 1000 && ms <= gap.endMs + 3_000,
  );
  const standstill = longestStandstill(pictures);
  console.log(`over a gap of ${gap.endMs - gap.startMs} ms: longest standstill ${standstill} ms`);
  assert.ok(!pictures.some(({ ms }) => ms > gap.startMs + 200 && ms < gap.endMs - 200));
  assert.ok(standstill < STANDSTILL_BOUND_MS);
  await screenshot(page, "gap");

  const middleMs = (gap.startMs + gap.endMs) / 2;
  await press(page, middleMs);
  const next = await pictureOf(page, gap.endMs);
  console.log(`pressed in the gap: the next footage after ${Math.round(next.afterMs)} ms`);
  assert.deepEqual(complaints, []);
  await close();
});
