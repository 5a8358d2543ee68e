/**
 * Between a player's media time and the camera's clock. A playlist collapses gaps: its media time
 * runs on where the camera paused, while each fragment's name, `{start_ms}-…`, tells when it was
 * recorded. Where names tell nothing `EXT-X-PROGRAM-DATE-TIME` does (RFC 8216 §4.3.2.6); it is off by
 * up to a second behind short breaks, for players that would stop there.
 */
export interface PlacedFragment {
  /** As the playlist names it. */
  relurl?: string;
  /** Media time of its first picture, in seconds. */
  start: number;
  /** In seconds. */
  duration: number;
  /** Capture time of its first picture, in milliseconds since the epoch. */
  programDateTime: number | null;
}

/** The instant recorded at a media time; null where the playlist does not tell. */
export function wallAt(fragments: readonly PlacedFragment[], mediaSeconds: number): number | null {
  const index = Math.max(
    0,
    countWhere(fragments, (fragment) => fragment.start <= mediaSeconds) - 1,
  );
  const fragment = fragments[index];
  const startMs = fragment ? recordedAt(fragment) : null;
  if (!fragment || startMs === null) return null;
  return startMs + (mediaSeconds - fragment.start) * 1000;
}

/**
 * The media time of an instant; within a gap, that of the next footage. Null before the first
 * fragment and after the last.
 */
export function mediaAt(fragments: readonly PlacedFragment[], wallMs: number): number | null {
  const begun = countWhere(fragments, (fragment) => (recordedAt(fragment) ?? 0) <= wallMs);
  const fragment = fragments[begun - 1];
  const startMs = fragment ? recordedAt(fragment) : null;
  if (!fragment || startMs === null) return null;
  const offset = (wallMs - startMs) / 1000;
  if (offset < fragment.duration) return fragment.start + offset;
  return fragments[begun]?.start ?? null;
}

function recordedAt(fragment: PlacedFragment): number | null {
  const name = /^(\d+)-/.exec(fragment.relurl ?? "");
  return name ? Number(name[1]) : fragment.programDateTime;
}

/** How many of the first items hold `test`, which holds for none after the first for which it does not. */
function countWhere<Item>(items: readonly Item[], test: (item: Item) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(items[middle] as Item)) low = middle + 1;
    else high = middle;
  }
  return low;
}
