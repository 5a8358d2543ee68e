import { expect, test } from "vitest";
import type { Span } from "../time/civil-day";
import { follow, fractionAt, instantAt, pan, SHORTEST_VIEW_MS, spanMs, ticks, zoom } from "./view";

const HOUR = 3_600_000;
const day: Span = { startMs: 1000 * HOUR, endMs: 1024 * HOUR };

test("an instant comes back from its place", () => {
  for (const ms of [day.startMs, day.startMs + 12_345_678, day.endMs]) {
    expect(instantAt(day, fractionAt(day, ms))).toBe(ms);
  }
});

test("zooming keeps the anchor in place and stays in the day", () => {
  const anchor = day.startMs + 6 * HOUR;
  const closer = zoom(day, 0.5, anchor, day);
  expect(spanMs(closer)).toBe(12 * HOUR);
  expect(fractionAt(closer, anchor)).toBeCloseTo(0.25);
  expect(zoom(closer, 100, anchor, day)).toEqual(day);
  expect(spanMs(zoom(day, 1e-9, anchor, day))).toBe(SHORTEST_VIEW_MS);
  expect(zoom(closer, 2, closer.endMs, day)).toEqual(day);
});

test("panning stops at the day's ends", () => {
  const view = { startMs: day.startMs + HOUR, endMs: day.startMs + 3 * HOUR };
  expect(pan(view, -5 * HOUR, day)).toEqual({
    startMs: day.startMs,
    endMs: day.startMs + 2 * HOUR,
  });
  expect(pan(view, 50 * HOUR, day)).toEqual({ startMs: day.endMs - 2 * HOUR, endMs: day.endMs });
});

test("a view that follows has its playhead inside", () => {
  const view = { startMs: day.startMs, endMs: day.startMs + HOUR };
  const next = follow(view, view.endMs + 5000, day);
  expect(fractionAt(next, view.endMs + 5000)).toBeCloseTo(0.6);
});

test("ticks are round and few enough", () => {
  expect(ticks(day, day, 8)).toHaveLength(8);
  const view = { startMs: day.startMs + 61_000, endMs: day.startMs + 361_000 };
  const found = ticks(view, day, 6);
  expect(found.map((ms) => (ms - day.startMs) / 60_000)).toEqual([2, 3, 4, 5, 6]);
});
