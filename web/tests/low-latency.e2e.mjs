// Low-Latency HLS as any page gets it: hls.js with its defaults, and the clock that the demo's camera
// draws into its picture.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { browser, demo, openPage, withDemo } from "./demo.mjs";
import { longestStandstill, newestPicture, picturesSince, watchPictures } from "./picture.mjs";

const HLS = fileURLToPath(new URL("../node_modules/hls.js/dist/hls.min.js", import.meta.url));
/** Long enough for the start to be over. */
const SETTLING_MS = 5_000;
const WATCHED_MS = 15_000;
/** Ten times the goal: what is slower hangs. */
const BOUND_MS = 30_000;

withDemo();

/** The URL of a live session of the first camera, as soon as that sends. */
async function openLive() {
  const { devices } = await demo.query("{ devices(first: 1) { nodes { stream { id } } } }");
  const input = { streamId: devices.nodes[0].stream.id, mode: "LIVE" };
  for (const begun = Date.now(); Date.now() - begun < BOUND_MS; await sleep(500)) {
    const { playbackSession } = await demo.query(
      `query ($input: PlaybackSessionInput!) {
         playbackSession(input: $input) { ... on PlaybackSession { url } }
       }`,
      { input },
    );
    if (playbackSession.url) return playbackSession.url;
  }
  throw new Error("the camera does not send");
}

test("hls.js with its defaults is a few seconds behind the camera", async () => {
  const url = await openLive();
  const { page, close } = await openPage(browser);
  await page.setContent('<video data-testid="video" muted autoplay playsinline></video>');
  await page.addScriptTag({ path: HLS });
  await watchPictures(page);
  await page.evaluate((source) => {
    window.failures = [];
    const hls = new window.Hls();
    hls.on(window.Hls.Events.ERROR, (_, { details }) => window.failures.push(details));
    hls.on(window.Hls.Events.FRAG_LOADED, (_, { part }) => {
      window.partsLoaded = (window.partsLoaded ?? 0) + (part ? 1 : 0);
    });
    hls.loadSource(source);
    hls.attachMedia(document.querySelector("video"));
  }, url);
  await newestPicture(page);
  await sleep(SETTLING_MS);
  const from = await page.evaluate(() => performance.now());
  await sleep(WATCHED_MS);
  const [pictures, origin, parts, failures] = [
    await picturesSince(page, from),
    await page.evaluate(() => performance.timeOrigin),
    await page.evaluate(() => window.partsLoaded),
    await page.evaluate(() => window.failures),
  ];
  const behind = pictures.map(({ at, ms }) => origin + at - ms).sort((a, b) => a - b);
  const quantile = (share) => Math.round(behind[Math.floor((behind.length - 1) * share)]);
  console.log(
    `camera to canvas: ${quantile(0.5)} ms (median), ${quantile(0.95)} ms (95 of 100); ` +
      `${parts} parts; longest standstill ${longestStandstill(pictures)} ms; ${failures}`,
  );
  assert.ok(pictures.length > 50, `${pictures.length} pictures in ${WATCHED_MS} ms`);
  assert.ok(quantile(0.95) < BOUND_MS);
  assert.ok(parts > 10, `${parts} parts were loaded`);
  await close();
});
