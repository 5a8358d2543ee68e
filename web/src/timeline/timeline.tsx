import {
  type KeyboardEvent,
  type PointerEvent,
  useCallback,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { CoverageDocument } from "../graphql/operations";
import { useQuery } from "../graphql/use-query";
import type { Span } from "../time/civil-day";
import { formatClock, formatDuration, formatHourMinute, formatInstant } from "../time/format";
import { describeReason, gapAt, type Spans, spansOf } from "./spans";
import "./timeline.css";
import { follow, fractionAt, instantAt, pan, spanMs, ticks, zoom } from "./view";

interface TimelineProps {
  streamId: string;
  zone: string;
  day: Span;
  nowMs: number;
  /** Where the stream's oldest footage begins. */
  earliestMs: number | null;
  /** When the picture on the screen was recorded. */
  playheadMs: number | null;
  onPlay: (atMs: number) => void;
  /** While a pointer drags; the picture may follow. */
  onScrub: (atMs: number) => void;
  /** The pointer became a pinch or the page's scrolling instead. */
  onScrubEnd: () => void;
}

const HOUR_MS = 3_600_000;
const ZOOM_STEP = 2;
/** How often footage that grows is asked for. */
const GROWTH_MS = 2_000;
/** A view that moves is asked for once it rests this long. */
const REST_MS = 120;
const HALF_LABEL_PX = 24;
const MOST_BUCKETS = 1_440;
const NOTHING: Spans = { footage: [], gaps: [] };

/** One civil day of a stream: where footage is, where it plays, and what the time is now. */
export function Timeline(props: TimelineProps) {
  const { streamId, zone, day, nowMs, playheadMs, onPlay, onScrub, onScrubEnd } = props;
  const isToday = day.startMs <= nowMs && nowMs < day.endMs;
  const [view, setView] = useView(day, isToday ? recent(nowMs, props.earliestMs) : day, playheadMs);
  const spans = useSpans(streamId, view, nowMs);
  const [hoverMs, setHoverMs] = useState<number | null>(null);
  const [scrubMs, setScrubMs] = useState<number | null>(null);
  const track = useRef<HTMLDivElement>(null);
  const width = useWidth(track);

  const anchorMs = (): number => {
    const isShown = playheadMs !== null && view.startMs <= playheadMs && playheadMs <= view.endMs;
    return isShown ? playheadMs : instantAt(view, 0.5);
  };
  const zoomBy = (factor: number) => setView((shown) => zoom(shown, factor, anchorMs(), day));
  const limit = (ms: number) => Math.max(day.startMs, Math.min(ms, day.endMs - 1, nowMs));
  const pointers = usePointers(track, view, setView, day, {
    onHover: setHoverMs,
    onDrag: (ms) => {
      setScrubMs(limit(ms));
      onScrub(limit(ms));
    },
    onCancel: () => {
      setScrubMs(null);
      onScrubEnd();
    },
    onRelease: (ms) => {
      setScrubMs(null);
      onPlay(limit(ms));
    },
  });

  const headMs = scrubMs ?? playheadMs;
  const sliderMs = limit(headMs ?? nowMs);

  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = {
      ArrowLeft: event.shiftKey ? -60_000 : -10_000,
      ArrowDown: event.shiftKey ? -60_000 : -10_000,
      ArrowRight: event.shiftKey ? 60_000 : 10_000,
      ArrowUp: event.shiftKey ? 60_000 : 10_000,
      PageDown: -HOUR_MS / 6,
      PageUp: HOUR_MS / 6,
    };
    const step = steps[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step !== undefined) onPlay(limit(sliderMs + step));
    else if (event.key === "Home") onPlay(spans.footage[0]?.startMs ?? day.startMs);
    else if (event.key === "End") onPlay(limit(day.endMs - 1));
    else if (event.key === "+" || event.key === "=") zoomBy(1 / ZOOM_STEP);
    else if (event.key === "-") zoomBy(ZOOM_STEP);
    else if (event.key === "0") setView(day);
    else return;
    event.preventDefault();
  };

  const gap = gapAt(spans, sliderMs);
  const left = (ms: number) => `${(fractionAt(view, ms) * 100).toFixed(4)}%`;
  const hasRoom = (ms: number) => {
    const x = fractionAt(view, ms) * width;
    return x > HALF_LABEL_PX && x < width - HALF_LABEL_PX;
  };
  const isIn = (ms: number) => view.startMs <= ms && ms <= view.endMs;
  const isSeconds = spanMs(view) < HOUR_MS / 6;
  const label = isSeconds ? formatClock : formatHourMinute;
  const hoverGap = hoverMs === null ? null : gapAt(spans, hoverMs);
  const bubbleMs = scrubMs ?? hoverMs;

  return (
    <section className="timeline" aria-label="Timeline">
      <div className="timeline-bar">
        <span className="timeline-span" data-testid="timeline-span">
          {label(view.startMs, zone)} – {label(view.endMs, zone)}
        </span>
        <fieldset className="timeline-zoom">
          <legend className="hidden">Zoom</legend>
          <button
            type="button"
            aria-label="Earlier"
            disabled={view.startMs <= day.startMs}
            onClick={() => setView((shown) => pan(shown, -spanMs(shown) / 2, day))}
          >
            ‹
          </button>
          <button
            type="button"
            aria-label="Later"
            disabled={view.endMs >= day.endMs}
            onClick={() => setView((shown) => pan(shown, spanMs(shown) / 2, day))}
          >
            ›
          </button>
          <button type="button" aria-label="Zoom out" onClick={() => zoomBy(ZOOM_STEP)}>
            −
          </button>
          <button type="button" aria-label="Zoom in" onClick={() => zoomBy(1 / ZOOM_STEP)}>
            +
          </button>
          <button type="button" aria-label="Whole day" onClick={() => setView(day)}>
            Day
          </button>
        </fieldset>
      </div>
      <div
        ref={track}
        className="timeline-track"
        data-testid="timeline"
        data-start-ms={view.startMs}
        data-end-ms={view.endMs}
        role="slider"
        tabIndex={0}
        aria-label="Instant to play"
        aria-valuemin={day.startMs}
        aria-valuemax={day.endMs}
        aria-valuenow={Math.round(sliderMs)}
        aria-valuetext={
          formatInstant(sliderMs, zone) + (gap ? `, ${describeReason(gap.reason)}` : "")
        }
        onKeyDown={onKeyDown}
        {...pointers}
      >
        <Footage view={view} spans={spans} width={width} />
        {nowMs < view.endMs && (
          <div className="timeline-future" style={{ left: left(Math.max(nowMs, view.startMs)) }} />
        )}
        {isIn(nowMs) && <div className="timeline-now" style={{ left: left(nowMs) }} />}
        {bubbleMs !== null && isIn(bubbleMs) && (
          <div className="timeline-hover" style={{ left: left(bubbleMs) }} />
        )}
        {headMs !== null && isIn(headMs) && (
          <div className="timeline-head" data-testid="playhead" style={{ left: left(headMs) }} />
        )}
      </div>
      <div className="timeline-ticks" aria-hidden="true">
        {ticks(view, day, Math.max(2, Math.floor(width / 72)))
          .filter(hasRoom)
          .map((ms) => (
            <span key={ms} style={{ left: left(ms) }}>
              {label(ms, zone)}
            </span>
          ))}
      </div>
      <p className="timeline-note" aria-hidden="true">
        {bubbleMs !== null
          ? formatClock(bubbleMs, zone) +
            (hoverGap
              ? ` · ${describeReason(hoverGap.reason)}, ${formatDuration(spanMs(hoverGap))}`
              : "")
          : spans.footage.length === 0
            ? "No footage in this span."
            : "Press anywhere to play from there. Wheel or pinch to zoom."}
      </p>
    </section>
  );
}

