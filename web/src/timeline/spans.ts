import type { CoverageQuery, GapReason } from "../graphql/operations";
import type { Span } from "../time/civil-day";

type Node = NonNullable<CoverageQuery["node"]>;
export type Coverage = NonNullable<Extract<Node, { coverage: unknown }>["coverage"]>;

export interface GapSpan extends Span {
  reason: GapReason;
}

/** What a timeline draws: footage, and the gaps between. */
export interface Spans {
  footage: Span[];
  gaps: GapSpan[];
}

/** Footage is what no gap takes; where the gaps are too many to be told, the buckets that hold any. */
export function spansOf(coverage: Coverage, nowMs: number): Spans {
  const startMs = Date.parse(coverage.range.start);
  const endMs = Math.min(Date.parse(coverage.range.end), nowMs);
  if (coverage.gaps === null) {
    return { footage: coveredBuckets(coverage, startMs, endMs), gaps: [] };
  }
  const footage: Span[] = [];
  const gaps: GapSpan[] = [];
  let fromMs = startMs;
  for (const gap of coverage.gaps) {
    const gapStartMs = Math.max(startMs, Date.parse(gap.range.start));
    const gapEndMs = Math.min(endMs, Date.parse(gap.range.end));
    if (gapStartMs > fromMs) footage.push({ startMs: fromMs, endMs: Math.min(gapStartMs, endMs) });
    if (gapEndMs > gapStartMs) {
      gaps.push({ startMs: gapStartMs, endMs: gapEndMs, reason: gap.reason });
    }
    fromMs = Math.max(fromMs, Date.parse(gap.range.end));
  }
  if (endMs > fromMs) footage.push({ startMs: fromMs, endMs });
  return { footage, gaps };
}

function coveredBuckets(coverage: Coverage, startMs: number, endMs: number): Span[] {
  const bucketMs = coverage.bucketSeconds * 1000;
  const footage: Span[] = [];
  coverage.coveredSeconds.forEach((seconds, index) => {
    if (seconds <= 0) return;
    const span = {
      startMs: startMs + index * bucketMs,
      endMs: Math.min(startMs + (index + 1) * bucketMs, endMs),
    };
    const last = footage.at(-1);
    if (last?.endMs === span.startMs) last.endMs = span.endMs;
    else footage.push(span);
  });
  return footage;
}

/** The gap that holds an instant. */
export function gapAt(spans: Spans, ms: number): GapSpan | null {
  return spans.gaps.find((gap) => gap.startMs <= ms && ms < gap.endMs) ?? null;
}

const REASONS: Record<GapReason, string> = {
  DEVICE_OFFLINE: "camera offline",
  DELETED: "deleted on request",
  EXPIRED: "no longer kept",
  NOT_SCHEDULED: "not recorded",
  PENDING: "may still arrive",
  UNKNOWN: "no footage",
};

/** Why there is no footage, for people. */
export function describeReason(reason: GapReason): string {
  return REASONS[reason] ?? REASONS.UNKNOWN;
}
