import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import type { Candidate } from "./discover.ts";
import { instantiate } from "./instantiate.ts";
import type { EvaluatorEnd, EvaluatorRun, NixEvaluator } from "./nix-eval.ts";

const NAMES = ["a", "b", "c", "d"];
/** Longer than what was found waits for more, and than the test's reader takes for a group. */
const PAUSE_MS = 350;

function candidateOf(name: string): Candidate {
  return { attribute: [name], extraLevels: 0, isExplicit: true, isExcluded: false };
}

function derivationOf(name: string): string {
  return `/nix/store/${"0".repeat(32)}-${name}.drv`;
}

/** Reports an attribute from time to time. */
const evaluator = {
  async run({ onReport }: EvaluatorRun): Promise<EvaluatorEnd> {
    for (const [item, name] of NAMES.entries()) {
      onReport({ begin: item });
      onReport({ item, drvPath: derivationOf(name) });
      await sleep(PAUSE_MS);
    }
    return { ok: true };
  },
} as NixEvaluator;

test("nothing that an evaluator finds is lost while what it found before is taken", async () => {
  await using folder = await withTemporaryFolder();
  await mkdir(join(folder.path, "nix/store"), { recursive: true });
  for (const name of NAMES) await writeFile(`${folder.path}${derivationOf(name)}`, "");
  const options = { excludes: [], answered: [], storeRoot: folder.path, attributesMax: 10, evaluatorsMax: 1 };
  const groups = instantiate(evaluator, NAMES.map(candidateOf), {
    ...options,
    deadline: Number.POSITIVE_INFINITY,
    onMessage: () => {},
  });

  const found: string[] = [];
  for await (const group of groups) {
    expect(group.errors).toEqual([]);
    found.push(...group.found.map(({ attribute }) => attribute.join(".")));
    // The evaluator ends while its reader is busy with the first group.
    if (found.length === 1) await sleep(PAUSE_MS * (NAMES.length + 1));
  }

  expect(found.sort()).toEqual(NAMES);
});
