import type { StateWorker } from "../api/state.ts";
import type { StateContext } from "./state-context.ts";
import { secretNames } from "./state-secrets.ts";

/**
 * What the rows of a worker keep of its token: what they have, where that is of the declared token, since each hash of
 * it is another one. Null, with a problem put down, where neither the file nor a row knows a token.
 */
export async function tokenHash(
  context: StateContext,
  worker: StateWorker,
  rows: readonly { readonly token_hash: string }[],
): Promise<string | null> {
  const { passwords } = context.deps;
  const present = [...new Set(rows.map((row) => row.token_hash))];
  const token = context.secret(worker.token_file, secretNames.workerToken(worker.worker_id));
  if (token === null) {
    const [hash] = present;
    if (hash !== undefined) return hash;
    context.report(["workers", worker.key, "token_file"], "is missing: the server does not know this worker yet");
    return null;
  }
  for (const hash of present) if (await passwords.verify(hash, token)) return hash;
  return await passwords.hash(token);
}
