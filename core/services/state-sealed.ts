import { equalBytes, utf8 } from "../lib/bytes.ts";
import { SecretBoxError, type SecretPlace } from "./secret-box.ts";
import type { StateContext } from "./state-context.ts";

/** Whether this secret is in the row already. What does not open, since the crypt secret was changed, is not. */
export async function holds(
  { deps }: StateContext,
  place: SecretPlace,
  sealed: Uint8Array | null,
  text: string,
): Promise<boolean> {
  if (sealed === null) return false;
  try {
    return equalBytes(await deps.secrets.open(place, sealed), utf8(text));
  } catch (error) {
    if (error instanceof SecretBoxError) return false;
    throw error;
  }
}
