// Starts `lookback demo` on a free port and an empty data directory, and a browser beside it.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { launch, post } from "./service.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const screenshots = join(root, "target/screenshots");

/** A running demo. `config` is what its TOML file says. */
export async function startDemo(config = "") {
  const { found, run, stop } = await launch("demo", config, /https?:\/\/\S+#code=\S+/);
  const url = found[0];
  const { origin, hash } = new URL(url);
  const token = async () => {
    const code = new URLSearchParams(hash.slice(1)).get("code");
    return (await post(`${origin}/auth/login`, {}, { code })).accessToken;
  };
  return {
    url,
    origin,
    /** Of the viewer that the URL signs in. */
    token,
    /** Answers a GraphQL query as that viewer. */
    async query(query, variables) {
      const headers = { authorization: `Bearer ${await token()}` };
      return (await post(`${origin}/graphql`, headers, { query, variables })).data;
    },
    addUser: (name, password) => run(["user", "add", name, "--role", "viewer"], `${password}\n`),
    stop,
  };
}

export let demo;
export let browser;

/** Has {@link demo} and {@link browser} run for the tests of a file. `config` is as above. */
export function withDemo(config) {
  before(async () => {
    demo = await startDemo(config);
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.close();
    await demo?.stop();
  });
}

export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A page that remembers what it complained of. */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  return { page, complaints, close: () => context.close() };
}

export async function screenshot(page, name) {
  mkdirSync(screenshots, { recursive: true });
  await page.screenshot({ path: join(screenshots, `${name}.png`) });
}
