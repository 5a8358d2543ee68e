/** Internal type. DO NOT USE DIRECTLY. */
type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
/** Internal type. DO NOT USE DIRECTLY. */
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
import type { DocumentTypeDecoration } from '@graphql-typed-document-node/core';
/** Whether the service hears from a device. */
export type Connectivity =
  | 'OFFLINE'
  /** An upload is open, or it was heard of within 60 s or twice its advised interval. */
  | 'ONLINE'
  /** It never reported. */
  | 'UNKNOWN';

/** Where a device stands in its life. */
export type DeviceState =
  | 'ACTIVE'
  /** Registered; nothing has arrived yet. */
  | 'PROVISIONED'
  /** Ingest is refused and credentials are revoked; footage stays until its retention ends. */
  | 'RETIRED'
  /** Ingest is refused; playback still works. */
  | 'SUSPENDED';

/** Why there is no footage. */
export type GapReason =
  /** It was deleted on request. */
  | 'DELETED'
  | 'DEVICE_OFFLINE'
  /** Its retention ended. */
  | 'EXPIRED'
  /** The plan records events only, or the camera was set not to record. */
  | 'NOT_SCHEDULED'
  /** It may still arrive. */
  | 'PENDING'
  | 'UNKNOWN';

export type MediaUnavailableCode =
  /** The media backend did not answer or is throttling; try again. */
  | 'BACKEND_UNAVAILABLE'
  /** The codec cannot be carried by this protocol. */
  | 'CODEC_NOT_SUPPORTED'
  /** It is not kept any more. */
  | 'EXPIRED'
  /** The codec changes inside the range; ask per clip. */
  | 'MIXED_CODECS'
  /** This deployment's media backend cannot do this, now or later. */
  | 'NOT_SUPPORTED'
  /** No footage in the range; for `LIVE`: the camera is not sending. */
  | 'NO_MEDIA'
  /** The range is longer than the protocol allows. */
  | 'RANGE_TOO_LONG';

/** Which part of a stream a session plays. */
export type PlaybackMode =
  /** From now on. */
  | 'LIVE'
  /** From a point in the past and on into live. */
  | 'LIVE_REPLAY'
  /** A finished range. */
  | 'ON_DEMAND';

/** How a player fetches media. */
export type PlaybackProtocol =
  /** MPEG-DASH, fragmented MP4. */
  | 'DASH'
  /** HTTP Live Streaming, fragmented MP4. */
  | 'HLS'
  /** HTTP Live Streaming, MPEG transport stream, for players that know nothing newer. */
  | 'HLS_TS'
  /** One MP4 file, resumable by byte range; a finished range only. */
  | 'MP4';

/** What to play. */
export type PlaybackSessionInput = {
  /** Required for `ON_DEMAND`, else refused. */
  end?: string | null | undefined;
  /** How long the URL works, 300 to 43200 s. */
  expiresInSeconds?: number;
  /** For `MP4`: the name that a browser saves the file under. */
  fileName?: string | null | undefined;
  mode?: PlaybackMode;
  protocol?: PlaybackProtocol;
  /** Required, but refused for `LIVE`. */
  start?: string | null | undefined;
  streamId: string | number;
};

/** What a token may do in its account. */
export type Role =
  /** Everything, plans and users included. */
  | 'ADMIN'
  /** Announce segments and events of one device; only ever given to a device. */
  | 'DEVICE'
  /** On every device of the account what `DeviceRole.MANAGER` may, and register devices. */
  | 'MANAGER'
  /** Only what shares give. */
  | 'MEMBER'
  /** On every device of the account what `DeviceRole.VIEWER` may. */
  | 'VIEWER';

/** A half-open span of time to ask for; `end` must be after `start`. */
export type TimeRangeInput = {
  end: string;
  start: string;
};

export type ViewerQueryVariables = Exact<{ [key: string]: never; }>;


export type ViewerQuery = { viewer: { displayName: string, role: Role } | null };

export type CalendarQueryVariables = Exact<{
  streamId: string | number;
  from: string;
  to: string;
  timeZone: string;
}>;


export type CalendarQuery = { node:
    | { calendar: Array<{ date: string, coveredSeconds: number }> | null }
    | Record<PropertyKey, never>
   | null };

export type DeviceQueryVariables = Exact<{
  id: string | number;
}>;


export type DeviceQuery = { service: { time: string }, device: { id: string, externalId: string, name: string, model: string | null, state: DeviceState, connectivity: Connectivity, lastSeenAt: string | null, timeZone: string, stream: { id: string, codecs: string | null, earliest: string | null, latest: string | null, resolution: { width: number, height: number } | null } | null } | null };

export type DevicesQueryVariables = Exact<{
  search?: string | null | undefined;
  first: number;
  after?: string | null | undefined;
}>;


export type DevicesQuery = { service: { time: string }, devices: { nodes: Array<{ id: string, externalId: string, name: string, state: DeviceState, connectivity: Connectivity, lastSeenAt: string | null, timeZone: string, stream: { latest: string | null } | null }>, pageInfo: { hasNextPage: boolean, endCursor: string | null } } | null };

export type FirstCameraQueryVariables = Exact<{ [key: string]: never; }>;


export type FirstCameraQuery = { devices: { nodes: Array<{ id: string, timeZone: string, stream: { id: string, latest: string | null } | null }> } | null };

