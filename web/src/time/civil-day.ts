/** A civil date as the API's `LocalDate` spells it: `2026-11-22`. */
export type CivilDate = string;

/** A half-open span of instants, in milliseconds since the epoch. */
export interface Span {
  startMs: number;
  endMs: number;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

/** The civil date that a clock in `zone` shows at an instant. */
export function civilDateAt(ms: number, zone: string): CivilDate {
  // Sweden's form of a date is ISO 8601's.
  return formatter("sv-SE", { timeZone: zone, dateStyle: "short" }).format(ms);
}

/**
 * The instants that a civil day spans: 24 hours, or 23 to 25 where clocks change. Empty where the
 * zone skips the day.
 */
export function civilDay(date: CivilDate, zone: string): Span {
  return { startMs: startOf(date, zone), endMs: startOf(addDays(date, 1), zone) };
}

/** The civil date `days` later; a date has no zone, so this is plain counting. */
export function addDays(date: CivilDate, days: number): CivilDate {
  return new Date(Date.parse(`${date}T00:00:00Z`) + days * 24 * HOUR_MS).toISOString().slice(0, 10);
}

/** The first instant whose date in `zone` is `date` or later; offsets are whole minutes. */
function startOf(date: CivilDate, zone: string): number {
  const utcMidnight = Date.parse(`${date}T00:00:00Z`);
  let before = utcMidnight - 15 * HOUR_MS;
  let from = utcMidnight + 13 * HOUR_MS;
  while (from - before > MINUTE_MS) {
    const middle = before + Math.floor((from - before) / MINUTE_MS / 2) * MINUTE_MS;
    if (civilDateAt(middle, zone) < date) before = middle;
    else from = middle;
  }
  return from;
}

const formatters = new Map<string, Intl.DateTimeFormat>();

/** A formatter, made once: making one costs a thousand times what using it does. */
export function formatter(
  locale: string | undefined,
  options: Intl.DateTimeFormatOptions,
): Intl.DateTimeFormat {
  const key = JSON.stringify([locale, options]);
  let made = formatters.get(key);
  if (!made) {
    made = new Intl.DateTimeFormat(locale, options);
    formatters.set(key, made);
  }
  return made;
}
