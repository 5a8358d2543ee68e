// Starts `lookback demo` on a free port and an empty data directory, and a browser beside it.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
const binary = process.env.LOOKBACK_BIN ?? join(root, "target/debug/lookback");
const screenshots = join(root, "target/screenshots");
/** A debug build on a busy machine is slow to start and to stop. */
const START_MS = 60_000;
const STOP_MS = 15_000;

/** A running demo. `config` is what its TOML file says. */
export async function startDemo(config = "") {
  const dir = mkdtempSync(join(tmpdir(), "lookback-viewer-"));
  const dataDir = join(dir, "data");
  writeFileSync(join(dir, "lookback.toml"), config);
  const child = spawn(
    binary,
    [
      "demo",
      "--listen",
      "127.0.0.1:0",
      "--data-dir",
      dataDir,
      "--config",
      join(dir, "lookback.toml"),
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let log = "";
  child.stderr.on("data", (text) => {
    log = (log + text).slice(-20_000);
  });
  const url = await new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no URL within ${START_MS} ms\n${log}`)),
      START_MS,
    );
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the demo ended with ${code}\n${log}`)));
    createInterface(child.stdout).on("line", (line) => {
      const found = /https?:\/\/\S+#code=\S+/.exec(line);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[0]);
    });
  });
  const { origin, hash } = new URL(url);
  return {
    url,
    origin,
    /** Answers a GraphQL query as the viewer that the URL signs in. */
    async query(query, variables) {
      const code = new URLSearchParams(hash.slice(1)).get("code");
      const { accessToken } = await post(`${origin}/auth/login`, { code });
      const headers = { authorization: `Bearer ${accessToken}` };
      return (await post(`${origin}/graphql`, { query, variables }, headers)).data;
    },
    addUser(name, password) {
      const args = ["user", "add", name, "--role", "viewer", "--data-dir", dataDir];
      const { status, stderr } = spawnSync(binary, args, { input: `${password}\n` });
      if (status !== 0) throw new Error(`user add: ${stderr}`);
    },
    async stop() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      const killer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
      await ended;
      clearTimeout(killer);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function post(url, body, headers = {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
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
