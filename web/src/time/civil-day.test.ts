import { expect, test } from "vitest";
import { addDays, civilDateAt, civilDay } from "./civil-day";

function check(date: string, zone: string, start: string, hours: number) {
  const day = civilDay(date, zone);
  expect(new Date(day.startMs).toISOString(), `${date} in ${zone}`).toBe(start);
  expect((day.endMs - day.startMs) / 3_600_000, `${date} in ${zone}`).toBe(hours);
}

test("a civil day spans the instants that its zone gives it", () => {
  check("2026-11-22", "UTC", "2026-11-22T00:00:00.000Z", 24);
  check("2026-11-22", "Asia/Kolkata", "2026-11-21T18:30:00.000Z", 24);
  check("2026-11-22", "Pacific/Kiritimati", "2026-11-21T10:00:00.000Z", 24);
  check("2026-11-22", "Pacific/Pago_Pago", "2026-11-22T11:00:00.000Z", 24);
  check("2026-03-29", "Europe/Berlin", "2026-03-28T23:00:00.000Z", 23);
  check("2026-10-25", "Europe/Berlin", "2026-10-24T22:00:00.000Z", 25);
  check("2026-04-05", "Australia/Lord_Howe", "2026-04-04T13:00:00.000Z", 24.5);
  // Clocks in Cairo go from 00:00 straight to 01:00 on this day.
  check("2026-04-24", "Africa/Cairo", "2026-04-23T22:00:00.000Z", 23);
  check("2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00.000Z", 0);
});

test("an instant has the date that its zone's clock shows", () => {
  const ms = Date.parse("2026-11-22T20:00:00Z");
  expect(civilDateAt(ms, "UTC")).toBe("2026-11-22");
  expect(civilDateAt(ms, "Asia/Kolkata")).toBe("2026-11-23");
});

test("days are counted over months and years", () => {
  expect(addDays("2026-12-31", 1)).toBe("2027-01-01");
  expect(addDays("2028-03-01", -1)).toBe("2028-02-29");
});
