import Hls, { type ErrorData, Events, type HlsConfig } from "hls.js";
import { mediaAt, wallAt } from "./wall-clock";

/** A playback session that a deck plays. */
export interface OpenedSession {
  sessionId: string;
  url: string;
  live: boolean;
  /** Media time of the instant asked for, counted from the first picture; 0 for live. */
  startOffsetSeconds: number;
  /** Where its footage ends, in milliseconds since the epoch; null for live. */
  endMs: number | null;
  /** When to have replaced it, and when it stops to work, by the service's clock. */
  renewAtMs: number;
  expiresAtMs: number;
}

export interface DeckEvents {
  /** A picture was put on the screen; `wallMs` is when it was recorded. */
  picture(deck: Deck, wallMs: number): void;
  /** It cannot go on; `why` is for people. */
  failed(deck: Deck, why: string): void;
}

/** How far behind the newest part live plays: three parts, the least that Apple's authoring rules allow. */
const LIVE_SYNC_SECONDS = 1.62;
/** Live that is behind by more than this many seconds beyond that comes nearer, at that speed. */
const CATCH_UP = [
  { beyondSeconds: 4, rate: 1.25 },
  { beyondSeconds: 1.3, rate: 1.1 },
] as const;

const SHARED: Partial<HlsConfig> = {
  // Fragments are repackaged by the service already: nothing is left that is worth a thread.
  enableWorker: false,
  startLevel: 0,
  testBandwidth: false,
  startFragPrefetch: true,
  // A picture is asked for to the frame, so the fragment before it must not be skipped.
  maxFragLookUpTolerance: 0,
  backBufferLength: 30,
};

const RECORDED: Partial<HlsConfig> = { ...SHARED, maxBufferLength: 15, maxMaxBufferLength: 60 };

const LIVE: Partial<HlsConfig> = {
  ...SHARED,
  startPosition: -1,
  lowLatencyMode: true,
  liveSyncDuration: LIVE_SYNC_SECONDS,
  liveMaxLatencyDuration: 30,
  liveSyncOnStallIncrease: 0.5,
  maxBufferLength: 15,
};

/** One playback session in one `<video>` element. */
export class Deck {
  readonly video: HTMLVideoElement;
  readonly session: OpenedSession;
  /** Resolves when the picture at the position asked for is decoded; never, once destroyed. */
  readonly ready: Promise<void>;
  readonly #hls: Hls;
  readonly #events: DeckEvents;
  #mediaErrors = 0;

  constructor(stage: HTMLElement, session: OpenedSession, events: DeckEvents) {
    this.session = session;
    this.#events = events;
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    this.video.disableRemotePlayback = true;
    this.video.dataset.sessionId = session.sessionId;
    stage.append(this.video);

    this.#hls = new Hls(
      session.live ? LIVE : { ...RECORDED, startPosition: session.startOffsetSeconds },
    );
    this.#hls.on(Events.ERROR, (_, data) => this.#onError(data));
    this.ready = this.settled();
    this.#hls.loadSource(session.url);
    this.#hls.attachMedia(this.video);
    this.#watchPictures();
    if (session.live) this.video.addEventListener("timeupdate", () => this.#catchUp());
  }

  static isSupported(): boolean {
    return Hls.isSupported();
  }

  /** When the current picture was recorded. */
  wallMs(): number | null {
    return this.#wallAt(this.video.currentTime);
  }

  /** Shows an instant; false where this session does not cover it. */
  seek(wallMs: number): boolean {
    const mediaSeconds = this.#mediaAt(wallMs);
    if (mediaSeconds === null) return false;
    this.video.currentTime = mediaSeconds;
    return true;
  }

  /** The instant that plays `aheadSeconds` from now, across gaps; null past the end. */
  wallAhead(aheadSeconds: number): number | null {
    return this.#wallAt(this.video.currentTime + aheadSeconds);
  }

  /** Whether the picture moves, or would as soon as data comes. */
  get moving(): boolean {
    return !this.video.paused && !this.video.ended && this.video.readyState > 2;
  }

  /** How far the newest fragment known lies ahead of the current picture, in seconds. */
  get edgeDistanceSeconds(): number {
    const edge = this.#hls.latestLevelDetails?.edge;
    return edge === undefined ? 0 : edge - this.video.currentTime;
  }

  /** Whether the picture at the current position is decoded. */
  get isSettled(): boolean {
    return !this.video.seeking && this.video.readyState >= 2 && this.wallMs() !== null;
  }

  /** Resolves when the picture at the current position is decoded. */
  settled(): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!this.isSettled) return;
        for (const name of SETTLING) this.video.removeEventListener(name, look);
        resolve();
      };
      for (const name of SETTLING) this.video.addEventListener(name, look);
      queueMicrotask(look);
    });
  }

  /** Lays this deck's picture over those before it. */
  show(): void {
    this.#tell(this.wallMs());
    this.video.dataset.testid = "video";
    this.video.classList.add("shown");
  }

  destroy(): void {
    this.#hls.destroy();
    this.video.remove();
  }

  #wallAt(mediaSeconds: number): number | null {
    return wallAt(this.#hls.latestLevelDetails?.fragments ?? [], mediaSeconds);
  }

  #mediaAt(wallMs: number): number | null {
    return mediaAt(this.#hls.latestLevelDetails?.fragments ?? [], wallMs);
  }

  #watchPictures(): void {
    const onPicture: VideoFrameRequestCallback = (_, frame) => {
      if (!this.video.isConnected) return;
      const wallMs = this.#wallAt(frame.mediaTime);
      this.#tell(wallMs);
      if (wallMs !== null) this.#events.picture(this, wallMs);
      this.video.requestVideoFrameCallback(onPicture);
    };
    this.video.requestVideoFrameCallback(onPicture);
  }

  #catchUp(): void {
    const beyondSeconds = this.edgeDistanceSeconds - LIVE_SYNC_SECONDS;
    const step = CATCH_UP.find((candidate) => beyondSeconds > candidate.beyondSeconds);
    const rate = step?.rate ?? 1;
    if (this.video.playbackRate !== rate) this.video.playbackRate = rate;
  }

  #tell(wallMs: number | null): void {
    if (wallMs !== null) this.video.dataset.wallMs = wallMs.toFixed(0);
  }

  #onError(data: ErrorData): void {
    if (data.response?.code === 403) {
      this.#events.failed(this, "The playback session has ended.");
    } else if (data.fatal && data.type === "mediaError" && this.#mediaErrors < 2) {
      this.#mediaErrors += 1;
      this.#hls.recoverMediaError();
    } else if (data.fatal) {
      this.#events.failed(
        this,
        data.type === "mediaError"
          ? "This browser cannot play the footage."
          : "The connection to the service was lost.",
      );
    }
  }
}

const SETTLING = ["loadeddata", "seeked", "canplay", "timeupdate"] as const;
