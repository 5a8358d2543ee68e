// What players are to play, as data. A case is footage, cut into recordings that are sent one after
// the other, and what a player must have shown of it at the end.

/** Pictures a second, and their size, unless a recording says otherwise. */
export const FPS = 25;
const SMALL = "320x180";

const video = (...args) => ["-c:v", "libx264", "-preset", "ultrafast", "-g", "50", ...args];
const H264 = video("-bf", "0");
const SLIDES = video("-g", "10", "-bf", "0");
const AAC = ["-c:a", "aac", "-ar", "48000", "-ac", "1"];
const G711 = ["-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1"];

/** `atS`: seconds after the case's beginning, by the camera's clock; `args`: for ffmpeg. */
const recording = (atS, lengthS, more = {}) => ({
  atS,
  lengthS,
  size: SMALL,
  fps: FPS,
  video: H264,
  audio: AAC,
  ...more,
});

export const HLS = ["hls.js", "shaka HLS", "video.js HLS", "Chromium HLS"];
export const DASH = ["dash.js", "shaka DASH", "video.js DASH"];
export const PLAYERS = [...HLS, ...DASH];
export const MP4 = ["Chromium MP4"];
/** They leave where to begin to the page: Chromium reads no EXT-X-START (crbug.com/40057824). */
export const TOLD_THE_START = [...DASH, "Chromium HLS"];

/**
 * `playsS` is how long it plays: the footage without its holes. `soak`: only in long runs.
 * `players`, where it is not for all of `PLAYERS`.
 */
export const CASES = [
  { name: "plain", recordings: [recording(0, 8)], playsS: 8 },
  {
    name: "outages of 0.5 s",
    recordings: [recording(0, 4), recording(4.5, 4), recording(9, 4)],
    playsS: 12,
  },
  {
    name: "outage of 10 s",
    recordings: [recording(0, 4), recording(14, 4)],
    playsS: 8,
  },
  {
    name: "outage of 300 s",
    recordings: [recording(0, 4), recording(304, 4)],
    playsS: 8,
  },
  {
    name: "clock set back",
    recordings: [recording(0, 6), recording(5, 4)],
    playsS: 10,
  },
  {
    name: "other resolution",
    recordings: [recording(0, 4), recording(4, 4, { size: "640x360" })],
    playsS: 8,
  },
  {
    name: "other codec parameters",
    recordings: [
      recording(0, 4, { video: video("-bf", "0", "-profile:v", "baseline") }),
      recording(4, 4, { video: video("-preset", "fast", "-bf", "0", "-profile:v", "high") }),
    ],
    playsS: 8,
  },
  {
    name: "sound begins",
    recordings: [recording(0, 4, { audio: null }), recording(4, 4)],
    playsS: 8,
  },
  {
    name: "sound comes and goes",
    recordings: [recording(0, 4), recording(4, 4, { audio: null }), recording(8, 4)],
    playsS: 12,
  },
  { name: "B frames", recordings: [recording(0, 8, { video: video("-bf", "3") })], playsS: 8 },
  {
    name: "B frames and an outage",
    recordings: [
      recording(0, 4, { video: video("-bf", "3") }),
      recording(14, 4, { video: video("-bf", "3") }),
    ],
    playsS: 8,
  },
  {
    name: "variable frame rate",
    recordings: [recording(0, 8, { filter: "select='gte(mod(n,50),25)+not(mod(n,5))'" })],
    playsS: 8,
    frames: 120,
  },
  { name: "sound only", recordings: [recording(0, 8, { video: null })], playsS: 8 },
  { name: "pictures only", recordings: [recording(0, 8, { audio: null })], playsS: 8 },
  { name: "G.711", recordings: [recording(0, 8, { audio: G711 })], playsS: 8 },
  { name: "start offset", recordings: [recording(0, 8)], fromS: 3, playsS: 8 },
  ...[
    ["AAC", SLIDES, AAC],
    ["G.711", SLIDES, G711],
    ["sound only", null, AAC],
  ].map(([sound, pictures, audio]) => ({
    name: `a file of more than an hour: ${sound}`,
    recordings: [recording(0, 3_660, { fps: FPS / 5, size: "64x36", video: pictures, audio })],
    playsS: 3_660,
    seeks: [1_800, 3_654],
    players: MP4,
  })),
  {
    name: "a day of 2 s fragments",
    recordings: [
      recording(0, 86_400, { fps: 1, size: "64x36", video: video("-g", "2"), audio: null }),
    ],
    playsS: 86_400,
    seeks: [40_000, 86_390],
    soak: true,
  },
];

/** Of the cases, those that are also played from the addresses that Kinesis gives. */
export const KINESIS = [
  "plain",
  "outage of 10 s",
  "other resolution",
  "B frames and an outage",
  "pictures only",
];

/** Sent at the pace of a camera while players watch; `mode` as in GraphQL. */
export const GROWING = [
  { name: "live", mode: "LIVE", watchS: 12 },
  { name: "live replay", mode: "LIVE_REPLAY", backS: 20, watchS: 12 },
];
