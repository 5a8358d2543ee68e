import { useDeferredValue, useState } from "react";
import { DevicesDocument, type DevicesQuery } from "../graphql/operations";
import { useQuery } from "../graphql/use-query";
import { Link } from "../routes";
import { Notice } from "../shell/notice";
import { formatAgo, formatInstant } from "../time/format";
import { useNow } from "../time/use-now";
import { Connection, StateBadge } from "./badges";
import "./devices.css";

const REFRESH_MS = 4_000;
const PAGE_SIZE = 24;

/** The cameras that the viewer may watch. */
export function DevicesScreen() {
  const [search, setSearch] = useState("");
  const wanted = useDeferredValue(search.trim());
  // The cursor of each page so far; the first page has none.
  const [cursors, setCursors] = useState<(string | null)[]>([null]);
  const { data, error, reload } = useQuery(
    DevicesDocument,
    { search: wanted || null, first: PAGE_SIZE, after: cursors.at(-1) ?? null },
    REFRESH_MS,
  );
  const nowMs = useNow();
  const page = data?.devices;
  const next = page?.pageInfo.hasNextPage ? page.pageInfo.endCursor : null;

  return (
    <main className="devices">
      <header className="devices-head">
        <h1>Cameras</h1>
        <input
          type="search"
          value={search}
          placeholder="Search by name"
          aria-label="Search by name"
          onChange={(event) => {
            setSearch(event.target.value);
            setCursors([null]);
          }}
        />
      </header>
      {error && page && (
        <p className="banner" role="alert">
          {error.message} What you see may be out of date.
        </p>
      )}
      {page ? (
        <ul className="devices-list">
          {page.nodes.map((device) => (
            <li key={device.id}>
              <Card device={device} nowMs={nowMs} />
            </li>
          ))}
        </ul>
      ) : error ? (
        <Notice title={error.message} action={{ label: "Try again", run: reload }} />
      ) : (
        <Notice title="Loading …" isBusy />
      )}
      {page?.nodes.length === 0 &&
        (wanted ? (
          <Notice title={`No camera's name begins with “${wanted}”`} />
        ) : (
          <Notice title="No cameras yet">
            Register one with <code>lookback camera</code> or the API, and it shows up here.
          </Notice>
        ))}
      {(cursors.length > 1 || next !== null) && (
        <nav className="devices-pages" aria-label="Pages">
          <button
            type="button"
            disabled={cursors.length === 1}
            onClick={() => setCursors(cursors.slice(0, -1))}
          >
            ‹ Back
          </button>
          <span>Page {cursors.length}</span>
          <button
            type="button"
            disabled={next === null}
            onClick={() => setCursors([...cursors, next])}
          >
            More ›
          </button>
        </nav>
      )}
    </main>
  );
}

type CardDevice = NonNullable<DevicesQuery["devices"]>["nodes"][number];

function Card({ device, nowMs }: { device: CardDevice; nowMs: number }) {
  const latest = device.stream?.latest;
  const latestMs = latest ? Date.parse(latest) : null;
  return (
    <Link to={{ screen: "device", id: device.id }} className="device-card">
      <span className="device-card-name">{device.name}</span>
      <Connection connectivity={device.connectivity} />
      <span className="device-card-picture">
        {latestMs === null ? (
          "No picture yet"
        ) : (
          <>
            Last picture <b>{formatAgo(latestMs, nowMs)}</b>
            <time dateTime={latest ?? undefined}>
              {formatInstant(latestMs, device.timeZone)} · {device.timeZone}
            </time>
          </>
        )}
      </span>
      <span className="device-card-foot">
        <StateBadge state={device.state} />
        <code>{device.externalId}</code>
      </span>
    </Link>
  );
}
