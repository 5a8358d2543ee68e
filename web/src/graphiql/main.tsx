import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import "graphiql/style.css";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";
import { Session } from "../auth/session";
import { Client } from "../graphql/client";
import { FirstCameraDocument } from "../graphql/operations";
import { ServiceClock } from "../time/service-clock";
import { type Camera, tabs } from "./tabs";
import "./graphiql.css";

const session = new Session();

/** Asks as the viewer who is signed in on this service, unless the headers name somebody else. */
async function ask(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const send = () => {
    const headers = new Headers(init?.headers);
    const own = !headers.has("authorization");
    if (own && session.token) headers.set("authorization", `Bearer ${session.token}`);
    return { own, answer: fetch(input, { ...init, headers }) };
  };
  const { own, answer } = send();
  if (own && (await answer).status === 401 && (await session.refresh())) return send().answer;
  return answer;
}

/** The socket of subscriptions; connects again with the token of that moment. */
const socket = createClient({
  url: `${location.origin.replace(/^http/, "ws")}/graphql`,
  connectionParams: () => (session.token ? { authorization: `Bearer ${session.token}` } : {}),
  retryAttempts: Number.POSITIVE_INFINITY,
});

const fetcher = createGraphiQLFetcher({ url: "/graphql", fetch: ask, wsClient: socket });

/** The camera that the tabs ask about; none where there is none, or nobody is signed in. */
async function firstCamera(): Promise<Camera | null> {
  if (!session.token) return null;
  try {
    const { devices } = await new Client(session, new ServiceClock()).query(
      FirstCameraDocument,
      {},
    );
    return devices?.nodes[0] ?? null;
  } catch {
    return null;
  }
}

function Explorer({ camera }: { camera: Camera | null }) {
  return (
    <>
      {session.token === null && (
        <p className="signed-out" role="status">
          Nobody is signed in. <a href="/">Sign in</a>, then open this page again.
        </p>
      )}
      <GraphiQL fetcher={fetcher} defaultTabs={tabs(camera, Date.now())} />
    </>
  );
}

await session.start();
const camera = await firstCamera();
const root = document.getElementById("graphiql");
if (root) createRoot(root).render(<Explorer camera={camera} />);
