import type { Session } from "../auth/session";
import type { ServiceClock } from "../time/service-clock";
import type { TypedDocumentString } from "./operations";

interface Answer<Result> {
  data?: Result | null;
  errors?: { message: string; extensions?: { code?: string } }[];
}

/** A question that the service did not answer; `code` is the API's, or the HTTP status. */
export class RequestError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "RequestError";
    this.code = code;
  }
}

/** Asks the service, as the signed-in viewer. */
export class Client {
  readonly #session: Session;
  readonly clock: ServiceClock;

  constructor(session: Session, clock: ServiceClock) {
    this.#session = session;
    this.clock = clock;
  }

  async query<Result, Variables>(
    document: TypedDocumentString<Result, Variables>,
    variables: Variables,
    signal?: AbortSignal,
  ): Promise<Result> {
    try {
      return await this.#send(document, variables, signal);
    } catch (error) {
      const refused =
        error instanceof RequestError && (error.code === "401" || error.code === "UNAUTHENTICATED");
      if (!refused || !(await this.#session.refresh())) throw error;
      return this.#send(document, variables, signal);
    }
  }

  async #send<Result, Variables>(
    document: TypedDocumentString<Result, Variables>,
    variables: Variables,
    signal?: AbortSignal,
  ): Promise<Result> {
    const sentMs = Date.now();
    let response: Response;
    try {
      response = await fetch("/graphql", {
        method: "POST",
        headers: {
          "content-type": "application/json",
          accept: "application/graphql-response+json, application/json;q=0.9",
          ...(this.#session.token && { authorization: `Bearer ${this.#session.token}` }),
        },
        body: JSON.stringify({ query: document.toString(), variables }),
        signal: signal ?? null,
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new RequestError("UNREACHABLE", "The service cannot be reached.");
    }
    const answeredMs = Date.now();
    if (response.status === 401) throw new RequestError("401", "Please sign in again.");
    const answer = (await response.json().catch(() => null)) as Answer<Result> | null;
    const mistake = answer?.errors?.[0];
    if (mistake) throw new RequestError(mistake.extensions?.code ?? "ERROR", mistake.message);
    if (!answer?.data) {
      throw new RequestError(`${response.status}`, `The service answered ${response.status}.`);
    }
    const time = serviceTime(answer.data);
    if (time !== null) this.clock.observe(time, sentMs, answeredMs);
    return answer.data;
  }
}

/** Any operation may ask `service { time }` along; each answer sharpens the clock. */
function serviceTime(data: object): string | null {
  const service = "service" in data ? data.service : null;
  if (typeof service !== "object" || service === null || !("time" in service)) return null;
  return typeof service.time === "string" ? service.time : null;
}
