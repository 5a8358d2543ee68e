import { useEffect, useMemo, useState } from "react";
import { Connection, StateBadge } from "../devices/badges";
import { DeviceDocument, type DeviceQuery } from "../graphql/operations";
import { useQuery } from "../graphql/use-query";
import { Deck } from "../player/deck";
import { Footage } from "../player/footage";
import { Playback } from "../player/playback";
import { Player, usePicture } from "../player/player";
import { Link } from "../routes";
import { useService } from "../service";
import { Notice } from "../shell/notice";
import { type CivilDate, civilDateAt, civilDay } from "../time/civil-day";
import { formatZone } from "../time/format";
import { useNow } from "../time/use-now";
import { Timeline } from "../timeline/timeline";
import { DayPicker } from "./day-picker";
import "./device.css";

const REFRESH_MS = 5_000;

/** One device: its picture, and the day that it is from. */
export function DeviceScreen({ id }: { id: string }) {
  const { data, error, reload } = useQuery(DeviceDocument, { id }, REFRESH_MS);
  if (data?.device) return <Device key={data.device.id} device={data.device} error={error} />;
  if (data) {
    return (
      <Notice title="This camera does not exist">
        Or it is not yours to see. <Link to={{ screen: "devices" }}>All cameras</Link>
      </Notice>
    );
  }
  if (error) return <Notice title={error.message} action={{ label: "Try again", run: reload }} />;
  return <Notice title="Loading …" isBusy />;
}

type DeviceData = NonNullable<DeviceQuery["device"]>;

function Device({ device, error }: { device: DeviceData; error: Error | null }) {
  const { stream, timeZone: zone } = device;
  return (
    <main className="device">
      <header className="device-head">
        <Link to={{ screen: "devices" }} className="back">
          ‹ Cameras
        </Link>
        <h1>{device.name}</h1>
        <Connection connectivity={device.connectivity} />
        <StateBadge state={device.state} />
      </header>
      {error && (
        <p className="banner" role="alert">
          {error.message} What you see may be out of date.
        </p>
      )}
      {stream ? (
        <Watch
          streamId={stream.id}
          zone={zone}
          earliestMs={stream.earliest === null ? null : Date.parse(stream.earliest)}
        />
      ) : (
        <Notice title="This camera has no stream" />
      )}
      <footer className="device-facts">
        <Fact name="Identifier" value={device.externalId} />
        {device.model && <Fact name="Model" value={device.model} />}
        {stream?.resolution && (
          <Fact name="Picture" value={`${stream.resolution.width} × ${stream.resolution.height}`} />
        )}
        {stream?.codecs && <Fact name="Codecs" value={stream.codecs} />}
      </footer>
    </main>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <span>
      {name} <b>{value}</b>
    </span>
  );
}

interface WatchProps {
  streamId: string;
  zone: string;
  earliestMs: number | null;
}

/** Player, day and timeline of one stream, which move together. */
function Watch({ streamId, zone, earliestMs }: WatchProps) {
  const { client } = useService();
  const nowMs = useNow();
  const [stage, setStage] = useState<HTMLDivElement | null>(null);
  const [playback, setPlayback] = useState<Playback | null>(null);
  const { wallMs } = usePicture(playback);
  const today = civilDateAt(nowMs, zone);
  const pictureDate = wallMs === null ? today : civilDateAt(wallMs, zone);
  const [date, setDate] = useState<CivilDate>(today);
  const [lastPictureDate, setLastPictureDate] = useState(pictureDate);

  // The day shown is the picture's, until the viewer looks at another.
  if (lastPictureDate !== pictureDate) {
    setLastPictureDate(pictureDate);
    setDate(pictureDate);
  }

  useEffect(() => {
    if (!stage || !Deck.isSupported()) return;
    const made = new Playback(stage, new Footage(client, streamId));
    setPlayback(made);
    made.live();
    return () => {
      setPlayback(null);
      made.destroy();
    };
  }, [stage, client, streamId]);

  const { startMs, endMs } = civilDay(date, zone);
  const day = useMemo(() => ({ startMs, endMs }), [startMs, endMs]);

  return (
    <>
      <Player
        playback={playback}
        stageRef={setStage}
        zone={zone}
        onLive={() => {
          setDate(today);
          playback?.live();
        }}
      />
      <section className="device-when">
        <DayPicker streamId={streamId} zone={zone} date={date} today={today} onPick={setDate} />
        <p className="device-zone">
          Times in <b data-testid="zone">{formatZone(startMs, zone)}</b>
        </p>
        <Timeline
          streamId={streamId}
          zone={zone}
          day={day}
          nowMs={nowMs}
          earliestMs={earliestMs}
          playheadMs={wallMs}
          onPlay={(atMs) => playback?.play(atMs)}
          onScrub={(atMs) => playback?.scrub(atMs)}
          onScrubEnd={() => playback?.endScrub()}
        />
      </section>
    </>
  );
}
