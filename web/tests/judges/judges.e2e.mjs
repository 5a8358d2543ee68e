// What other people's readers find in what is played equals what a camera sent: recordings go in
// by `lookback camera`, and every playlist, segment and file goes before judges.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { record, startService } from "../players/service.mjs";
import { fetchBytes, readDash, readGrowing, readHls, readHlsTs } from "./manifests.mjs";
import * as tools from "./tools.mjs";

const LENGTH_S = 12;
const FPS = 25;
const WIDTH = 320;
const HEIGHT = 180;
const OUTAGE_S = 30;
/** Sound comes in packets, so that it may begin before the first picture and end after the last. */
const SOUND_S = 0.05;

const H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "3", "-g", "50"];
const H265 = ["-c:v", "libx265", "-x265-params", "log-level=error:keyint=50:bframes=3"];
const G711 = ["-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1"];

/**
 * `times` is how often the recording is sent, with an outage between; `played` is the name of the
 * sound where browsers are given another codec than was sent.
 */
const CASES = [
  {
    name: "H.264 with B-frames and AAC",
    recording: { video: H264, audio: ["-c:a", "aac"] },
    protocols: ["HLS", "HLS_TS", "DASH", "MP4"],
  },
  {
    name: "an outage",
    recording: { video: H264, audio: ["-c:a", "aac"] },
    times: 2,
    protocols: ["HLS", "HLS_TS", "DASH", "MP4"],
  },
  { name: "H.265", recording: { video: H265 }, protocols: ["HLS", "DASH", "MP4"] },
  {
    name: "H.264 and G.711",
    recording: { video: H264, audio: G711 },
    protocols: ["HLS", "DASH", "MP4"],
    played: "flac",
  },
];

/** Playlists and manifests that grow while they are read; those of `LIVE` HLS list parts. */
const GROWING = [
  { protocol: "HLS", mode: "LIVE", hasParts: true },
  { protocol: "HLS_TS", mode: "LIVE" },
  { protocol: "DASH", mode: "LIVE" },
  { protocol: "HLS", mode: "LIVE_REPLAY" },
  { protocol: "DASH", mode: "LIVE_REPLAY" },
];
/** How much is kept before it is read, and the least of it that must be listed. */
const KEPT_MS = 6_000;
const LISTED_S = 4;
const ARRIVES_MS = 60_000;

const READERS = { HLS: readHls, HLS_TS: readHlsTs, DASH: readDash };

let service;
let installed;
before(async () => {
  installed = tools.install();
  service = await startService();
});
after(() => service?.stop());

/** Holds a length to that of the recording, so many times. */
function checkLength(seconds, times, what) {
  const off = Math.abs(seconds - times * LENGTH_S);
  assert.ok(off <= times * SOUND_S, `${what} lasts ${seconds} s`);
}

/** Holds one file, of one track or of all, to the codecs it should have; answers its tracks. */
function checkFile(media, extension, codecs, times) {
  const file = join(service.dir, `judged.${extension}`);
  writeFileSync(file, media);
  if (extension === "mp4") {
    const tracks = tools.mp4box(media);
    assert.deepEqual(
      tracks.map(({ codec }) => codec),
      codecs,
    );
    for (const { codec, seconds } of tracks) checkLength(seconds, times, codec);
  }
  // G.711 is no codec of any format that shaka-packager makes, so that it has no name for it.
  if (!codecs.includes("ulaw")) {
    assert.deepEqual(tools.packager(installed.packager, file), codecs);
  }
  const found = tools.probe(tools.SYSTEM_FFPROBE, file);
  assert.deepEqual(tools.probe(installed.ffprobe, file), found);
  return found;
}

/** Holds what a session lists, and its media, to what was sent; answers the tracks of the media. */
async function checkListed(protocol, { url, codecs }, sent, times) {
  const { tracks, ...described } = await READERS[protocol](url);
  for (const { seconds } of tracks) checkLength(seconds, times, protocol);
  const names = codecs.split(",");
  if (protocol === "HLS_TS") return checkFile(tracks[0].media, "ts", names, times);
  const resolution = { width: WIDTH, height: HEIGHT };
  assert.deepEqual(described, { codecs, resolution, frameRate: FPS });
  assert.equal(tracks.length, sent.length);
  return tracks.flatMap(({ media }, index) => checkFile(media, "mp4", [names[index]], times));
}

/** What both ages of ffprobe find at an address, as players would go about it. */
function checkAddress(protocol, url, sent, times) {
  if (protocol === "DASH") {
    // ffmpeg reads one period of a manifest, and stops when the first of its tracks ends; the newer
    // one, as it is built here, reads no manifest.
    if (times > 1) return;
    const kinds = sent.map((track) => ("hz" in track ? "a" : "v"));
    const one = (kind) => tools.probe(tools.SYSTEM_FFPROBE, url, ["-select_streams", kind]);
    assert.deepEqual(kinds.flatMap(one), sent);
    return;
  }
  for (const ffprobe of [tools.SYSTEM_FFPROBE, installed.ffprobe]) {
    assert.deepEqual(tools.probe(ffprobe, url), sent, ffprobe);
  }
}

