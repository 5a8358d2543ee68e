import { formatter } from "./civil-day";

/** `14:03:22`, as a clock in `zone` shows it. */
export function formatClock(ms: number, zone: string): string {
  return formatter("en-GB", {
    timeZone: zone,
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  }).format(ms);
}

/** `14:03`. */
export function formatHourMinute(ms: number, zone: string): string {
  return formatter("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" }).format(ms);
}

/** `Sun 22 Nov 2026`. */
export function formatDate(ms: number, zone: string): string {
  return formatter("en-GB", {
    timeZone: zone,
    weekday: "short",
    day: "numeric",
    month: "short",
    year: "numeric",
  })
    .format(ms)
    .replaceAll(",", "");
}

/** `Sun 22 Nov 2026, 14:03:22`. */
export function formatInstant(ms: number, zone: string): string {
  return `${formatDate(ms, zone)}, ${formatClock(ms, zone)}`;
}

/** `Asia/Kolkata (GMT+5:30)`: the zone's name and what it is ahead of UTC at an instant. */
export function formatZone(ms: number, zone: string): string {
  const offset = formatter("en-GB", { timeZone: zone, timeZoneName: "shortOffset" })
    .formatToParts(ms)
    .find((part) => part.type === "timeZoneName")?.value;
  return offset && offset !== zone ? `${zone} (${offset})` : zone;
}

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** `just now`, `12 seconds ago`, `3 hours ago`. */
export function formatAgo(ms: number, nowMs: number): string {
  const ago = Math.max(0, nowMs - ms);
  const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  if (ago < 5 * SECOND_MS) return "just now";
  if (ago < MINUTE_MS) return relative.format(-Math.round(ago / SECOND_MS), "second");
  if (ago < HOUR_MS) return relative.format(-Math.round(ago / MINUTE_MS), "minute");
  if (ago < DAY_MS) return relative.format(-Math.round(ago / HOUR_MS), "hour");
  return relative.format(-Math.round(ago / DAY_MS), "day");
}

/** `40 s`, `12 min 5 s`, `3 h 20 min`: at most two units. */
export function formatDuration(ms: number): string {
  const seconds = Math.round(ms / SECOND_MS);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}
