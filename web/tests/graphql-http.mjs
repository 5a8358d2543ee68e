// Runs the audits of graphql-http against the endpoint that is given as the argument, prints what
// is not ok, and fails if anything is not.

import { auditServer } from "graphql-http";

const results = await auditServer({ url: process.argv[2] });
const failed = results.filter((result) => result.status !== "ok");
for (const { status, id, name, reason } of failed) {
  console.error(`${status} ${id} ${name}: ${reason}`);
}
console.log(`${results.length - failed.length} of ${results.length} audits ok`);
process.exitCode = failed.length === 0 && results.length > 0 ? 0 : 1;