for (const { name, recording, times = 1, protocols, played } of CASES) {
  test(name, async (context) => {
    const device = name.replace(/\W+/g, "-");
    const file = join(service.dir, `${device}.mkv`);
    record(file, { lengthS: LENGTH_S, size: `${WIDTH}x${HEIGHT}`, fps: FPS, ...recording });
    const beginMs = Date.now() - 60_000 - times * (LENGTH_S + OUTAGE_S) * 1_000;
    for (let time = 0; time < times; time++) {
      service.send(device, file, beginMs + time * (LENGTH_S + OUTAGE_S) * 1_000);
    }
    const recorded = tools.probe(tools.SYSTEM_FFPROBE, file);
    assert.equal(recorded[0].packets, LENGTH_S * FPS);
    const pictures = tools.decoded(file, times, service.dir);
    const stream = await service.stream(device);
    for (const protocol of protocols) {
      await context.test(protocol, async () => {
        const session = await service.session({
          streamId: stream.id,
          protocol,
          start: stream.earliest,
          end: stream.latest,
        });
        const sent = recorded.map(({ packets, ...track }) =>
          played && protocol !== "MP4" && "hz" in track
            ? { ...track, codec: played }
            : { ...track, packets: packets * times },
        );
        const found =
          protocol === "MP4"
            ? checkFile(await fetchBytes(session.url), "mp4", session.codecs.split(","), times)
            : await checkListed(protocol, session, sent, times);
        assert.deepEqual(found, sent);
        checkAddress(protocol, session.url, sent, times);
        // Now and then GStreamer 1.22 waits for itself between the periods of a manifest.
        if (protocol === "DASH" && times > 1) return;
        const seen = tools.gstreamer(session.url, service.dir);
        assert.equal(seen.pictures, pictures, "GStreamer sees other pictures");
        const sound = sent.find((track) => "hz" in track);
        if (sound) checkLength(seen.samples / sound.hz, times, "GStreamer's sound");
        else assert.equal(seen.samples, 0);
      });
    }
  });
}

// GStreamer 1.22 and ffmpeg do not play on where the codec changes; web/tests/players has those who do.
test("a change of codec is listed", async (context) => {
  const videos = [H264, H265];
  for (const [index, video] of videos.entries()) {
    const file = join(service.dir, `codec-${index}.mkv`);
    const size = `${WIDTH}x${HEIGHT}`;
    record(file, { lengthS: LENGTH_S, size, fps: FPS, video, audio: ["-c:a", "aac"] });
    service.send("codecs", file, Date.now() - 60_000 + index * LENGTH_S * 1_000);
  }
  const stream = await service.stream("codecs");
  for (const protocol of ["HLS", "DASH"]) {
    await context.test(protocol, async () => {
      const { url, codecs } = await service.session({
        streamId: stream.id,
        protocol,
        start: stream.earliest,
        end: stream.latest,
      });
      assert.match(codecs, /^avc1\.[0-9a-f]{6},mp4a\.40\.2,hvc1(\.[0-9A-Z]+)+$/);
      const { tracks } = await READERS[protocol](url);
      assert.equal(tracks.length, 2);
      for (const { seconds } of tracks) checkLength(seconds, videos.length, protocol);
    });
  }
});

test("what Kinesis lists", async (context) => {
  const device = "kinesis";
  const file = join(service.dir, `${device}.mkv`);
  const size = `${WIDTH}x${HEIGHT}`;
  record(file, { lengthS: LENGTH_S, size, fps: FPS, video: H264, audio: ["-c:a", "aac"] });
  service.send(device, file, Date.now() - 60_000);
  const stream = await service.stream(device);
  for (const protocol of ["HLS", "DASH"]) {
    await context.test(protocol, async () => {
      const { tracks } = await READERS[protocol](await service.kinesisAddress(protocol, stream));
      for (const { seconds } of tracks) checkLength(seconds, 1, protocol);
    });
  }
});

test("what grows", async (context) => {
  const file = join(service.dir, "growing.mkv");
  const size = `${WIDTH}x${HEIGHT}`;
  record(file, { lengthS: LENGTH_S, size, fps: FPS, video: H264, audio: ["-c:a", "aac"] });
  service.keepSending("growing", file);
  const sinceMs = Date.now();
  let stream;
  while (!stream?.latest || Date.parse(stream.latest) - Date.parse(stream.earliest) < KEPT_MS) {
    assert.ok(Date.now() - sinceMs < ARRIVES_MS, "nothing arrives");
    await sleep(200);
    stream = await service.stream("growing");
  }
  for (const { protocol, mode, hasParts = false } of GROWING) {
    await context.test(`${protocol} ${mode}`, async () => {
      const { url } = await service.session({
        streamId: stream.id,
        protocol,
        mode,
        start: mode === "LIVE_REPLAY" ? stream.earliest : undefined,
      });
      for (const { seconds, ended, parts } of await readGrowing(protocol, url)) {
        assert.ok(!ended, "says that it has ended");
        assert.ok(seconds >= LISTED_S, `lists ${seconds} s`);
        assert.equal(parts > 0, hasParts, `${parts} parts`);
      }
    });
  }
});
