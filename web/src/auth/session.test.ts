import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Session } from "./session";

/** What the service answers, by path and body; anything else is refused. */
type Answers = (path: string, body: string) => Response | Promise<Response>;

const GRANT = { accessToken: "token", expiresInSeconds: 900 };
const granted = () => Response.json(GRANT);
const refused = () => new Response(null, { status: 401 });

let asked: string[];

function begin(hash: string, answers: Answers): Session {
  asked = [];
  const replaceState = vi.fn((_: unknown, __: string, address: string) => asked.push(address));
  vi.stubGlobal("location", { hash, pathname: "/", search: "?device=dev_1" });
  vi.stubGlobal("history", { state: null, replaceState });
  vi.stubGlobal("fetch", (path: string, init: RequestInit) => {
    asked.push(path);
    return Promise.resolve(answers(path, String(init.body ?? "")));
  });
  return new Session();
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("a code in the address signs in, once it has gone from there", async () => {
  const session = begin("#code=abc", (_, body) => (body.includes("abc") ? granted() : refused()));
  await session.start();
  expect(asked).toEqual(["/?device=dev_1", "/auth/login"]);
  expect(session.state()).toEqual({ kind: "signed-in" });
  expect(session.token).toBe("token");
});

test("a code that is no longer good still leaves the cookie", async () => {
  const session = begin("#code=old", (path) => (path === "/auth/refresh" ? granted() : refused()));
  await session.start();
  expect(session.state().kind).toBe("signed-in");
});

test("whoever comes back from an issuer unadmitted is told why", async () => {
  for (const [hash, words] of [
    ["#sign-in=nobody", "no access"],
    ["#sign-in=whatever", "did not work"],
  ] as const) {
    const session = begin(hash, refused);
    await session.start();
    expect(asked).toEqual(["/?device=dev_1", "/auth/refresh"]);
    const state = session.state();
    expect(state.kind === "signed-out" && state.message).toContain(words);
  }
  const session = begin("#sign-in=stale", granted);
  await session.start();
  expect(session.state().kind).toBe("signed-in");
});

test("without code and cookie the viewer has to sign in", async () => {
  const session = begin("", refused);
  await session.start();
  expect(session.state()).toEqual({ kind: "signed-out", message: null });
  expect(session.token).toBeNull();
});

test("a token is replaced before it ends, and a refusal then signs out", async () => {
  let isGood = true;
  const session = begin("", () => (isGood ? granted() : refused()));
  await session.start();
  await vi.advanceTimersByTimeAsync(839_000);
  expect(asked).toEqual(["/auth/refresh"]);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(asked).toEqual(["/auth/refresh", "/auth/refresh"]);
  isGood = false;
  await vi.advanceTimersByTimeAsync(900_000);
  expect(session.state().kind).toBe("signed-out");
});

test("a service out of reach does not sign out", async () => {
  let isUp = true;
  const session = begin("", () => {
    if (!isUp) throw new TypeError("failed to fetch");
    return granted();
  });
  await session.start();
  isUp = false;
  await vi.advanceTimersByTimeAsync(900_000);
  expect(session.state().kind).toBe("signed-in");
  isUp = true;
  await vi.advanceTimersByTimeAsync(6_000);
  expect(session.token).toBe("token");
});

test.each([429, 503])("a refresh that is answered %d is tried again", async (status) => {
  let isUp = true;
  const session = begin("", () => (isUp ? granted() : new Response(null, { status })));
  await session.start();
  isUp = false;
  await vi.advanceTimersByTimeAsync(900_000);
  expect(session.state().kind).toBe("signed-in");
  isUp = true;
  await vi.advanceTimersByTimeAsync(6_000);
  expect(session.token).toBe("token");
});

test("a service out of reach at the start is asked again", async () => {
  let isUp = false;
  const session = begin("", () => {
    if (!isUp) throw new TypeError("failed to fetch");
    return granted();
  });
  await session.start();
  expect(session.state().kind).toBe("starting");
  isUp = true;
  await vi.advanceTimersByTimeAsync(6_000);
  expect(session.state().kind).toBe("signed-in");
});

test("refreshing twice at once asks once", async () => {
  const session = begin("", granted);
  await Promise.all([session.refresh(), session.refresh()]);
  expect(asked).toEqual(["/auth/refresh"]);
});
