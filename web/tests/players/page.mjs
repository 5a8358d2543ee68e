// A page that plays a session in one of the players, and a report of what became of it.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const SCRIPTS = {
  "/hls.js": "hls.js/dist/hls.min.js",
  "/shaka.js": "shaka-player/dist/shaka-player.compiled.js",
  "/video.js": "video.js/dist/video.min.js",
  "/dash.js": "dashjs/dist/modern/umd/dash.all.min.js",
};

const PAGE = '<!doctype html><video id="video" muted playsinline></video>';

/**
 * Serves the page and the players from this machine. A page below `/alone/` plays by itself what
 * `alone` was given, and posts what was seen: for browsers that take no orders.
 */
export async function servePage() {
  const modules = new URL("../../node_modules/", import.meta.url);
  const plays = new Map();
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://page").pathname;
    const script = SCRIPTS[path];
    const playing = plays.get(path);
    if (playing && request.method === "POST") {
      const parts = [];
      for await (const part of request) parts.push(part);
      response.end();
      playing.seen(JSON.parse(Buffer.concat(parts)));
    } else if (playing) {
      response.setHeader("content-type", "text/html");
      response.end(`${PAGE}<script type="module">
        const seen = await (${play})(${JSON.stringify(playing.request)});
        await fetch(location, { method: "POST", body: JSON.stringify(seen) });
      </script>`);
    } else if (script) {
      response.setHeader("content-type", "text/javascript");
      response.end(readFileSync(fileURLToPath(new URL(script, modules))));
    } else {
      response.setHeader("content-type", "text/html");
      response.end(PAGE);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return {
    origin,
    /** An address that plays `request`, and what will have been seen of it. */
    alone(request) {
      const path = `/alone/${plays.size}`;
      const seen = new Promise((resolve) => plays.set(path, { request, seen: resolve }));
      return { url: origin + path, seen };
    },
    stop: () => server.close(),
  };
}

/**
 * Runs in the page: plays `url` and answers what was seen once it ended, failed, stood still for
 * `patienceMs`, or played for `watchS`.
 */
export async function play({ player, url, startS, watchS, seeks = [], patienceMs }) {
  const video = document.getElementById("video");
  const seen = {
    stalls: 0,
    errors: [],
    ended: false,
    firstS: null,
    playedS: 0,
    duration: null,
    frames: 0,
    jumps: [],
  };
  const load = (src) =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${src} was not loaded`));
      script.src = src;
      document.head.append(script);
    });
  const fail = (error) => {
    if (seen.errors.length < 10) seen.errors.push(String(error).slice(0, 300));
  };
  let isPlaying = false;
  let isSeeking = false;
  let isOver;
  const over = new Promise((resolve) => {
    isOver = resolve;
  });
  let lastProgressAt = performance.now();
  let lastS = null;
  /** Where sound begins a packet after the pictures, some step over that. */
  const atStart = () => seen.playedS < 0.1;
  const atEnd = () => Number.isFinite(video.duration) && video.duration - video.currentTime < 0.3;
  video.addEventListener("playing", () => {
    isPlaying = true;
    isSeeking = false;
    seen.firstS ??= video.currentTime;
  });
  video.addEventListener("waiting", () => {
    if (isPlaying && !isSeeking && !atStart() && !atEnd()) {
      seen.stalls += 1;
      seen.jumps.push(`waiting at ${video.currentTime.toFixed(3)}`);
    }
  });
  video.addEventListener("seeking", () => {
    if (isPlaying && !isSeeking && !atStart()) {
      seen.stalls += 1;
      seen.jumps.push(`sought to ${video.currentTime.toFixed(3)} from ${lastS?.toFixed(3)}`);
    }
  });
  video.addEventListener("error", () => fail(video.error?.message ?? "the element failed"));
  video.addEventListener("ended", () => {
    seen.ended = true;
    isOver();
  });
  setInterval(() => {
    const nowS = video.currentTime;
    if (lastS !== null && nowS > lastS && isPlaying) {
      if (!isSeeking) seen.playedS += nowS - lastS;
      lastProgressAt = performance.now();
    }
    lastS = nowS;
    if (performance.now() - lastProgressAt > patienceMs) {
      fail(`stood still at ${nowS.toFixed(3)}`);
      isOver();
    }
    if (watchS && seen.playedS > watchS) isOver();
    if (seeks.length > 0 && seen.playedS > 4) {
      isSeeking = true;
      seen.playedS = 0;
      video.currentTime = seeks.shift();
    }
  }, 50);

  const start = startS ?? undefined;
  const players = {
    "hls.js": async () => {
      await load("/hls.js");
      const hls = new Hls({ lowLatencyMode: false });
      hls.on(Hls.Events.ERROR, (_, data) => {
        fail(`${data.type} ${data.details} ${data.error?.message ?? ""}`);
      });
      hls.loadSource(url);
      hls.attachMedia(video);
    },
    shaka: async () => {
      await load("/shaka.js");
      shaka.polyfill.installAll();
      const shown = new shaka.Player();
      shown.addEventListener("error", ({ detail }) => fail(`${detail.code} ${detail.data}`));
      await shown.attach(video);
      await shown.load(url, start);
    },
    "video.js": async () => {
      await load("/video.js");
      const shown = videojs(video, { html5: { vhs: { overrideNative: true } } });
      shown.on("error", () => fail(shown.error()?.message));
      shown.src({
        src: url,
        type: url.includes(".mpd") ? "application/dash+xml" : "application/x-mpegURL",
      });
      if (start) shown.one("loadedmetadata", () => shown.currentTime(start));
    },
    "dash.js": async () => {
      await load("/dash.js");
      const shown = dashjs.MediaPlayer().create();
      shown.updateSettings({ debug: { logLevel: 0 } });
      shown.on("error", ({ error }) => fail(`${error?.code} ${error?.message ?? error}`));
      // Asks for a growing manifest again only from a play() on that it saw.
      shown.initialize(video, url, true, start);
    },
    Chromium: async () => {
      video.src = url;
      if (start) video.currentTime = start;
    },
  };
  const name = player.replace(/ (HLS|DASH|MP4)$/, "");
  const begin = async () => {
    await players[name]();
    if (name !== "dash.js") await video.play();
  };
  begin().catch((error) => {
    // Another source was set meanwhile: the player plays on by itself.
    if (error.name === "AbortError") video.autoplay = true;
    else fail(error.code ? `${error.code} ${error.data}` : error);
  });
  await over;
  seen.duration = video.duration;
  seen.endS = video.currentTime;
  seen.frames = video.getVideoPlaybackQuality().totalVideoFrames;
  return seen;
}
