/** The run cannot go on. The message is for the person who started it: what is wrong and what to do. */
export class QuickstartError extends Error {
  override readonly name = "QuickstartError";
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
