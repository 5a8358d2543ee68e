import { civilDateAt, civilDay } from "../time/civil-day";

/** A camera of the viewer, which the tabs ask about. */
export interface Camera {
  id: string;
  timeZone: string;
  stream: { id: string; latest: string | null } | null;
}

/** What GraphiQL opens as a tab. */
export interface Tab {
  query: string;
  /** As JSON, to be edited. */
  variables: string;
}

/** Names a camera, for those who have none yet. */
const NOBODY: Camera = { id: "dev_…", timeZone: "UTC", stream: { id: "str_…", latest: null } };
const MINUTE_MS = 60_000;

/** The common operations, ready to run: about the newest day of `camera`, or one to be filled in. */
export function tabs(camera: Camera | null, nowMs: number): Tab[] {
  const { id, timeZone, stream } = camera ?? NOBODY;
  const streamId = stream?.id ?? "str_…";
  const latestMs = stream?.latest ? Date.parse(stream.latest) : nowMs;
  const at = (ms: number) => new Date(ms).toISOString();
  const day = civilDay(civilDateAt(latestMs, timeZone), timeZone);
  const range = { start: at(day.startMs), end: at(day.endMs) };
  const tab = (query: string, variables: object = {}): Tab => ({
    query: `${query.trim()}\n`,
    variables: JSON.stringify(variables, null, 2),
  });
  return [
    tab(
      `
# Cameras, and the newest footage of each.
query Devices($first: Int) {
  service { version time }
  viewer { displayName role }
  devices(first: $first) {
    nodes { id name state connectivity stream { id earliest latest codecs } }
    pageInfo { hasNextPage endCursor }
  }
}`,
      { first: 10 },
    ),
    tab(
      `
# Continuous footage of a day.
query ClipsOfADay($stream: ID!, $range: TimeRangeInput!) {
  node(id: $stream) {
    ... on Stream {
      clips(range: $range) {
        nodes { range { start end durationSeconds } mediaSeconds growing thumbnail { url } }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}`,
      { stream: streamId, range },
    ),
    tab(
      `
# How much of a day is covered, hour by hour, and why the rest is not.
query Coverage($stream: ID!, $range: TimeRangeInput!) {
  node(id: $stream) {
    ... on Stream {
      coverage(range: $range, bucketSeconds: 3600) {
        coveredSeconds
        eventCounts
        totalCoveredSeconds
        gaps { range { start end } reason }
      }
    }
  }
}`,
      { stream: streamId, range },
    ),
    tab(
      `
# A signed URL that plays a span; it works in any player until it expires.
query PlaybackSession($input: PlaybackSessionInput!) {
  playbackSession(input: $input) {
    __typename
    ... on PlaybackSession { url expiresAt range { start end } }
    ... on MediaUnavailable { code message }
  }
}`,
      {
        input: {
          streamId,
          mode: "ON_DEMAND",
          protocol: "HLS",
          start: at(latestMs - 5 * MINUTE_MS),
          end: at(latestMs),
        },
      },
    ),
    tab(
      `
# What was noticed, newest first.
query Events($devices: [ID!], $range: TimeRangeInput, $filter: EventFilter) {
  events(deviceIds: $devices, range: $range, filter: $filter) {
    nodes {
      id
      type
      severity
      start
      end
      seen
      device { name }
      thumbnail { url }
      clip { range { start end } }
    }
  }
}`,
      { devices: [id], range, filter: { minSeverity: "INFO" } },
    ),
    tab(
      `
# Announces a segment: what a camera does every 20 s, with its own token as the Authorization header.
mutation IngestSegments($input: IngestSegmentsInput!) {
  ingestSegments(input: $input) {
    results { clientSegmentId status warnings segment { id } rejection { code message retryable } }
    advice { batchSize flushSeconds heartbeatSeconds liveWanted }
    userErrors { code message path }
  }
}`,
      {
        input: {
          sentAt: at(nowMs),
          segments: [
            {
              clientSegmentId: `${nowMs - 20_000}`,
              start: at(nowMs - 20_000),
              end: at(nowMs),
              trigger: "CONTINUOUS",
            },
          ],
        },
      },
    ),
    tab(
      `
# Makes a camera known; its token is shown this once.
mutation RegisterDevice($input: RegisterDeviceInput!) {
  registerDevice(input: $input) {
    device { id name streams { id name mediaStreamName } }
    credential { token credential { id expiresAt } }
    userErrors { code message path }
  }
}`,
      { input: { externalId: "my-camera-1", name: "My camera", timeZone } },
    ),
    tab(
      `
# Events as they happen, over a socket; stop it with the same button.
subscription EventOccurred($devices: [ID!], $filter: EventFilter) {
  eventOccurred(deviceIds: $devices, filter: $filter) {
    id
    type
    label
    severity
    start
    end
    device { name }
  }
}`,
      { filter: { minSeverity: "INFO" } },
    ),
  ];
}
