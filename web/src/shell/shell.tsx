import type { ReactNode } from "react";
import { ViewerDocument } from "../graphql/operations";
import { useQuery } from "../graphql/use-query";
import { Link } from "../routes";
import { useService } from "../service";

/** What every signed-in screen stands in. */
export function Shell({ children }: { children: ReactNode }) {
  const { session } = useService();
  const { data } = useQuery(ViewerDocument, {});
  return (
    <>
      <header className="shell">
        <Link to={{ screen: "devices" }} className="shell-name">
          <img src="/favicon.svg" alt="" width="28" height="28" /> Lookback
        </Link>
        <span className="shell-viewer">{data?.viewer?.displayName}</span>
        <button type="button" onClick={() => void session.signOut()}>
          Sign out
        </button>
      </header>
      {children}
    </>
  );
}
