import { expect, test } from "vitest";
import { type Coverage, gapAt, spansOf } from "./spans";

const T = Date.parse("2026-11-22T12:00:00Z");
const at = (seconds: number) => new Date(T + seconds * 1000).toISOString();

function coverage(gaps: [number, number][] | null, coveredSeconds: number[] = []): Coverage {
  return {
    range: { start: at(0), end: at(100) },
    bucketSeconds: 10,
    coveredSeconds,
    gaps:
      gaps?.map(([from, to]) => ({
        range: { start: at(from), end: at(to) },
        reason: "DEVICE_OFFLINE",
      })) ?? null,
  };
}

function check(input: Coverage, nowSeconds: number, footage: [number, number][]) {
  const spans = spansOf(input, T + nowSeconds * 1000);
  const seconds = spans.footage.map(({ startMs, endMs }) => [
    (startMs - T) / 1000,
    (endMs - T) / 1000,
  ]);
  expect(seconds).toEqual(footage);
}

test("footage is what no gap takes", () => {
  check(coverage([]), 200, [[0, 100]]);
  check(coverage([[0, 100]]), 200, []);
  check(coverage([[20, 60]]), 200, [
    [0, 20],
    [60, 100],
  ]);
  check(
    coverage([
      [0, 10],
      [90, 100],
    ]),
    200,
    [[10, 90]],
  );
});

test("nothing is footage that is yet to come", () => {
  check(coverage([]), 40, [[0, 40]]);
  check(coverage([[30, 100]]), 40, [[0, 30]]);
});

test("too many gaps: the buckets that hold footage", () => {
  check(coverage(null, [10, 0.5, 0, 0, 3, 0, 0, 0, 0, 0]), 200, [
    [0, 20],
    [40, 50],
  ]);
});

test("a gap is found by an instant in it", () => {
  const spans = spansOf(coverage([[20, 60]]), T + 200_000);
  expect(gapAt(spans, T + 20_000)?.endMs).toBe(T + 60_000);
  expect(gapAt(spans, T + 60_000)).toBeNull();
});
