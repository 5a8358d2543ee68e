// Starts `lookback serve` on a free port and an empty data directory, and asks it as anybody.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const binary = process.env.LOOKBACK_BIN ?? join(root, "target/debug/lookback");
/** A debug build on a busy machine is slow to start and to stop. */
const START_MS = 60_000;
const STOP_MS = 15_000;

/**
 * Runs `lookback serve` or `lookback demo` until it prints a line with `pattern`, and answers what
 * that found. `config` is what its TOML file says.
 */
export async function launch(command, config, pattern) {
  const dir = mkdtempSync(join(tmpdir(), "lookback-tests-"));
  const dataDir = join(dir, "data");
  const file = join(dir, "lookback.toml");
  writeFileSync(file, config);
  const where = ["--listen", "127.0.0.1:0", "--data-dir", dataDir, "--config", file];
  const child = spawn(binary, [command, ...where], { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (text) => {
    log = (log + text).slice(-20_000);
  });
  const found = await new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`not ready within ${START_MS} ms\n${log}`)),
      START_MS,
    );
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`${command} ended with ${code}\n${log}`)));
    createInterface(child.stdout).on("line", (line) => {
      const found = pattern.exec(line);
      if (!found) return;
      clearTimeout(timer);
      resolve(found);
    });
  });
  return {
    found,
    /** Runs another command on the same data; answers what it printed. */
    run(args, input) {
      const { status, stdout, stderr } = spawnSync(binary, [...args, "--data-dir", dataDir], {
        input,
      });
      if (status !== 0) throw new Error(`${args.join(" ")}: ${stderr}`);
      return stdout.toString().trim();
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

/** A running service. `config` is what its TOML file says. */
export async function startService(config = "") {
  const { found, run, stop } = await launch("serve", config, /^listening on (.*)$/);
  const origin = found[1];
  return {
    origin,
    token: (role, ...flags) => run(["token", "--role", role, ...flags]),
    /** A user who is signed in: the identifier and the token. */
    async signIn(name, role) {
      const password = "correct horse battery";
      const id = run(["user", "add", name, "--role", role], `${password}\n`);
      const { accessToken } = await post(`${origin}/auth/login`, {}, { name, password });
      return { id, token: accessToken };
    },
    /** What a query or mutation answers; one that fails throws. */
    async ask(token, query, variables) {
      const headers = { authorization: `Bearer ${token}` };
      const answer = await post(`${origin}/graphql`, headers, { query, variables });
      if (answer.errors) throw new Error(JSON.stringify(answer.errors));
      return answer.data;
    },
    stop,
  };
}

export async function post(url, headers, body) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
}
