// Compares schema.graphql with the last release's, by graphql-inspector, and fails where clients of
// that release would break. Before the first release, the commit before this one stands in for it.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { CriticalityLevel, diff } from "@graphql-inspector/core";
import { buildSchema } from "graphql";

const CONTRACT = "schema.graphql";

function git(...args) {
  try {
    const stdio = ["ignore", "pipe", "ignore"];
    return execFileSync("git", args, { cwd: new URL("../..", import.meta.url), stdio }).toString();
  } catch {
    return null;
  }
}

const release = git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")?.trim();
const before = release ?? git("rev-parse", "--short", "HEAD^")?.trim();
const contract = before && git("show", `${before}:${CONTRACT}`);
if (!contract) {
  console.log(
    "the contract is compared with nothing: neither a release nor a commit before this one",
  );
  process.exit();
}
const now = readFileSync(new URL(`../../${CONTRACT}`, import.meta.url), "utf8");
const changes = await diff(buildSchema(contract), buildSchema(now));
const breaking = changes.filter(
  ({ criticality }) => criticality.level === CriticalityLevel.Breaking,
);
for (const { message, path } of breaking) console.error(`breaking: ${message} (${path})`);
const compared = release ? `release ${release}` : `commit ${before}, since there is no release yet`;
console.log(`${changes.length} changes since ${compared}: ${breaking.length} break clients`);
process.exitCode = breaking.length === 0 ? 0 : 1;
