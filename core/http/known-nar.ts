import type { Bytes } from "../lib/bytes.ts";
import { encodeBase32 } from "../nix/base32.ts";
import { type CacheLookupDeps, lookUpNar } from "../services/cache-lookup.ts";
import type { KnownNar, NarMemory } from "./nar-memory.ts";

/** What is remembered of the file name, or is looked up and remembered now. Null as for `lookUpNar`. */
export async function findKnownNar(
  deps: CacheLookupDeps & { readonly nars: NarMemory },
  { cacheId, fileHash }: { readonly cacheId: string; readonly fileHash: Bytes },
): Promise<KnownNar | null> {
  const { nars } = deps;
  const name = encodeBase32(fileHash);
  const remembered = nars.get(cacheId, name);
  if (remembered) return remembered;
  const { generation } = nars;
  const found = await lookUpNar(deps, { cacheId, fileHash });
  if (!found) return null;
  // Somebody else may have been quicker, and have read its file.
  const meanwhile = nars.get(cacheId, name);
  if (meanwhile) return meanwhile;
  const known = { ...found, name: encodeBase32(found.nar.fileHash.digest), file: null };
  nars.put({ cacheId, name }, known, generation);
  return known;
}
