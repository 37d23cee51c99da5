import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { parseDownstreamTokens, readDownstreamTokens, tokenFor } from "./downstream-tokens.ts";

const WORKER = "7f1de7a4-3b5c-4d6e-8f90-a1b2c3d4e5f6";
const ACME = "01890000-0000-7000-8000-00000000000a";
const OTHER = "01890000-0000-7000-8000-00000000000b";
const TOKEN = "Aa0+".repeat(16);
const GENERAL = "Bb1/".repeat(16);

test("a token is for one organization or for all that have none of their own", () => {
  const tokens = parseDownstreamTokens(
    `# the hall\n\n${WORKER.toUpperCase()}:${ACME}: ${TOKEN} \n${WORKER}:*:${GENERAL}\n`,
    "file",
  );
  expect(tokens.problems).toEqual([]);
  expect(tokenFor(tokens, WORKER, ACME)).toBe(TOKEN);
  expect(tokenFor(tokens, WORKER, OTHER)).toBe(GENERAL);
  expect(tokenFor(tokens, OTHER, ACME)).toBeNull();
  const only = parseDownstreamTokens(`${WORKER}:${ACME}:${TOKEN}`, "file");
  expect(tokenFor(only, WORKER, OTHER)).toBeNull();
});

test.each([
  ["without a token", `${WORKER}:${ACME}`, "it has not three parts"],
  ["of no worker", `me:${ACME}:${TOKEN}`, "its worker is no UUID of version 4"],
  ["of no organization", `${WORKER}:acme:${TOKEN}`, "its organization is no UUID and not *"],
  ["with a short token", `${WORKER}:*:c2hvcnQ=`, "its token is not base64 of 48 bytes (64 characters)"],
])("a line %s is skipped and named, without its token", (_, line, why) => {
  const { workers, problems } = parseDownstreamTokens(`# first\n${line}`, "file");
  expect(workers.size).toBe(0);
  expect(problems).toEqual([`file, line 2 is skipped: ${why}; it is worker_id:organization_id:token`]);
});

test("a file is read anew each time; one that is not there lets nobody in and says so", async () => {
  await using folder = await withTemporaryFolder();
  const path = join(folder.path, "downstreams");
  expect(await readDownstreamTokens(path)).toMatchObject({
    problems: [expect.stringContaining("the file of downstream workers cannot be read: ENOENT")],
  });
  await writeFile(path, `${WORKER}:*:${TOKEN}\n`);
  expect((await readDownstreamTokens(path)).workers.size).toBe(1);
});
