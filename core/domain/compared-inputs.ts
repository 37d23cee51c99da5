import type { ComparedInput, ComparedRevision } from "../api/compare.ts";
import { naiveTime } from "../api/times.ts";
import { SECOND } from "../lib/clock.ts";
import { redactUrl } from "../nix/flake-ref.ts";
import { matchesInput } from "../nix/input-pattern.ts";

/** What an evaluation knows of its flake's inputs: `locked` is null where nobody said it. */
export interface KnownInputs {
  readonly locked: readonly LockedRevision[] | null;
  /** Those that were not what the lock says; without a URL they were as new as could be. */
  readonly overrides: readonly { readonly input: string; readonly url: string | null }[];
}

interface LockedRevision {
  readonly name: string;
  readonly source: string;
  readonly revision: string | null;
  /** Seconds since 1970. */
  readonly last_modified: number | null;
}

/** The inputs that were not the same, by name; null where one side is not known. An overridden one has no revision. */
export function compareInputs(before: KnownInputs, after: KnownInputs): ComparedInput[] | null {
  if (before.locked === null || after.locked === null) return null;
  const [old, now] = [revisionsOf(before.locked, before), revisionsOf(after.locked, after)];
  return [...new Set([...old.keys(), ...now.keys()])].sort().flatMap((name) => {
    const [one, other] = [old.get(name) ?? null, now.get(name) ?? null];
    return one?.revision === other?.revision && one?.source === other?.source
      ? []
      : [{ name, before: one, after: other }];
  });
}

function revisionsOf(
  locked: readonly LockedRevision[],
  { overrides }: KnownInputs,
): ReadonlyMap<string, ComparedRevision> {
  return new Map(
    locked.map(({ name, source, revision, last_modified }) => {
      const override = overrides.find(({ input }) => matchesInput(input, name));
      if (override) {
        return [name, { source: redactUrl(override.url ?? source), revision: null, last_modified: null }];
      }
      const modified = last_modified === null ? null : naiveTime(new Date(last_modified * SECOND));
      return [name, { source, revision, last_modified: modified }];
    }),
  );
}
