import { Deck, type DeckEvents, type OpenedSession } from "./deck";
import type { Footage, Unavailable } from "./footage";

export type Phase =
  /** The first picture is on its way. */
  | "opening"
  | "playing"
  | "paused"
  /** Nothing to show until more footage arrives or the service answers again. */
  | "waiting"
  /** Only another choice of the viewer's helps. */
  | "failed";

export interface PlaybackState {
  mode: "live" | "recorded";
  phase: Phase;
  /** What is amiss, for people. */
  message: string | null;
  muted: boolean;
  /** The instant last asked for; null for live. */
  askedMs: number | null;
}

/** How much one recorded session spans: more makes longer playlists, less more sessions. */
const WINDOW_MS = 30 * 60_000;
/** An instant this close to now is live. */
const LIVE_EDGE_MS = 4_000;
/** A recorded window that ends this close to now goes on as live. */
const JOIN_LIVE_MS = 15_000;
/** How long before the end of a window the next is made ready. */
const CONTINUE_AHEAD_MS = 10_000;
/** How far ahead of the picture a replacement takes over, so that it is ready when its time comes. */
const HANDOVER_SECONDS = 1.5;
/** The same for live, which has less ahead of the picture. */
const LIVE_HANDOVER_SECONDS = 0.7;
/** A replacement takes over half a frame early rather than a frame late. */
const HANDOVER_TOLERANCE_MS = 20;
/** Live without a new picture for this long is a camera that pauses. */
const PAUSED_CAMERA_MS = 4_000;
/** A picture that stands for this long although there is more is a player that is stuck. */
const STUCK_MS = 6_000;
/** How often footage is looked for where there was none. */
const RETRY_MS = 2_000;
/** How long to wait after the second failure in a row, the third, …; then as the last. */
const BACKOFF_MS = [0, 1_000, 2_000, 4_000, 8_000] as const;
/** A replacement this late is cued anew, further ahead. */
const TOO_LATE_MS = 300;
/** A deck that played for this long has forgotten its failures. */
const SOUND_MS = 5_000;
/** A chosen picture stands for this long before it moves: also a busy browser has drawn it then. */
const SEEN_MS = 80;
/** Live that was paused for longer goes on as recorded. */
const LIVE_PAUSE_MS = 5_000;
/** How much is searched for footage at once; the service takes 31 days. */
const SEARCH_MS = 30 * 24 * 3_600_000;
const TICK_MS = 200;

/** A deck that is to take over from the one on the screen. */
interface Successor {
  deck: Deck;
  /** When the picture reaches this instant; null for as soon as possible. */
  cueMs: number | null;
  /** Whether it stands at its first picture. */
  ready: boolean;
}

/**
 * Plays one stream from any instant, or live, for as long as one watches: sessions end, windows end
 * and connections break, and each time another session takes over at the same instant. The picture
 * on the screen stays until the next one is ready.
 */
