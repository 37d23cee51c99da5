import { expect, test } from "vitest";
import { type BuildLoad, mayWait } from "./idle-places.ts";

const ORGANIZATION = "red";

/** With two places. */
function load(unreportedBuilds: number, rest: Partial<BuildLoad> = {}): BuildLoad {
  return {
    draining: false,
    grants: [{ organizationId: ORGANIZATION, build: true }],
    free: { builds: [2] },
    buildPlaces: 2,
    attempts: { unreportedBuilds },
    ...rest,
  };
}

test("a result waits only while its worker has builds that wait for its places", () => {
  expect(mayWait(load(3), [load(3)], ORGANIZATION)).toBe(true);
  expect(mayWait(load(2), [load(2)], ORGANIZATION)).toBe(false);
});

test("a result does not wait while another worker of the organization is idle", () => {
  const waitsBeside = (other: BuildLoad | null) => mayWait(load(3), [load(3), other], ORGANIZATION);
  expect(waitsBeside(load(1))).toBe(false);
  expect(waitsBeside(load(2))).toBe(true);
  expect(waitsBeside(load(1, { free: { builds: [0] } }))).toBe(true);
  expect(waitsBeside(load(1, { draining: true }))).toBe(true);
  expect(waitsBeside(load(1, { grants: [{ organizationId: "blue", build: true }] }))).toBe(true);
  expect(waitsBeside(null)).toBe(true);
});
