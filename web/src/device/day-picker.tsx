import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { CalendarDocument } from "../graphql/operations";
import { useQuery } from "../graphql/use-query";
import { addDays, type CivilDate, formatter } from "../time/civil-day";
import { formatDuration } from "../time/format";
import "./day-picker.css";

interface DayPickerProps {
  streamId: string;
  zone: string;
  date: CivilDate;
  today: CivilDate;
  onPick: (date: CivilDate) => void;
}

/** A day before, a day after, or any day of a month in which those with footage are marked. */
export function DayPicker({ streamId, zone, date, today, onPick }: DayPickerProps) {
  const [isOpen, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (!isOpen) return;
    const onPress = (event: PointerEvent) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", onPress);
    return () => document.removeEventListener("pointerdown", onPress);
  }, [isOpen]);

  return (
    <div className="day-picker" ref={root}>
      <button type="button" aria-label="Day before" onClick={() => onPick(addDays(date, -1))}>
        ‹
      </button>
      <button
        type="button"
        className="day-picker-day"
        data-testid="day"
        data-date={date}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        onClick={() => setOpen(!isOpen)}
      >
        {date === today ? "Today, " : ""}
        {format(date, {
          weekday: "short",
          day: "numeric",
          month: "short",
          ...(date.slice(0, 4) !== today.slice(0, 4) && { year: "numeric" }),
        })}
      </button>
      <button
        type="button"
        aria-label="Day after"
        disabled={date >= today}
        onClick={() => onPick(addDays(date, 1))}
      >
        ›
      </button>
      {isOpen && (
        <Month
          streamId={streamId}
          zone={zone}
          date={date}
          today={today}
          onPick={(picked) => {
            setOpen(false);
            onPick(picked);
          }}
          onClose={() => setOpen(false)}
        />
      )}
    </div>
  );
}

function Month(props: DayPickerProps & { onClose: () => void }) {
  const { streamId, zone, date, today, onPick, onClose } = props;
  const [focused, setFocused] = useState(date);
  const first = `${focused.slice(0, 7)}-01`;
  const next = monthsLater(first, 1);
  const last = addDays(next, -1);
  const { data, error } = useQuery(CalendarDocument, {
    streamId,
    from: first,
    to: last,
    timeZone: zone,
  });
  const calendar = data?.node && "calendar" in data.node ? data.node.calendar : null;
  const covered = new Map(calendar?.map((day) => [day.date, day.coveredSeconds]));
  const grid = useRef<HTMLDivElement>(null);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the focus follows the day
  useEffect(() => {
    grid.current?.querySelector<HTMLElement>('[tabindex="0"]')?.focus();
  }, [focused]);

  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, CivilDate> = {
      ArrowLeft: addDays(focused, -1),
      ArrowRight: addDays(focused, 1),
      ArrowUp: addDays(focused, -7),
      ArrowDown: addDays(focused, 7),
      PageUp: monthsLater(focused, -1),
      PageDown: monthsLater(focused, 1),
    };
    const step = steps[event.key];
    if (step !== undefined) setFocused(step > today ? today : step);
    else if (event.key === "Escape") onClose();
    else return;
    event.preventDefault();
  };

  const days: CivilDate[] = [];
  for (let day = first; day <= last; day = addDays(day, 1)) days.push(day);
  // Weeks begin on Monday.
  const lead = (new Date(`${first}T00:00:00Z`).getUTCDay() + 6) % 7;

  return (
    <div className="month" role="dialog" aria-label="Pick a day" onKeyDown={onKeyDown}>
      <header>
        <button
          type="button"
          aria-label="Month before"
          onClick={() => setFocused(monthsLater(first, -1))}
        >
          ‹
        </button>
        <b aria-live="polite">{format(first, { month: "long", year: "numeric" })}</b>
        <button
          type="button"
          aria-label="Month after"
          disabled={next > today}
          onClick={() => setFocused(next)}
        >
          ›
        </button>
      </header>
      <div className="month-grid" ref={grid}>
        {["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"].map((name) => (
          <span key={name} className="month-weekday" aria-hidden="true">
            {name}
          </span>
        ))}
        {days.map((day, index) => {
          const seconds = covered.get(day) ?? 0;
          const footage = seconds > 0 ? formatDuration(seconds * 1000) : "no footage";
          return (
            <button
              key={day}
              type="button"
              style={index === 0 ? { gridColumnStart: lead + 1 } : undefined}
              tabIndex={day === focused ? 0 : -1}
              disabled={day > today}
              aria-current={day === date ? "date" : undefined}
              aria-label={`${format(day, { weekday: "long", day: "numeric", month: "long" })}, ${footage}`}
              title={footage}
              data-date={day}
              data-covered-seconds={seconds}
              className={seconds > 0 ? "covered" : undefined}
              onClick={() => onPick(day)}
            >
              {Number(day.slice(8))}
            </button>
          );
        })}
      </div>
      {error && <p role="alert">{error.message}</p>}
      <footer>
        <span>
          <i aria-hidden="true" /> has footage
        </span>
        <button type="button" onClick={() => onPick(today)}>
          Today
        </button>
      </footer>
    </div>
  );
}

/** A civil date's own words; it has no zone, so it is told as one in UTC. */
function format(date: CivilDate, options: Intl.DateTimeFormatOptions): string {
  return formatter("en-GB", { ...options, timeZone: "UTC" })
    .format(Date.parse(`${date}T00:00:00Z`))
    .replaceAll(",", "");
}

/** The same day of another month, or that month's last. */
function monthsLater(date: CivilDate, months: number): CivilDate {
  const [year = 0, month = 1, day = 1] = date.split("-").map(Number);
  const lastDay = new Date(Date.UTC(year, month + months, 0)).getUTCDate();
  return new Date(Date.UTC(year, month - 1 + months, Math.min(day, lastDay)))
    .toISOString()
    .slice(0, 10);
}
