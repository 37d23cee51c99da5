import type { CommitView } from "../api/commits.ts";
import { type CommitRow, listCommits } from "../db/commits.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { fromHex } from "../lib/bytes.ts";
import { isUuid } from "../lib/ids.ts";
import { requireOrganizationOf } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";

const HASH = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const PREFIX_LENGTH = 32;

/**
 * A commit that some evaluation names which the actor may see: by its id, which is the first 128 bits of its hash
 * written as a UUID, or by the hash itself. Throws `not_found`.
 */
export async function getCommit(deps: Pick<ServiceDeps, "db">, actor: Actor, text: string): Promise<CommitView> {
  const name = text.toLowerCase();
  if (!isUuid(name) && !HASH.test(name)) {
    throw new DomainError("validation", "commit id must be a UUID, or a hash of 40 or 64 hexadecimal digits");
  }
  const digits = name.replaceAll("-", "");
  const rows = await listCommits(deps.db, digits.slice(0, PREFIX_LENGTH), actor.user?.id ?? null);
  for (const row of rows) {
    if (row.commit_hash.startsWith(digits) && (await maySee(deps, actor, row))) return viewCommit(row);
  }
  throw new DomainError("not_found", "Commit not found");
}

async function maySee(deps: Pick<ServiceDeps, "db">, actor: Actor, row: CommitRow): Promise<boolean> {
  try {
    await requireOrganizationOf(deps, actor, row.organization_id, "read", "Commit");
    return true;
  } catch (error) {
    if (error instanceof DomainError && (error.code === "not_found" || error.code === "forbidden")) return false;
    throw error;
  }
}

function viewCommit({ commit_hash: hash, commit_message: message, commit_author: author }: CommitRow): CommitView {
  const id = hash.slice(0, PREFIX_LENGTH).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  return { id, message, hash: [...(fromHex(hash) ?? [])], author: null, author_name: author };
}