export class Playback implements DeckEvents {
  #state: PlaybackState = {
    mode: "live",
    phase: "opening",
    message: null,
    muted: true,
    askedMs: null,
  };
  readonly #stage: HTMLElement;
  readonly #footage: Footage;
  readonly #listeners = new Set<() => void>();
  readonly #ticker: ReturnType<typeof setInterval>;

  /** The deck on the screen. */
  #front: Deck | null = null;
  #successor: Successor | null = null;
  /** Ends whatever the choice before was still about to do. */
  #choice = new AbortController();
  /** Whether a successor is being made or waited for. */
  #preparing = false;
  #wantsToMove = true;
  #failures = 0;
  #pictureMs: number | null = null;
  #pictureAt = 0;
  #pausedAt = 0;
  #shownAt = 0;

  constructor(stage: HTMLElement, footage: Footage) {
    this.#stage = stage;
    this.#footage = footage;
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
  }

  readonly state = (): PlaybackState => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** When the picture on the screen was recorded. */
  wallMs(): number | null {
    return this.#pictureMs;
  }

  /** How far the picture on the screen is behind the service's clock. */
  behindMs(): number | null {
    return this.#pictureMs === null ? null : this.#footage.nowMs() - this.#pictureMs;
  }

  /** Plays from an instant; in a gap, from the next footage. */
  play(atMs: number): void {
    if (atMs > this.#footage.nowMs() - LIVE_EDGE_MS) {
      this.live();
      return;
    }
    this.#wantsToMove = true;
    if (this.#front && this.scrub(atMs)) {
      void this.#moveOnceSeen(this.#front, this.#choose());
      this.#become({ phase: "playing", message: null, askedMs: atMs });
      return;
    }
    const signal = this.#choose();
    this.#become({ mode: "recorded", phase: "opening", message: null, askedMs: atMs });
    void this.#prepareRecorded(atMs, null, signal);
  }

  /** Shows an instant and stays there, where that needs no other session: while a finger drags. */
  scrub(atMs: number): boolean {
    const front = this.#front;
    if (!front || front.session.live || this.#state.mode === "live" || this.#isOver(front)) {
      return false;
    }
    this.#pictureAt = performance.now();
    front.video.pause();
    return front.seek(atMs);
  }

  /** Goes on where a finger that dragged was lifted without a choice. */
  endScrub(): void {
    if (this.#front) this.#move(this.#front);
  }

  live(): void {
    this.#wantsToMove = true;
    const signal = this.#choose();
    this.#become({ mode: "live", phase: "opening", message: null, askedMs: null });
    void this.#prepareLive(null, signal);
  }

  pause(): void {
    this.#wantsToMove = false;
    this.#pausedAt = performance.now();
    this.#front?.video.pause();
    this.#become({ phase: "paused" });
  }

  resume(): void {
    const front = this.#front;
    const wallMs = front?.wallMs() ?? null;
    const livePaused = performance.now() - this.#pausedAt > LIVE_PAUSE_MS;
    if (!front || wallMs === null) {
      this.live();
    } else if ((front.session.live && livePaused) || this.#isOver(front)) {
      const signal = this.#choose();
      this.#wantsToMove = true;
      this.#become({ mode: "recorded", phase: "opening", message: null, askedMs: wallMs });
      void this.#prepareRecorded(wallMs, null, signal);
    } else {
      this.#wantsToMove = true;
      this.#move(front);
      this.#become({ phase: "playing", message: null });
    }
  }

  setMuted(muted: boolean): void {
    if (this.#front) this.#front.video.muted = muted;
    this.#become({ muted });
  }

  destroy(): void {
    clearInterval(this.#ticker);
    this.#choose();
    this.#front?.destroy();
    this.#front = null;
    this.#listeners.clear();
  }

  picture(deck: Deck, wallMs: number): void {
    if (deck !== this.#front) return;
    this.#pictureMs = wallMs;
    this.#pictureAt = performance.now();
    if (this.#state.phase === "waiting" && deck.moving) {
      this.#become({ phase: "playing", message: null });
    }
    this.#handOver();
  }

  failed(deck: Deck, why: string): void {
    if (deck === this.#successor?.deck) {
      this.#dropSuccessor();
      void this.#retry(why);
    } else if (deck === this.#front && !this.#preparing) {
      void this.#retry(why);
    }
  }

  /** Begins a new choice of the viewer's, ending the one before. */
  #choose(): AbortSignal {
    this.#choice.abort();
    this.#choice = new AbortController();
    this.#dropSuccessor();
    this.#preparing = false;
    this.#failures = 0;
    return this.#choice.signal;
  }

  #dropSuccessor(): void {
    this.#successor?.deck.destroy();
    this.#successor = null;
    this.#preparing = false;
  }

  #isOver(deck: Deck): boolean {
    return this.#footage.nowMs() >= deck.session.expiresAtMs;
  }

  /** Makes a deck ready that plays from `atMs`, to take over at `cueMs`. */
  async #prepareRecorded(atMs: number, cueMs: number | null, signal: AbortSignal): Promise<void> {
    this.#preparing = true;
    try {
      let startMs = atMs;
      for (;;) {
        const nowMs = this.#footage.nowMs();
        if (startMs < nowMs) {
          const endMs = Math.min(startMs + WINDOW_MS, nowMs);
          const opened = await this.#footage.openRecorded({ startMs, endMs }, signal);
          if (!("code" in opened)) {
            await this.#load(opened, cueMs, signal);
            return;
          }
          if (opened.code !== "NO_MEDIA") {
            this.#refuse(opened);
            return;
          }
          const next = await this.#footage.firstIn(
            { startMs, endMs: Math.min(startMs + SEARCH_MS, nowMs) },
            signal,
          );
          if (next !== null && next > startMs) {
            startMs = next;
            continue;
          }
          if (startMs + SEARCH_MS < nowMs) {
            startMs += SEARCH_MS;
            continue;
          }
        }
        if (!this.#front?.moving) {
          this.#become({ phase: "waiting", message: "No newer footage yet." });
        }
        await pause(RETRY_MS, signal);
      }
    } catch (error) {
      if (!signal.aborted) void this.#retry((error as Error).message);
    }
  }

  async #prepareLive(cueMs: number | null, signal: AbortSignal): Promise<void> {
    this.#preparing = true;
    try {
      for (;;) {
        const opened = await this.#footage.openLive(signal);
        if (!("code" in opened)) {
          await this.#load(opened, cueMs, signal);
          return;
        }
        if (opened.code !== "NO_MEDIA") {
          this.#refuse(opened);
          return;
        }
        if (!this.#front?.moving || this.#state.phase === "opening") {
          this.#become({ phase: "waiting", message: "The camera is not sending right now." });
        }
        await pause(RETRY_MS, signal);
      }
    } catch (error) {
      if (!signal.aborted) void this.#retry((error as Error).message);
    }
  }

  #refuse(unavailable: Unavailable): void {
    this.#preparing = false;
    if (unavailable.code === "BACKEND_UNAVAILABLE") void this.#retry(unavailable.message);
    else if (!this.#front?.moving || this.#state.phase === "opening") {
      this.#front?.video.pause();
      this.#become({ phase: "failed", message: unavailable.message });
    }
  }

  async #load(session: OpenedSession, cueMs: number | null, signal: AbortSignal): Promise<void> {
    const deck = new Deck(this.#stage, session, this);
    const successor: Successor = { deck, cueMs, ready: false };
    this.#successor = successor;
    const aborted = new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([deck.ready, aborted]);
    // A live playlist begins before the edge: it can take over at the very picture.
    if (session.live && cueMs !== null && this.#successor === successor) {
      if (deck.seek(cueMs)) await Promise.race([deck.settled(), aborted]);
      else successor.cueMs = null;
    }
    if (this.#successor !== successor) return;
    successor.ready = true;
    this.#handOver();
  }

  /** Puts the successor on the screen once its time has come. */
  #handOver(): void {
    const successor = this.#successor;
    if (!successor?.ready || !successor.deck.isSettled) return;
    const { deck, cueMs } = successor;
    const front = this.#front;
    const frontMs = front?.wallMs() ?? null;
    if (front?.moving && this.#wantsToMove && cueMs !== null && frontMs !== null) {
      if (frontMs < cueMs - HANDOVER_TOLERANCE_MS) return;
      const laterMs = front.wallAhead(HANDOVER_SECONDS);
      if (frontMs > cueMs + TOO_LATE_MS && laterMs !== null && deck.seek(laterMs)) {
        successor.cueMs = laterMs;
        return;
      }
    }
    this.#successor = null;
    this.#preparing = false;
    this.#front = deck;
    this.#pictureMs = deck.wallMs();
    this.#pictureAt = performance.now();
    this.#shownAt = this.#pictureAt;
    deck.video.muted = this.#state.muted;
    deck.show();
    const isChosen = this.#state.phase === "opening" && !deck.session.live;
    if (isChosen) void this.#moveOnceSeen(deck, this.#choice.signal);
    else this.#move(deck);
    front?.destroy();
    this.#become({
      mode: deck.session.live ? "live" : "recorded",
      phase: this.#wantsToMove ? "playing" : "paused",
      message: null,
    });
  }

  /** Lets a deck play; one that may not play with sound by itself, muted. */
  #move(deck: Deck): void {
    if (deck !== this.#front || !this.#wantsToMove) return;
    deck.video.play().catch(() => {
      if (deck !== this.#front || deck.video.muted || !this.#wantsToMove) return;
      this.setMuted(true);
      void deck.video.play().catch(() => this.pause());
    });
  }

  /** The same, once the picture that was chosen has been on the screen. */
  async #moveOnceSeen(deck: Deck, signal: AbortSignal): Promise<void> {
    await deck.settled();
    await pause(SEEN_MS, signal).catch(() => undefined);
    if (!signal.aborted) this.#move(deck);
  }

  /** Tries again where the picture stands now, the later the more often it failed in a row. */
  async #retry(why: string): Promise<void> {
    const { signal } = this.#choice;
    this.#preparing = true;
    const waitMs = BACKOFF_MS[Math.min(this.#failures, BACKOFF_MS.length - 1)] ?? 0;
    this.#failures += 1;
    if (this.#failures > 1) this.#become({ phase: "waiting", message: `${why} Trying again …` });
    try {
      await pause(waitMs, signal);
    } catch {
      return;
    }
    const front = this.#state.phase === "opening" ? null : this.#front;
    const cueMs = front?.moving ? this.#cueOf(front) : null;
    if (this.#state.mode === "live") {
      void this.#prepareLive(cueMs, signal);
    } else {
      const atMs = cueMs ?? front?.wallMs() ?? this.#state.askedMs ?? this.#footage.nowMs();
      void this.#prepareRecorded(atMs, cueMs, signal);
    }
  }

  /** The instant at which a replacement can take over without a break. */
  #cueOf(front: Deck): number | null {
    return front.wallAhead(front.session.live ? LIVE_HANDOVER_SECONDS : HANDOVER_SECONDS);
  }

  /** Looks after what no event tells: ends that come near, sessions that grow old, standstill. */
  #tick(): void {
    this.#handOver();
    const front = this.#front;
    if (!front || this.#preparing || !this.#wantsToMove) return;
    const standsForMs = performance.now() - this.#pictureAt;
    if (performance.now() - this.#shownAt > SOUND_MS && standsForMs < 1000) this.#failures = 0;
    const { signal } = this.#choice;
    const { endMs, live, renewAtMs } = front.session;
    const nowMs = this.#footage.nowMs();
    const wallMs = front.wallMs();

    if (endMs !== null && (front.video.ended || (wallMs ?? 0) > endMs - CONTINUE_AHEAD_MS)) {
      if (nowMs - endMs < JOIN_LIVE_MS) void this.#prepareLive(endMs, signal);
      else void this.#prepareRecorded(endMs, endMs, signal);
    } else if (nowMs > renewAtMs) {
      const cueMs = front.moving ? this.#cueOf(front) : wallMs;
      if (live) void this.#prepareLive(cueMs, signal);
      else if (cueMs !== null) void this.#prepareRecorded(cueMs, cueMs, signal);
    } else if (live && front.video.ended) {
      void this.#retry("Live ended.");
    } else if (document.hidden || front.video.paused) {
      // Nothing is put on a screen that nobody sees.
      this.#pictureAt = performance.now();
    } else if (standsForMs > STUCK_MS && front.edgeDistanceSeconds > 3) {
      void this.#retry("The picture stands still.");
    } else if (live && standsForMs > PAUSED_CAMERA_MS && this.#state.phase === "playing") {
      this.#become({ phase: "waiting", message: "The camera is not sending right now." });
    }
  }

  #become(change: Partial<PlaybackState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}

/** Waits; rejects once `signal` is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
