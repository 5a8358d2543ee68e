// Reads the clock that demo cameras draw into their picture: 45 blocks along the bottom edge, the
// milliseconds since the epoch and a parity bit. Their layout is told in
// api/src/commands/demo/scene.rs.

/**
 * Begins to note every picture that the page shows, as `{ at, ms, session }`: the page's time, the
 * clock read from the picture, and the session that played it.
 */
export async function watchPictures(page) {
  await page.evaluate(() => {
    const BITS = 45;
    const SAMPLE = 4;
    const canvas = document.createElement("canvas");
    canvas.width = BITS * SAMPLE;
    canvas.height = SAMPLE;
    const context = canvas.getContext("2d", { willReadFrequently: true });

    function readClock(video) {
      const { videoWidth: width, videoHeight: height } = video;
      const side = 2 * Math.floor(width / 90);
      if (side === 0) return null;
      context.drawImage(video, 0, height - side, BITS * side, side, 0, 0, canvas.width, SAMPLE);
      const { data } = context.getImageData(0, 0, canvas.width, SAMPLE);
      let ms = 0;
      let white = 0;
      for (let bit = 0; bit < BITS; bit++) {
        const at = (2 * canvas.width + bit * SAMPLE + 2) * 4;
        const isWhite = data[at] > 127;
        if (isWhite) white++;
        if (bit < BITS - 1) ms = ms * 2 + (isWhite ? 1 : 0);
      }
      return white % 2 === 0 && white > 0 ? ms : null;
    }

    const notes = [];
    window.pictures = notes;
    document.addEventListener(
      "pointerdown",
      () => {
        window.pressedAt = performance.now();
      },
      true,
    );
    const look = () => {
      const video = document.querySelector('[data-testid="video"]');
      if (video && video.readyState >= 2) {
        const ms = readClock(video);
        if (ms !== null && ms !== notes.at(-1)?.ms) {
          notes.push({ at: performance.now(), ms, session: video.dataset.sessionId });
          if (notes.length > 20_000) notes.shift();
        }
      }
      requestAnimationFrame(look);
    };
    look();
  });
}

/** The pictures noted since a time of the page's clock. */
export function picturesSince(page, at = 0) {
  return page.evaluate((since) => window.pictures.filter((note) => note.at >= since), at);
}

/** The newest picture's clock, once there is one. */
export async function newestPicture(page) {
  await page.waitForFunction(() => window.pictures.length > 0, null, { timeout: 60_000 });
  return page.evaluate(() => window.pictures.at(-1).ms);
}

/** The longest time that one picture stood, in milliseconds. */
export function longestStandstill(pictures) {
  let longest = 0;
  for (let i = 1; i < pictures.length; i++) {
    longest = Math.max(longest, pictures[i].at - pictures[i - 1].at);
  }
  return Math.round(longest);
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
