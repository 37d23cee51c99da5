import { expect, test } from "vitest";
import { BatchRefusedError } from "./link.ts";
import { reportAgain } from "./report-again.ts";

test("a report is made again when what it rested on is gone, thrice at most, and for no other reason", async () => {
  const outdated = new BatchRefusedError("it is no longer available", { isOutdated: true });
  let rounds = 0;
  const failing = (error: Error, failures: number) => async () => {
    if (rounds++ < failures) throw error;
    return "reported";
  };
  expect(await reportAgain(failing(outdated, 2))).toBe("reported");
  expect(rounds).toBe(3);

  rounds = 0;
  await expect(reportAgain(failing(outdated, 3))).rejects.toThrow(outdated);
  rounds = 0;
  await expect(reportAgain(failing(new BatchRefusedError("it is no derivation"), 1))).rejects.toThrow("no derivation");
  expect(rounds).toBe(1);
});
