import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ServiceClock } from "./service-clock";

const T = Date.parse("2026-11-22T12:00:00Z");
const at = (ms: number) => new Date(T + ms).toISOString();

beforeEach(() => void vi.useFakeTimers({ now: T }));
afterEach(() => void vi.useRealTimers());

test("the service's clock is estimated from the middle of a request", () => {
  const clock = new ServiceClock();
  expect(clock.nowMs()).toBe(T);
  clock.observe(at(5_050), T, T + 100);
  expect(clock.nowMs()).toBe(T + 5_000);
});

test("a slower answer does not replace a quicker one's estimate, until that is old", () => {
  const clock = new ServiceClock();
  clock.observe(at(5_050), T, T + 100);
  clock.observe(at(9_000), T, T + 2_000);
  expect(clock.nowMs()).toBe(T + 5_000);
  clock.observe(at(101_000 + 7_000), T + 100_000, T + 102_000);
  expect(clock.nowMs()).toBe(T + 7_000);
});
