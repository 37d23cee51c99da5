import { expect, test } from "vitest";
import { isTestFile, readSourceFiles } from "#scripts/source-files.ts";

/** What opens a connection: clients of HTTP, sockets, and the libraries of ours that have one in them. */
const OPENS = [
  /\b(?:await|return|=>) fetch\(\s*(?!request,)/,
  /import (?!type)[^;]*\b(?:get|request)\b[^;]*from "node:https?"/,
  /import (?!type)[^;]*\b(?:connect|createConnection|Socket)\b[^;]*from "node:(?:net|tls|http2|dgram)"/,
  /\bnew WebSocket\(/,
  /from "nodemailer"/,
  /\bnew S3Client\(/,
  /\bnew pg\.(?:Client|Pool)\(/,
];

/** Users and other machines name where these go: the address is checked where the connection is opened. */
const CHECKED = ["runtime/node/outbound.ts", "runtime/node/worker-dial.ts"];
/** Only the operator names where these go, and it may be this machine. */
const OPERATORS = ["runtime/node/error-reports.ts", "runtime/node/mailer.ts", "runtime/node/s3/client.ts"];
const DATABASE = [
  "runtime/node/advisory-lock.ts",
  "runtime/node/notifier.ts",
  "runtime/node/pool.ts",
  "runtime/node/postgres/start.ts",
];

test("the server opens connections in few places, and those that a user names are all checked", () => {
  const places = new Set<string>();
  for (const [path, text] of readSourceFiles()) {
    const isServer = /^(?:core|handlers|runtime\/node)\//.test(path) && !isTestFile(path);
    if (isServer && OPENS.some((pattern) => pattern.test(text))) places.add(path);
  }

  const known = [...CHECKED, ...OPERATORS, ...DATABASE];
  expect([...places].filter((path) => !known.includes(path))).toEqual([]);
  expect([...CHECKED, ...OPERATORS].filter((path) => !places.has(path))).toEqual([]);
  for (const path of CHECKED) expect(readSourceFiles().get(path)).toContain("checkedLookup(rules)");
});
