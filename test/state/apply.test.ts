import { expect, test } from "vitest";
import { withApp } from "#test/handlers/support.ts";
import { apply, changesOf, everything, rowVersions } from "./support.ts";

test("a file with everything in it makes all of that on an empty server, and again nothing", async () => {
  await using made = await withApp();
  // As with real hashes, no two of one token are alike.
  const passwords = {
    hash: async (secret: string) => `${crypto.randomUUID()} ${secret}`,
    verify: async (stored: string, secret: string) => stored.endsWith(` ${secret}`),
  };
  const app = { ...made, deps: { ...made.deps, passwords } };
  const applied = await apply(app, everything());
  expect(changesOf(applied)).toMatchInlineSnapshot(`
    [
      "changed: actions of the project web of acme",
      "changed: members of cache base",
      "changed: members of cache main",
      "changed: members of organization acme",
      "changed: members of organization globex",
      "changed: overridden inputs of the project web of acme",
      "changed: upstreams of the cache base",
      "changed: upstreams of the cache main",
      "created: API key deploy of alice",
      "created: API key push key of bob",
      "created: base worker 550e8400-e29b-41d4-a716-446655440002",
      "created: base worker 550e8400-e29b-41d4-a716-446655440002 for acme",
      "created: cache base",
      "created: cache main",
      "created: inbound integration forge of acme",
      "created: organization acme",
      "created: organization globex",
      "created: outbound integration forge of acme",
      "created: project web of acme",
      "created: project web of globex",
      "created: role deployer of acme",
      "created: role deployer of globex",
      "created: role pusher of the cache main",
      "created: subscription of acme to the cache main",
      "created: subscription of globex to the cache main",
      "created: user alice",
      "created: user bob",
      "created: worker 550e8400-e29b-41d4-a716-446655440001 of acme",
      "created: worker 550e8400-e29b-41d4-a716-446655440001 of globex",
    ]
  `);

  const before = await rowVersions(app);
  const again = await apply(app, everything());
  expect(changesOf(again)).toEqual([]);
  expect(await rowVersions(app)).toEqual(before);
});
