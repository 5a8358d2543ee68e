import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import "graphiql/style.css";
import { createRoot } from "react-dom/client";
import { Session } from "../auth/session";
import "./graphiql.css";

const session = new Session();

/** Asks as the viewer who is signed in on this service; as nobody where none is. */
const fetcher = createGraphiQLFetcher({
  url: "/graphql",
  fetch: (input, init) => {
    const headers = new Headers(init?.headers);
    if (session.token && !headers.has("authorization")) {
      headers.set("authorization", `Bearer ${session.token}`);
    }
    return fetch(input, { ...init, headers });
  },
});

const FIRST_QUERY = `# Cameras, and the newest footage of each.
{
  service { version time }
  viewer { displayName role }
  devices(first: 10) {
    nodes { id name state connectivity stream { id earliest latest } }
  }
}
`;

await session.start();
const root = document.getElementById("graphiql");
if (root) {
  createRoot(root).render(
    <GraphiQL fetcher={fetcher} defaultQuery={FIRST_QUERY} isHeadersEditorEnabled={false} />,
  );
}
