import type { Kysely } from "kysely";
import { expect, test } from "vitest";
import { ManualClock } from "#test/support/manual-clock.ts";
import type { Database } from "../db/schema.ts";
import { HOUR } from "../lib/clock.ts";
import type { Nar } from "./nar.ts";
import { createNarProofs } from "./nar-proofs.ts";

const NEVER_ASKED = undefined as unknown as Kysely<Database>;

function narAt(objectKey: string): Nar {
  return { objectKey } as Nar;
}

test("a proof stands for an hour, and for the bytes that it was made of", async () => {
  const clock = new ManualClock();
  const proofs = createNarProofs({ db: NEVER_ASKED, clock });
  proofs.proven(narAt("nar/a"), "as it lies");

  expect(proofs.stands(narAt("nar/a"), "as it lies")).toBe(true);
  expect(proofs.stands(narAt("nar/a"), "written to")).toBe(false);
  expect(proofs.stands(narAt("nar/b"), "as it lies")).toBe(false);
  await clock.advance(HOUR);
  expect(proofs.stands(narAt("nar/a"), "as it lies")).toBe(false);
});

test("what a store cannot tell from others is proven each time", () => {
  const proofs = createNarProofs({ db: NEVER_ASKED, clock: new ManualClock() });
  proofs.proven(narAt("nar/a"), undefined);

  expect(proofs.stands(narAt("nar/a"), "as it lies")).toBe(false);
});

test("the newest ten thousand proofs are kept", () => {
  const proofs = createNarProofs({ db: NEVER_ASKED, clock: new ManualClock() });
  for (let i = 0; i <= 10_000; i++) proofs.proven(narAt(`nar/${i}`), "as it lies");

  expect(proofs.stands(narAt("nar/0"), "as it lies")).toBe(false);
  expect(proofs.stands(narAt("nar/1"), "as it lies")).toBe(true);
  expect(proofs.stands(narAt("nar/10000"), "as it lies")).toBe(true);
});