/** Footage as one path, so that a day of a thousand pieces stays one element. */
function Footage({ view, spans, width }: { view: Span; spans: Spans; width: number }) {
  const path = useMemo(() => {
    const x = (ms: number) => Math.max(0, Math.min(1, fractionAt(view, ms))) * width;
    return spans.footage
      .filter(({ startMs, endMs }) => endMs > view.startMs && startMs < view.endMs)
      .map(({ startMs, endMs }) => {
        const from = x(startMs);
        // A minute in a day is less than a pixel, and still to be seen.
        const to = Math.max(from + 1, x(endMs));
        return `M${from.toFixed(2)} 0H${to.toFixed(2)}V1H${from.toFixed(2)}Z`;
      })
      .join("");
  }, [view, spans, width]);
  return (
    <svg
      className="timeline-footage"
      data-testid="footage"
      data-covered-ms={Math.round(spans.footage.reduce((sum, span) => sum + spanMs(span), 0))}
      viewBox={`0 0 ${Math.max(1, width)} 1`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      <path d={path} />
    </svg>
  );
}

/** The last hour or, where all footage is younger, less. */
function recent(nowMs: number, earliestMs: number | null): Span {
  const ageMs = earliestMs === null ? 0 : nowMs - earliestMs;
  const lengthMs = Math.max(HOUR_MS / 12, Math.min(HOUR_MS, 1.5 * ageMs));
  return { startMs: nowMs - 0.8 * lengthMs, endMs: nowMs + 0.2 * lengthMs };
}

/** The span on the screen: at first, and on another day again, `first`. */
function useView(day: Span, first: Span, playheadMs: number | null) {
  const [view, setView] = useState(() => pan(first, 0, day));
  const [shownDay, setShownDay] = useState(day.startMs);
  const [lastHead, setLastHead] = useState(playheadMs);

  if (shownDay !== day.startMs) {
    setShownDay(day.startMs);
    setView(pan(first, 0, day));
  }
  if (lastHead !== playheadMs) {
    setLastHead(playheadMs);
    const hasLeft =
      lastHead !== null &&
      playheadMs !== null &&
      lastHead <= view.endMs &&
      lastHead >= view.startMs &&
      playheadMs > view.endMs &&
      playheadMs < day.endMs;
    if (hasLeft) setView(follow(view, playheadMs, day));
  }
  return [view, setView] as const;
}

/** What the view shows, refreshed while it may grow. */
function useSpans(streamId: string, view: Span, nowMs: number): Spans {
  const asked = useRested(view);
  const bucketSeconds = Math.max(1, Math.ceil(spanMs(asked) / 1000 / MOST_BUCKETS));
  const { data } = useQuery(
    CoverageDocument,
    {
      streamId,
      range: {
        start: new Date(asked.startMs).toISOString(),
        end: new Date(asked.endMs).toISOString(),
      },
      bucketSeconds,
    },
    asked.endMs > nowMs - HOUR_MS ? GROWTH_MS : 30_000,
  );
  return useMemo(() => {
    const node = data?.node;
    if (!data || !node || !("coverage" in node) || !node.coverage) return NOTHING;
    return spansOf(node.coverage, Date.parse(data.service.time));
  }, [data]);
}

/** A value that changes often, once it rests. */
function useRested(value: Span): Span {
  const [rested, setRested] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setRested(value), REST_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return rested;
}

function useWidth(ref: React.RefObject<HTMLElement | null>): number {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const element = ref.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return width;
}

interface PointerTargets {
  onHover: (ms: number | null) => void;
  onDrag: (ms: number) => void;
  onRelease: (ms: number) => void;
  onCancel: () => void;
}

/** One pointer scrubs, two pinch and pan, the wheel zooms, a sideways wheel pans. */
function usePointers(
  track: React.RefObject<HTMLDivElement | null>,
  view: Span,
  setView: React.Dispatch<React.SetStateAction<Span>>,
  day: Span,
  targets: PointerTargets,
) {
  const down = useRef(new Map<number, number>());
  const pinched = useRef(false);
  const instantOf = useCallback(
    (clientX: number, shown: Span) => {
      const box = track.current?.getBoundingClientRect();
      return box ? instantAt(shown, (clientX - box.left) / box.width) : shown.startMs;
    },
    [track],
  );

  useEffect(() => {
    const element = track.current;
    if (!element) return;
    // React listens to wheels passively, which cannot keep the page from scrolling.
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
      const pixels = (event.deltaY || event.deltaX) * (event.deltaMode === 1 ? 16 : 1);
      setView((shown) =>
        isSideways
          ? pan(shown, ((event.deltaX || pixels) / element.clientWidth) * spanMs(shown), day)
          : zoom(shown, Math.exp(pixels / 300), instantOf(event.clientX, shown), day),
      );
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [track, setView, day, instantOf]);

  const pinch = (event: PointerEvent) => {
    const [a, b] = [...down.current.entries()].map(([id, x]) => ({ id, x }));
    if (!a || !b || !track.current) return;
    const moved = { [event.pointerId]: event.clientX };
    const next = [moved[a.id] ?? a.x, moved[b.id] ?? b.x] as const;
    const middleBefore = (a.x + b.x) / 2;
    const middleAfter = (next[0] + next[1]) / 2;
    const factor = Math.abs(a.x - b.x) / Math.max(1, Math.abs(next[0] - next[1]));
    const { clientWidth } = track.current;
    setView((shown) => {
      const zoomed = zoom(shown, factor, instantOf(middleBefore, shown), day);
      return pan(zoomed, ((middleBefore - middleAfter) / clientWidth) * spanMs(zoomed), day);
    });
  };

  return {
    onPointerDown: (event: PointerEvent<HTMLDivElement>) => {
      if (event.button !== 0) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      down.current.set(event.pointerId, event.clientX);
      pinched.current = down.current.size > 1;
      if (pinched.current) targets.onCancel();
      else targets.onDrag(instantOf(event.clientX, view));
    },
    onPointerMove: (event: PointerEvent<HTMLDivElement>) => {
      if (down.current.size > 1) pinch(event);
      else if (down.current.size === 1 && !pinched.current) {
        targets.onDrag(instantOf(event.clientX, view));
      }
      if (down.current.has(event.pointerId)) down.current.set(event.pointerId, event.clientX);
      if (event.pointerType === "mouse") targets.onHover(instantOf(event.clientX, view));
    },
    onPointerUp: (event: PointerEvent<HTMLDivElement>) => {
      if (!down.current.delete(event.pointerId)) return;
      if (!pinched.current) targets.onRelease(instantOf(event.clientX, view));
      if (down.current.size === 0) pinched.current = false;
    },
    onPointerCancel: (event: PointerEvent<HTMLDivElement>) => {
      down.current.delete(event.pointerId);
      targets.onCancel();
    },
    onPointerLeave: () => targets.onHover(null),
  };
}
