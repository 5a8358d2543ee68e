import { expect, test } from "vitest";
import { mediaAt, type PlacedFragment, wallAt } from "./wall-clock";

const T = Date.parse("2026-11-22T12:00:00Z");

/** Two seconds, 40 s of nothing, two seconds; media time runs on over the gap. */
const fragments: PlacedFragment[] = [
  { start: 10, duration: 1, programDateTime: T },
  { start: 11, duration: 1, programDateTime: T + 1000 },
  { start: 12, duration: 1, programDateTime: T + 42_000 },
  { start: 13, duration: 1, programDateTime: T + 43_000 },
];

function check(wallMs: number, mediaSeconds: number | null) {
  expect(mediaAt(fragments, wallMs), `media time of ${wallMs - T} ms`).toBe(mediaSeconds);
}

test("an instant has its media time, one in a gap that of the next footage", () => {
  check(T - 1, null);
  check(T, 10);
  check(T + 1500, 11.5);
  check(T + 2000, 12);
  check(T + 41_999, 12);
  check(T + 42_250, 12.25);
  check(T + 43_999, 13.999);
  check(T + 44_000, null);
});

test("a fragment's name tells the camera's clock where the playlist's date is off", () => {
  const named = [
    { start: 0, duration: 2, programDateTime: T, relurl: `${T}-7.v.m4s` },
    { start: 2, duration: 2, programDateTime: T + 2000, relurl: `${T + 2500}-8.v.m4s` },
  ];
  expect(wallAt(named, 3)).toBe(T + 3500);
  expect(mediaAt(named, T + 3500)).toBe(3);
  expect(mediaAt(named, T + 2250)).toBe(2);
});

test("a media time has its instant, on both sides of a gap", () => {
  const at = (mediaSeconds: number) => (wallAt(fragments, mediaSeconds) ?? Number.NaN) - T;
  expect(at(10)).toBe(0);
  expect(at(11.75)).toBe(1750);
  expect(at(12)).toBe(42_000);
  expect(at(13.5)).toBe(43_500);
  expect(wallAt([], 1)).toBeNull();
  expect(wallAt([{ start: 0, duration: 1, programDateTime: null }], 0.5)).toBeNull();
});
