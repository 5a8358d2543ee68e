import { useCallback, useEffect, useRef, useState } from "react";
import { useService } from "../service";
import type { TypedDocumentString } from "./operations";

export interface QueryState<Result> {
  /** The newest answer; while variables change, the one to the variables before. */
  data: Result | null;
  /** Why the newest question was not answered. */
  error: Error | null;
  reload: () => void;
}

/** Asks while mounted, again whenever `variables` change and, where `everyMs` is set, that often. */
export function useQuery<Result, Variables>(
  document: TypedDocumentString<Result, Variables>,
  variables: Variables,
  everyMs?: number,
): QueryState<Result> {
  const { client } = useService();
  const [data, setData] = useState<Result | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [round, setRound] = useState(0);
  const key = JSON.stringify(variables);
  const latest = useRef(variables);
  latest.current = variables;

  // biome-ignore lint/correctness/useExhaustiveDependencies: `key` stands for the variables, `round` for a reload
  useEffect(() => {
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = async () => {
      if (!globalThis.document.hidden || data === null) {
        try {
          setData(await client.query(document, latest.current, controller.signal));
          setError(null);
        } catch (failure) {
          if (controller.signal.aborted) return;
          setError(failure as Error);
        }
      }
      if (everyMs !== undefined && !controller.signal.aborted) timer = setTimeout(ask, everyMs);
    };
    void ask();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [client, document, key, everyMs, round]);

  const reload = useCallback(() => setRound((count) => count + 1), []);
  return { data, error, reload };
}
