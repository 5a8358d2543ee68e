// The player matrix: footage with everything that cameras do to it, in every player that runs in
// Chromium, over HLS and DASH. LOOKBACK_SOAK=1 also plays what takes minutes to make.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startBrowser } from "../demo.mjs";
import { CASES, DASH, FPS, GROWING, HLS, KINESIS, MP4, PLAYERS, TOLD_THE_START } from "./cases.mjs";
import { play, servePage } from "./page.mjs";
import { record, startService } from "./service.mjs";

const SOAK = Boolean(process.env.LOOKBACK_SOAK);
/** Without a new picture for this long, a player is stuck. */
const PATIENCE_MS = 8_000;
/** A machine that does other things beside may hold a player up; a fault of ours does so again. */
const ATTEMPTS = 3;
const FRAME_S = 1 / FPS;
/** Sound ends with its last packet, which may be this much behind the last picture of each run. */
const SOUND_S = { "Chromium HLS": FRAME_S };
/** Of a name, to run those cases only. */
const only = process.env.LOOKBACK_CASE && new RegExp(process.env.LOOKBACK_CASE);

let service;
let browser;
let page;
before(async () => {
  service = await startService();
  browser = await startBrowser();
  page = await servePage();
});
after(async () => {
  await browser?.close();
  page?.stop();
  await service?.stop();
});

const table = [];
after(() => {
  for (const row of table) console.log(row);
});

/** Plays in a page of its own; answers what was seen. */
async function watch(request) {
  const context = await browser.newContext();
  try {
    const opened = await context.newPage();
    await opened.goto(page.origin);
    return await opened.evaluate(play, { patienceMs: PATIENCE_MS, ...request });
  } finally {
    await context.close();
  }
}

/** What is wrong with what was seen; nothing where all is well. */
function faults(player, seen, expected) {
  const found = [...seen.errors];
  if (seen.stalls > 0) found.push(`${seen.stalls} stalls: ${seen.jumps.join(", ")}`);
  if (expected.watchS) return found;
  if (!seen.ended) found.push(`ended at ${seen.endS} s without saying so`);
  const offS = Math.abs(seen.duration - expected.playsS);
  const soundS = expected.soundS ?? SOUND_S[player] ?? 0;
  if (!(offS <= FRAME_S + 0.001 + expected.runs * soundS)) {
    found.push(`lasts ${seen.duration} s instead of ${expected.playsS} s`);
  }
  if (expected.frames && seen.frames < expected.frames - 2) {
    found.push(`${seen.frames} pictures instead of ${expected.frames}`);
  }
  if (expected.fromS && Math.abs(seen.firstS - expected.fromS) > 2 * FRAME_S) {
    found.push(`began at ${seen.firstS} s instead of ${expected.fromS} s`);
  }
  return found;
}

/** Plays in all players at once, again in those that had trouble. */
async function inEvery(name, players, request, expected) {
  let left = players;
  let report = {};
  for (let attempt = 0; attempt < ATTEMPTS && left.length > 0; attempt++) {
    if (attempt > 0) table.push(`${name}, try ${attempt}: ${JSON.stringify(report)}`);
    const seen = await Promise.all(left.map(async (player) => watch(await request(player))));
    report = {};
    left.forEach((player, index) => {
      const found = faults(player, seen[index], expected);
      if (found.length > 0) report[player] = found;
    });
    left = Object.keys(report);
  }
  const cells = players.map((player) => `${player}: ${report[player]?.join(" | ") ?? "ok"}`);
  table.push(`${name}\n    ${cells.join("\n    ")}`);
  assert.deepEqual(report, {});
}

const PROTOCOL = Object.fromEntries([
  ...HLS.map((player) => [player, "HLS"]),
  ...DASH.map((player) => [player, "DASH"]),
  ...MP4.map((player) => [player, "MP4"]),
]);
const protocolOf = (player) => PROTOCOL[player];
const deviceOf = (name) => name.replace(/\W+/g, "-");

/** Makes the recordings and sends them; answers when the case begins. */
function send(device, recordings) {
  const lengthS = Math.max(...recordings.map((one) => one.atS + one.lengthS));
  const beginMs = Date.now() - (lengthS + 60) * 1_000;
  recordings.forEach((one, index) => {
    const file = join(service.dir, `${device}-${index}.mkv`);
    record(file, one);
    service.send(device, file, beginMs + one.atS * 1_000);
  });
  return beginMs;
}

for (const one of CASES) {
  const { name, recordings, playsS, fromS, frames, seeks, soak, players = PLAYERS } = one;
  const isLeftOut = (soak && !SOAK) || only?.test(name) === false;
  test(name, { skip: isLeftOut }, async () => {
    const device = deviceOf(name);
    const beginMs = send(device, recordings);
    const stream = await service.stream(device);
    const startMs = beginMs + (fromS ?? 0) * 1_000;
    const request = async (player) => {
      const { url, startOffsetSeconds } = await service.session({
        streamId: stream.id,
        protocol: protocolOf(player),
        start: new Date(startMs).toISOString(),
        end: stream.latest,
      });
      const startS = fromS && TOLD_THE_START.includes(player) ? startOffsetSeconds : undefined;
      return { player, url, startS, seeks };
    };
    const cutS = fromS ? Math.floor(fromS / 2) * 2 : 0;
    const shown = recordings.every((one) => one.video) && !fromS && !seeks;
    await inEvery(name, players, request, {
      playsS: playsS - cutS,
      runs: recordings.length,
      fromS: fromS && fromS - cutS,
      frames: shown ? (frames ?? Math.round(playsS * FPS)) : 0,
    });
  });
}

for (const { name, recordings, playsS } of CASES.filter((one) => KINESIS.includes(one.name))) {
  const asked = `${name}, as Kinesis lists it`;
  test(asked, { skip: only?.test(asked) === false }, async () => {
    const device = deviceOf(asked);
    send(device, recordings);
    const stream = await service.stream(device);
    const request = async (player) => {
      const protocol = protocolOf(player);
      const more = protocol === "HLS" ? { DiscontinuityMode: "ON_DISCONTINUITY" } : {};
      return { player, url: await service.kinesisAddress(protocol, stream, more) };
    };
    // Kinesis states sound to last as long as its packets.
    await inEvery(asked, PLAYERS, request, { playsS, runs: recordings.length, soundS: FRAME_S });
  });
}

for (const { name, mode, backS, watchS } of GROWING) {
  test(name, { skip: only?.test(name) === false }, async () => {
    const device = deviceOf(name);
    const file = join(service.dir, `${device}.mkv`);
    const [{ recordings }] = CASES;
    record(file, { ...recordings[0], lengthS: 60 });
    service.keepSending(device, file);
    const sinceMs = Date.now();
    let stream;
    while (!stream?.latest || Date.parse(stream.latest) - Date.parse(stream.earliest) < 12_000) {
      assert.ok(Date.now() - sinceMs < 60_000, "nothing arrives");
      await sleep(500);
      stream = await service.stream(device);
    }
    const request = async (player) => {
      const { url } = await service.session({
        streamId: stream.id,
        protocol: protocolOf(player),
        mode,
        start: backS ? stream.earliest : undefined,
      });
      return { player, url, watchS };
    };
    await inEvery(name, PLAYERS, request, { watchS });
  });
}
