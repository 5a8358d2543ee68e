/** What `/auth/login` and `/auth/refresh` answer. */
interface Grant {
  accessToken: string;
  expiresInSeconds: number;
}

export type SessionState =
  | { kind: "starting" }
  | { kind: "signed-in" }
  | { kind: "signed-out"; message: string | null };

/** What is said to whoever comes back from an issuer's page and is not signed in. */
const REFUSALS: Record<string, string> = {
  stale: "That sign-in took too long or was begun elsewhere. Please try again.",
  declined: "The sign-in was cancelled.",
  unreachable: "The sign-in service cannot be reached. Please try again later.",
  nobody: "You have no access here. Please ask an administrator.",
  busy: "Too many attempts. Please wait a minute and try again.",
};

/** How long before its end an access token is replaced, at most. */
const REFRESH_MARGIN_MS = 60_000;
const RETRY_MS = 5_000;

/**
 * The viewer's sign-in. The access token lives in memory only; what survives a reload is the refresh
 * token, in a cookie that no script can read.
 */
export class Session {
  #state: SessionState = { kind: "starting" };
  #token: string | null = null;
  #refreshing: Promise<boolean> | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #listeners = new Set<() => void>();

  readonly state = (): SessionState => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** The bearer token of API calls; null while signed out. */
  get token(): string | null {
    return this.#token;
  }

  /**
   * Signs in by the code in the address, or by the refresh cookie. What the address says of signing
   * in is removed from it.
   */
  async start(): Promise<void> {
    const said = new URLSearchParams(location.hash.slice(1));
    const code = said.get("code");
    const refusal = said.get("sign-in");
    if (code !== null || refusal !== null) {
      history.replaceState(history.state, "", location.pathname + location.search);
    }
    if (code !== null && (await this.#login({ code })) === null) return;
    if ((await this.refresh()) || this.#state.kind !== "signed-out") return;
    if (code !== null) this.#signOut("That sign-in link is no longer valid.");
    if (refusal !== null) this.#signOut(REFUSALS[refusal] ?? "Signing in there did not work.");
  }

  /** Signs in by name and password; answers why not, or null. */
  signIn(name: string, password: string, account: string): Promise<string | null> {
    return this.#login({ name, password, ...(account && { account }) });
  }

  async signOut(): Promise<void> {
    this.#signOut(null);
    await fetch("/auth/logout", { method: "POST" }).catch(() => undefined);
  }

  /** Replaces the access token; false where the viewer has to sign in again. */
  refresh(): Promise<boolean> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #refresh(): Promise<boolean> {
    let answer: Response;
    try {
      answer = await fetch("/auth/refresh", { method: "POST" });
    } catch {
      // Offline is not signed out.
      this.#refreshIn(RETRY_MS);
      return this.#token !== null;
    }
    if (answer.ok) {
      this.#accept((await answer.json()) as Grant);
      return true;
    }
    // Neither is a service in trouble, or one that too many ask from this address.
    if (answer.status >= 500 || answer.status === 429) {
      this.#refreshIn(RETRY_MS);
      return this.#token !== null;
    }
    this.#signOut(this.#token === null ? null : "Your sign-in has ended. Please sign in again.");
    return false;
  }

  async #login(credentials: Record<string, string>): Promise<string | null> {
    let answer: Response;
    try {
      answer = await fetch("/auth/login", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(credentials),
      });
    } catch {
      return "The service cannot be reached.";
    }
    if (answer.ok) {
      this.#accept((await answer.json()) as Grant);
      return null;
    }
    if (answer.status === 429) return "Too many attempts. Please wait a minute and try again.";
    if (answer.status >= 500) return "The service has a problem. Please try again.";
    return "Name and password do not match.";
  }

  #accept(grant: Grant): void {
    this.#token = grant.accessToken;
    const lifeMs = grant.expiresInSeconds * 1000;
    this.#refreshIn(Math.max(lifeMs * 0.8, lifeMs - REFRESH_MARGIN_MS));
    if (this.#state.kind !== "signed-in") this.#become({ kind: "signed-in" });
  }

  #refreshIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.refresh(), Math.max(ms, RETRY_MS));
  }

  #signOut(message: string | null): void {
    clearTimeout(this.#timer);
    this.#token = null;
    this.#become({ kind: "signed-out", message });
  }

  #become(state: SessionState): void {
    this.#state = state;
    for (const listener of this.#listeners) listener();
  }
}
