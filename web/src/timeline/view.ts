import type { Span } from "../time/civil-day";

/** The shortest span that a timeline shows. */
export const SHORTEST_VIEW_MS = 30_000;

export const spanMs = (span: Span): number => span.endMs - span.startMs;

/** How far along a span an instant lies: 0 at its start, 1 at its end. */
export function fractionAt(view: Span, ms: number): number {
  return (ms - view.startMs) / spanMs(view);
}

export function instantAt(view: Span, fraction: number): number {
  return Math.round(view.startMs + fraction * spanMs(view));
}

/** A view `factor` times as long that keeps `anchorMs` where it is; within `bounds`. */
export function zoom(view: Span, factor: number, anchorMs: number, bounds: Span): Span {
  const lengthMs = Math.max(
    Math.min(SHORTEST_VIEW_MS, spanMs(bounds)),
    Math.min(spanMs(view) * factor, spanMs(bounds)),
  );
  const startMs = anchorMs - fractionAt(view, anchorMs) * lengthMs;
  return within({ startMs, endMs: startMs + lengthMs }, bounds);
}

/** The view moved by some milliseconds, as far as `bounds` allow. */
export function pan(view: Span, byMs: number, bounds: Span): Span {
  return within({ startMs: view.startMs + byMs, endMs: view.endMs + byMs }, bounds);
}

/** The view that goes on from one whose playhead has left it on the right. */
export function follow(view: Span, playheadMs: number, bounds: Span): Span {
  return pan(view, playheadMs - instantAt(view, 0.6), bounds);
}

function within(view: Span, bounds: Span): Span {
  const startMs = Math.round(
    Math.max(bounds.startMs, Math.min(view.startMs, bounds.endMs - spanMs(view))),
  );
  return { startMs, endMs: Math.min(bounds.endMs, Math.round(startMs + spanMs(view))) };
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const STEPS = [
  5 * SECOND,
  10 * SECOND,
  30 * SECOND,
  MINUTE,
  2 * MINUTE,
  5 * MINUTE,
  10 * MINUTE,
  15 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
] as const;

/** Round instants to label, counted from the day's start, at most `most` of them. */
export function ticks(view: Span, day: Span, most: number): number[] {
  const step = STEPS.find((candidate) => spanMs(view) / candidate <= most) ?? 12 * HOUR;
  const first = Math.ceil((view.startMs - day.startMs) / step) * step + day.startMs;
  const found: number[] = [];
  for (let at = first; at < view.endMs; at += step) found.push(at);
  return found;
}
