import { realpath } from "node:fs/promises";
import { join } from "node:path";
import type { EvaluationEnvironment } from "./environment.ts";
import { findRelativeInputs } from "./lock-file.ts";
import { runNixCommand } from "./nix-command.ts";
import type { TakenSource } from "./sent-source.ts";
import { describeFlake } from "./stored-source.ts";

const INPUTS_MAX = 100;

/**
 * Brings inputs that are folders of the flake (`path:./sub`) into the store. A Nix before 2.26 knows them by their hash
 * alone once they are locked, and finds them only in a store that has them by chance. One that is not there any more,
 * or leads out of the flake, is left to Nix's words.
 */
export async function bringRelativeInputs(
  { flakeReference, folder, lock }: TakenSource,
  environment: EvaluationEnvironment,
  deadline: number,
): Promise<void> {
  const inputs = lock === null ? [] : findRelativeInputs(lock).slice(0, INPUTS_MAX);
  if (inputs.length === 0) return;
  const readable = { folder, references: [] };
  const { path } = await describeFlake(flakeReference, { environment, readable, deadline });
  const root = await realpath(`${environment.storeRoot}${path}`);
  for (const input of inputs) {
    const real = await realpath(join(root, input)).catch(() => null);
    if (!real?.startsWith(`${root}/`)) continue;
    // Nix finds a path by its hash and this name.
    await runNixCommand(environment, { args: ["store", "add-path", "--name", "source", real], readable, deadline });
  }
}