export type OpenSessionQueryVariables = Exact<{
  input: PlaybackSessionInput;
}>;


export type OpenSessionQuery = { service: { time: string }, playbackSession:
    | { __typename: 'MediaUnavailable', code: MediaUnavailableCode, message: string, nearest: { start: string, end: string } | null }
    | { __typename: 'PlaybackSession', sessionId: string, url: string, startOffsetSeconds: number, expiresAt: string, range: { start: string, end: string } | null }
   | null };

export type NextFootageQueryVariables = Exact<{
  streamId: string | number;
  range: TimeRangeInput;
}>;


export type NextFootageQuery = { node:
    | { clips: { nodes: Array<{ range: { start: string, end: string } }> } | null }
    | Record<PropertyKey, never>
   | null };

export type CoverageQueryVariables = Exact<{
  streamId: string | number;
  range: TimeRangeInput;
  bucketSeconds: number;
}>;


export type CoverageQuery = { service: { time: string }, node:
    | { coverage: { bucketSeconds: number, coveredSeconds: Array<number>, range: { start: string, end: string }, gaps: Array<{ reason: GapReason, range: { start: string, end: string } }> | null } | null }
    | Record<PropertyKey, never>
   | null };

export class TypedDocumentString<TResult, TVariables>
  extends String
  implements DocumentTypeDecoration<TResult, TVariables>
{
  __apiType?: NonNullable<DocumentTypeDecoration<TResult, TVariables>['__apiType']>;
  private value: string;
  public __meta__?: Record<string, any> | undefined;

  constructor(value: string, __meta__?: Record<string, any> | undefined) {
    super(value);
    this.value = value;
    this.__meta__ = __meta__;
  }

  override toString(): string & DocumentTypeDecoration<TResult, TVariables> {
    return this.value;
  }
}

export const ViewerDocument = new TypedDocumentString(`
    query Viewer {
  viewer {
    displayName
    role
  }
}
    `) as unknown as TypedDocumentString<ViewerQuery, ViewerQueryVariables>;
export const CalendarDocument = new TypedDocumentString(`
    query Calendar($streamId: ID!, $from: LocalDate!, $to: LocalDate!, $timeZone: TimeZone!) {
  node(id: $streamId) {
    ... on Stream {
      calendar(from: $from, to: $to, timeZone: $timeZone) {
        date
        coveredSeconds
      }
    }
  }
}
    `) as unknown as TypedDocumentString<CalendarQuery, CalendarQueryVariables>;
export const DeviceDocument = new TypedDocumentString(`
    query Device($id: ID!) {
  service {
    time
  }
  device(ref: {id: $id}) {
    id
    externalId
    name
    model
    state
    connectivity
    lastSeenAt
    timeZone
    stream {
      id
      codecs
      resolution {
        width
        height
      }
      earliest
      latest
    }
  }
}
    `) as unknown as TypedDocumentString<DeviceQuery, DeviceQueryVariables>;
export const DevicesDocument = new TypedDocumentString(`
    query Devices($search: String, $first: Int!, $after: String) {
  service {
    time
  }
  devices(filter: {search: $search}, first: $first, after: $after) {
    nodes {
      id
      externalId
      name
      state
      connectivity
      lastSeenAt
      timeZone
      stream {
        latest
      }
    }
    pageInfo {
      hasNextPage
      endCursor
    }
  }
}
    `) as unknown as TypedDocumentString<DevicesQuery, DevicesQueryVariables>;
export const FirstCameraDocument = new TypedDocumentString(`
    query FirstCamera {
  devices(first: 1) {
    nodes {
      id
      timeZone
      stream {
        id
        latest
      }
    }
  }
}
    `) as unknown as TypedDocumentString<FirstCameraQuery, FirstCameraQueryVariables>;
export const OpenSessionDocument = new TypedDocumentString(`
    query OpenSession($input: PlaybackSessionInput!) {
  service {
    time
  }
  playbackSession(input: $input) {
    __typename
    ... on PlaybackSession {
      sessionId
      url
      range {
        start
        end
      }
      startOffsetSeconds
      expiresAt
    }
    ... on MediaUnavailable {
      code
      message
      nearest {
        start
        end
      }
    }
  }
}
    `) as unknown as TypedDocumentString<OpenSessionQuery, OpenSessionQueryVariables>;
export const NextFootageDocument = new TypedDocumentString(`
    query NextFootage($streamId: ID!, $range: TimeRangeInput!) {
  node(id: $streamId) {
    ... on Stream {
      clips(range: $range, order: OLDEST_FIRST, first: 1) {
        nodes {
          range {
            start
            end
          }
        }
      }
    }
  }
}
    `) as unknown as TypedDocumentString<NextFootageQuery, NextFootageQueryVariables>;
export const CoverageDocument = new TypedDocumentString(`
    query Coverage($streamId: ID!, $range: TimeRangeInput!, $bucketSeconds: Int!) {
  service {
    time
  }
  node(id: $streamId) {
    ... on Stream {
      coverage(range: $range, bucketSeconds: $bucketSeconds) {
        range {
          start
          end
        }
        bucketSeconds
        coveredSeconds
        gaps {
          range {
            start
            end
          }
          reason
        }
      }
    }
  }
}
    `) as unknown as TypedDocumentString<CoverageQuery, CoverageQueryVariables>;