import type { AttributeError } from "./discover.ts";
import { isUnsupported } from "./errors.ts";
import type { FoundDerivation } from "./eval-jobs.ts";
import type { DerivationWalk, WalkedNode } from "./walk.ts";

/**
 * Gives what these attributes need to `take`. An attribute that needs a derivation of a kind that is not built is an
 * error of that attribute alone, and nothing of it is given that no other needs. Answers those that were given whole.
 */
export async function walkAttributes(
  walk: Pick<DerivationWalk, "walk">,
  found: readonly FoundDerivation[],
  take: (node: WalkedNode) => Promise<void>,
): Promise<{ readonly found: readonly FoundDerivation[]; readonly errors: readonly AttributeError[] }> {
  try {
    for await (const node of walk.walk(found.map(({ drvPath }) => drvPath))) await take(node);
    return { found, errors: [] };
  } catch (error) {
    if (!isUnsupported(error)) throw error;
    const [only] = found;
    if (only && found.length === 1) {
      return { found: [], errors: [{ attribute: only.attribute, error: error.message }] };
    }
  }
  const given: FoundDerivation[] = [];
  const errors: AttributeError[] = [];
  for (const one of found) {
    const outcome = await walkAttributes(walk, [one], take);
    given.push(...outcome.found);
    errors.push(...outcome.errors);
  }
  return { found: given, errors };
}
