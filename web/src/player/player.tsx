import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { formatClock, formatDate, formatInstant } from "../time/format";
import { Deck } from "./deck";
import { PauseIcon, PlayIcon, ScreenIcon, SoundIcon } from "./icons";
import type { Playback, PlaybackState } from "./playback";
import "./player.css";

interface PlayerProps {
  /** Null until the stage is there. */
  playback: Playback | null;
  /** Takes the element that decks are put on. */
  stageRef: (stage: HTMLDivElement | null) => void;
  zone: string;
  onLive: () => void;
}

const STEP_MS = 10_000;

/** The picture, its clock, and what moves it. */
export function Player({ playback, stageRef, zone, onLive }: PlayerProps) {
  const state = usePlaybackState(playback);
  const root = useRef<HTMLDivElement>(null);
  const { wallMs, behindMs } = usePicture(playback);
  const isLive = state.mode === "live";
  const isMoving = state.phase !== "paused" && state.phase !== "failed";
  const step = (byMs: number) => {
    if (playback && wallMs !== null) playback.play(wallMs + byMs);
  };

  return (
    <div
      ref={root}
      className="player"
      data-testid="player"
      data-mode={state.mode}
      data-phase={state.phase}
      data-asked-ms={state.askedMs ?? undefined}
      data-wall-ms={wallMs === null ? undefined : Math.round(wallMs)}
      data-behind-ms={behindMs === null ? undefined : Math.round(behindMs)}
    >
      <div className="player-stage" ref={stageRef} />
      <div className="player-strip">
        {wallMs !== null && (
          <time className="player-clock" dateTime={new Date(wallMs).toISOString()}>
            <strong>{formatClock(wallMs, zone)}</strong>
            {formatDate(wallMs, zone)}
          </time>
        )}
        <Delay state={state} behindMs={behindMs} />
      </div>
      <Status state={state} />
      <div className="player-controls">
        <button
          type="button"
          className="icon"
          aria-label={isMoving ? "Pause" : "Play"}
          onClick={() => (isMoving ? playback?.pause() : playback?.resume())}
        >
          {isMoving ? <PauseIcon /> : <PlayIcon />}
        </button>
        <button type="button" onClick={() => step(-STEP_MS)} aria-label="10 seconds back">
          −10 s
        </button>
        <button
          type="button"
          onClick={() => step(STEP_MS)}
          disabled={isLive}
          aria-label="10 seconds on"
        >
          +10 s
        </button>
        <button
          type="button"
          className={isLive ? "live on" : "live"}
          aria-pressed={isLive}
          data-testid="live"
          onClick={onLive}
        >
          <i aria-hidden="true" /> Live
        </button>
        <span className="player-spacer" />
        <button
          type="button"
          className="icon"
          aria-label={state.muted ? "Sound on" : "Sound off"}
          aria-pressed={!state.muted}
          onClick={() => playback?.setMuted(!state.muted)}
        >
          <SoundIcon muted={state.muted} />
        </button>
        <button
          type="button"
          className="icon"
          aria-label="Full screen"
          onClick={() => {
            if (document.fullscreenElement) void document.exitFullscreen();
            else void root.current?.requestFullscreen?.();
          }}
        >
          <ScreenIcon />
        </button>
      </div>
      <p className="hidden" role="status">
        {state.message ?? (isLive ? "Live" : wallMs !== null ? formatInstant(wallMs, zone) : "")}
      </p>
    </div>
  );
}

function Delay({ state, behindMs }: { state: PlaybackState; behindMs: number | null }) {
  if (state.mode !== "live" || state.phase !== "playing" || behindMs === null) return null;
  return (
    <span className="player-live" data-testid="live-indicator">
      <i aria-hidden="true" /> LIVE
      <small>
        {(Math.max(0, behindMs) / 1000).toFixed(1)} s<span> behind</span>
      </small>
    </span>
  );
}

function Status({ state }: { state: PlaybackState }) {
  if (!Deck.isSupported()) {
    return (
      <p className="player-status">This browser has no Media Source Extensions to play with.</p>
    );
  }
  if (state.message !== null) return <p className="player-status">{state.message}</p>;
  if (state.phase === "opening") {
    return (
      <p className="player-status quiet">
        <span className="spinner" aria-hidden="true" /> Opening …
      </p>
    );
  }
  return null;
}

const OPENING: PlaybackState = {
  mode: "live",
  phase: "opening",
  message: null,
  muted: true,
  askedMs: null,
};
const never = () => () => undefined;

function usePlaybackState(playback: Playback | null): PlaybackState {
  return useSyncExternalStore(playback?.subscribe ?? never, playback?.state ?? (() => OPENING));
}

/** The picture's own clock, often enough for its seconds to tick evenly. */
export function usePicture(playback: Playback | null) {
  const [picture, setPicture] = useState<{ wallMs: number | null; behindMs: number | null }>({
    wallMs: null,
    behindMs: null,
  });
  useEffect(() => {
    const timer = setInterval(() => {
      const wallMs = playback?.wallMs() ?? null;
      setPicture((last) =>
        last.wallMs === wallMs ? last : { wallMs, behindMs: playback?.behindMs() ?? null },
      );
    }, 100);
    return () => clearInterval(timer);
  }, [playback]);
  return picture;
}
