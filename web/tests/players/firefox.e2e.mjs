// Players in Firefox ESR, the one browser here that decodes H.265.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CASES, DASH, FPS } from "./cases.mjs";
import { servePage } from "./page.mjs";
import { record, startService } from "./service.mjs";

/** Without a new picture for this long, a player is stuck. */
const PATIENCE_MS = 8_000;
/** A browser that starts on a busy machine, and a player that is stuck at its end. */
const DEADLINE_MS = 90_000;
/** A machine that does other things beside may hold a player up; a fault of ours does so again. */
const ATTEMPTS = 3;
const PLAYERS = ["hls.js", "shaka HLS", "video.js HLS", "dash.js", "shaka DASH"];

let service;
let page;
before(async () => {
  service = await startService();
  page = await servePage();
});
after(async () => {
  page?.stop();
  await service?.stop();
});

/** Plays in a Firefox of its own; answers what was seen. */
async function watch(request) {
  const profile = mkdtempSync(join(service.dir, "firefox-"));
  writeFileSync(
    join(profile, "user.js"),
    'user_pref("media.autoplay.default", 0);\nuser_pref("browser.shell.checkDefaultBrowser", false);\n',
  );
  const { url, seen } = page.alone({ patienceMs: PATIENCE_MS, ...request });
  const firefox = spawn("firefox-esr", ["--headless", "--no-remote", "--profile", profile, url], {
    stdio: "ignore",
  });
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${request.player}: no word`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([seen, late]);
  } finally {
    clearTimeout(timer);
    const ended = new Promise((resolve) => firefox.once("exit", resolve));
    firefox.kill("SIGKILL");
    await ended;
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

const [plain] = CASES;
const bFrames = CASES.find(({ name }) => name === "B frames");
const H265 = ["-c:v", "libx265", "-preset", "ultrafast", "-g", "50", "-x265-params", "log-level=1"];
const hevc = { name: "H.265", playsS: 8, recordings: [{ ...plain.recordings[0], video: H265 }] };

for (const { name, recordings, playsS } of [plain, bFrames, hevc]) {
  test(`${name} in Firefox`, async () => {
    const device = `firefox-${name.replace(/\W+/g, "-")}`;
    const beginMs = Date.now() - (playsS + 60) * 1_000;
    const file = join(service.dir, `${device}.mkv`);
    record(file, recordings[0]);
    service.send(device, file, beginMs);
    const stream = await service.stream(device);
    const faults = async (player) => {
      const { url, codecs } = await service.session({
        streamId: stream.id,
        protocol: DASH.includes(player) ? "DASH" : "HLS",
        start: new Date(beginMs).toISOString(),
        end: stream.latest,
      });
      assert.match(codecs, name === "H.265" ? /^hvc1\./ : /^avc1\./);
      const { errors, jumps, ended, duration } = await watch({ player, url });
      const found = [...errors, ...jumps];
      if (!ended) found.push("did not end");
      const offS = Math.abs(duration - playsS);
      if (!(offS <= 1 / FPS)) found.push(`lasts ${duration} s instead of ${playsS} s`);
      return found;
    };
    let left = PLAYERS;
    let report = {};
    for (let attempt = 0; attempt < ATTEMPTS && left.length > 0; attempt++) {
      const found = await Promise.all(left.map(faults));
      report = Object.fromEntries(left.map((player, n) => [player, found[n]]));
      left = left.filter((player) => report[player].length > 0);
    }
    assert.deepEqual(left, [], JSON.stringify(report));
  });
}
