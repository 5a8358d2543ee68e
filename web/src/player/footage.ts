import type { Client } from "../graphql/client";
import {
  type MediaUnavailableCode,
  NextFootageDocument,
  OpenSessionDocument,
  type PlaybackSessionInput,
} from "../graphql/operations";
import type { Span } from "../time/civil-day";
import type { OpenedSession } from "./deck";

/** Why there is nothing to play, as the service says it. */
export interface Unavailable {
  code: MediaUnavailableCode | "NOT_FOUND";
  message: string;
}

/** How much of a session's life passes before it is replaced. */
const RENEW_AFTER = 0.8;

/** One stream's footage, as the service opens it to players. */
export class Footage {
  readonly #client: Client;
  readonly #streamId: string;

  constructor(client: Client, streamId: string) {
    this.#client = client;
    this.#streamId = streamId;
  }

  nowMs(): number {
    return this.#client.clock.nowMs();
  }

  openLive(signal: AbortSignal): Promise<OpenedSession | Unavailable> {
    return this.#open({ streamId: this.#streamId, mode: "LIVE", protocol: "HLS" }, signal);
  }

  openRecorded(span: Span, signal: AbortSignal): Promise<OpenedSession | Unavailable> {
    const input: PlaybackSessionInput = {
      streamId: this.#streamId,
      mode: "ON_DEMAND",
      protocol: "HLS",
      start: new Date(span.startMs).toISOString(),
      end: new Date(span.endMs).toISOString(),
    };
    return this.#open(input, signal);
  }

  /** Where the first footage of a span begins; null where it has none. */
  async firstIn(span: Span, signal: AbortSignal): Promise<number | null> {
    const variables = {
      streamId: this.#streamId,
      range: {
        start: new Date(span.startMs).toISOString(),
        end: new Date(span.endMs).toISOString(),
      },
    };
    const { node } = await this.#client.query(NextFootageDocument, variables, signal);
    const clip = node && "clips" in node ? node.clips?.nodes[0] : undefined;
    return clip ? Date.parse(clip.range.start) : null;
  }

  async #open(
    input: PlaybackSessionInput,
    signal: AbortSignal,
  ): Promise<OpenedSession | Unavailable> {
    const { playbackSession } = await this.#client.query(OpenSessionDocument, { input }, signal);
    if (!playbackSession) return { code: "NOT_FOUND", message: "This stream does not exist." };
    if (playbackSession.__typename === "MediaUnavailable") return playbackSession;
    const openedAtMs = this.nowMs();
    const expiresAtMs = Date.parse(playbackSession.expiresAt);
    return {
      sessionId: playbackSession.sessionId,
      url: playbackSession.url,
      live: input.mode === "LIVE",
      startOffsetSeconds: Math.max(0, playbackSession.startOffsetSeconds),
      endMs: playbackSession.range ? Date.parse(playbackSession.range.end) : null,
      renewAtMs: openedAtMs + (expiresAtMs - openedAtMs) * RENEW_AFTER,
      expiresAtMs,
    };
  }
}
