// Playback over the ends of its sessions, with their life cut to 20 s.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { browser, demo, openPage, screenshot, withDemo } from "./demo.mjs";
import { longestStandstill, newestPicture, picturesSince, watchPictures } from "./picture.mjs";

const SLOW = { timeout: 60_000 };
const WATCH_MS = 45_000;
const STANDSTILL_BOUND_MS = 2_500;
/** A handover may show a frame again, and no more. */
const BACK_BOUND_MS = 200;

withDemo("[playback]\nmax_session_seconds = 20\n");

async function watch(page, what) {
  const since = await page.evaluate(() => performance.now());
  await sleep(WATCH_MS);
  const pictures = await picturesSince(page, since);
  const sessions = new Set(pictures.map(({ session }) => session)).size;
  const wentBackMs = Math.max(0, ...pictures.slice(1).map((note, i) => pictures[i].ms - note.ms));
  const standstill = longestStandstill(pictures);
  console.log(
    `${what}: ${sessions} sessions in ${WATCH_MS / 1000} s, longest standstill ${standstill} ms, ` +
      `at most ${wentBackMs} ms back`,
  );
  assert.ok(sessions >= 3, `${sessions} sessions`);
  assert.ok(standstill < STANDSTILL_BOUND_MS, `${standstill} ms without a new picture`);
  return wentBackMs;
}

test("playback goes on across renewals", async () => {
  const { page, close } = await openPage(browser);
  await page.goto(demo.url);
  await page.getByRole("link", { name: "Front door" }).click(SLOW);
  await page.waitForSelector('[data-testid="player"][data-phase="playing"]', SLOW);
  await watchPictures(page);
  await newestPicture(page);
  await watch(page, "live");

  const timeline = page.getByTestId("timeline");
  const box = await timeline.boundingBox();
  const startMs = Number(await timeline.getAttribute("data-start-ms"));
  const endMs = Number(await timeline.getAttribute("data-end-ms"));
  const wantedMs = (await newestPicture(page)) - 40_000;
  const x = box.x + ((wantedMs - startMs) / (endMs - startMs)) * box.width;
  await page.mouse.click(x, box.y + box.height / 2);
  await page.waitForFunction((ms) => window.pictures.at(-1).ms < ms, wantedMs + 5_000, SLOW);
  const wentBackMs = await watch(page, "recorded");
  assert.ok(wentBackMs <= BACK_BOUND_MS, `${wentBackMs} ms played twice`);
  await screenshot(page, "renewal");
  await close();
});
