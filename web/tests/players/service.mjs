// A running `lookback serve` with footage in it, and the questions that a page asks of it.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { kinesis } from "./kinesis.mjs";

const binary =
  process.env.LOOKBACK_BIN ??
  fileURLToPath(new URL("../../../target/debug/lookback", import.meta.url));
/** A debug build on a busy machine is slow to start. */
const START_MS = 60_000;

/** Starts the service on a free port and an empty data directory. */
export async function startService() {
  const dir = mkdtempSync(join(tmpdir(), "lookback-players-"));
  const dataDir = join(dir, "data");
  const child = spawn(binary, ["serve", "--listen", "127.0.0.1:0", "--data-dir", dataDir], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (text) => {
    log = (log + text).slice(-20_000);
  });
  const origin = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not listening\n${log}`)), START_MS);
    child.once("exit", (code) => reject(new Error(`ended with ${code}\n${log}`)));
    createInterface(child.stdout).on("line", (line) => {
      const found = /listening on (http:\S+)/.exec(line);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[1]);
    });
  });
  const token = (role) =>
    run(binary, ["token", "--data-dir", dataDir, "--role", role]).stdout.trim();
  const accessKey = run(binary, ["access-key", "--data-dir", dataDir]).stdout;
  const call = kinesis(origin, JSON.parse(accessKey));
  const viewer = token("viewer");
  const manager = token("manager");
  const cameras = new Set();

  async function ask(query, variables) {
    const response = await fetch(`${origin}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${viewer}` },
      body: JSON.stringify({ query, variables }),
    });
    const answer = await response.json();
    if (answer.errors) throw new Error(JSON.stringify(answer.errors));
    return answer.data;
  }

  const camera = (device, args) => ["camera", "--endpoint", origin, "--device", device, ...args];
  const env = { ...process.env, LOOKBACK_TOKEN: manager };
  return {
    dir,
    ask,
    /** Sends a file at once, as recorded from `startMs` on. */
    send(device, file, startMs) {
      const start = new Date(startMs).toISOString();
      run(binary, camera(device, ["--fast", "--start", start, file]), { env });
    },
    /** Sends a file over and over, at its own pace, until the service stops. */
    keepSending(device, file) {
      const sending = spawn(binary, camera(device, ["--loop", file]), { env, stdio: "ignore" });
      cameras.add(sending);
    },
    async stream(device) {
      const found = await ask(
        "query ($ref: DeviceRef!) { device(ref: $ref) { stream { id mediaStreamName earliest latest } } }",
        { ref: { externalId: device } },
      );
      return found.device?.stream;
    },
    async session(input) {
      const { playbackSession } = await ask(
        `query ($input: PlaybackSessionInput!) { playbackSession(input: $input) { __typename
           ... on PlaybackSession { url startOffsetSeconds codecs gaps { range { start end } } }
           ... on MediaUnavailable { code message } } }`,
        { input },
      );
      if (playbackSession.__typename !== "PlaybackSession") {
        throw new Error(`no session: ${JSON.stringify(playbackSession)}`);
      }
      return playbackSession;
    },
    /** The address that Kinesis gives to play a finished range; `protocol` is HLS or DASH. */
    async kinesisAddress(protocol, { mediaStreamName, earliest, latest }, more = {}) {
      const seconds = (time) => Date.parse(time) / 1_000;
      const answer = await call(`get${protocol}StreamingSessionURL`, {
        StreamName: mediaStreamName,
        PlaybackMode: "ON_DEMAND",
        [`${protocol}FragmentSelector`]: {
          FragmentSelectorType: "PRODUCER_TIMESTAMP",
          TimestampRange: { StartTimestamp: seconds(earliest), EndTimestamp: seconds(latest) },
        },
        ...more,
      });
      return answer[`${protocol}StreamingSessionURL`];
    },
    async stop() {
      for (const sending of cameras) sending.kill("SIGKILL");
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Makes a recording of a test picture and a tone. */
export function record(file, { lengthS, size, fps, video, audio, filter }) {
  const source = (kind, text) => (kind ? ["-f", "lavfi", "-i", text] : []);
  run("ffmpeg", [
    ...["-v", "error", "-y"],
    ...source(video, `testsrc2=size=${size}:rate=${fps}`),
    ...source(audio, "sine=frequency=440:sample_rate=48000"),
    ...["-t", String(lengthS)],
    ...(video ? ["-pix_fmt", "yuv420p", ...video] : []),
    ...(filter ? ["-vf", filter, "-fps_mode", "vfr"] : []),
    ...(audio ?? []),
    file,
  ]);
}

function run(program, args, options = {}) {
  const done = spawnSync(program, args, { encoding: "utf8", ...options });
  if (done.status !== 0) throw new Error(`${program} ${args.join(" ")}: ${done.stderr}`);
  return done;
}
