import { open } from "node:fs/promises";
import { fromBase64 } from "#core/lib/bytes.ts";
import { isUuid, isUuidV4 } from "#core/lib/ids.ts";

/** The workers that a relay takes, with their tokens, as its operator has written them. */
export interface DownstreamTokens {
  /** By worker id, then by organization. */
  readonly workers: ReadonlyMap<string, WorkerTokens>;
  /** Lines that were skipped and why, each a sentence without its token. */
  readonly problems: readonly string[];
}

export interface WorkerTokens {
  readonly byOrganization: ReadonlyMap<string, string>;
  /** For each organization that the relay serves and that has no token of its own. Null: for those alone. */
  readonly any: string | null;
}

const TOKEN_BYTES = 48;
const FILE_BYTES_MAX = 1024 * 1024;

/** Reads the file as it is now. One that cannot be read gives no tokens and one problem. */
export async function readDownstreamTokens(path: string): Promise<DownstreamTokens> {
  try {
    await using file = await open(path, "r");
    const { size } = await file.stat();
    if (size > FILE_BYTES_MAX) throw new Error(`${path} is larger than ${FILE_BYTES_MAX} bytes`);
    return parseDownstreamTokens(await file.readFile("utf8"), path);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { workers: new Map(), problems: [`the file of downstream workers cannot be read: ${why}`] };
  }
}

/**
 * One `worker_id:organization_id:token` a line, `*` for each organization that the relay serves; empty lines and lines
 * that begin with `#` are comments. `where` begins the messages. The last of several lines for one pair holds.
 */
export function parseDownstreamTokens(text: string, where: string): DownstreamTokens {
  const workers = new Map<string, { readonly byOrganization: Map<string, string>; any: string | null }>();
  const problems: string[] = [];
  for (const [index, whole] of text.split("\n").entries()) {
    const line = whole.trim();
    if (line === "" || line.startsWith("#")) continue;
    const parts = line.split(":").map((part) => part.trim());
    const [workerId = "", organizationId = ""] = parts.map((part) => part.toLowerCase());
    const [, , token = ""] = parts;
    const problem = parts.length === 3 ? problemOf(workerId, organizationId, token) : "it has not three parts";
    if (problem !== null) {
      problems.push(`${where}, line ${index + 1} is skipped: ${problem}; it is worker_id:organization_id:token`);
      continue;
    }
    const worker = workers.get(workerId) ?? { byOrganization: new Map(), any: null };
    workers.set(workerId, worker);
    if (organizationId === "*") worker.any = token;
    else worker.byOrganization.set(organizationId, token);
  }
  return { workers, problems };
}

/** The token of the worker for the organization; null when the relay's operator has not let it in there. */
export function tokenFor({ workers }: DownstreamTokens, workerId: string, organizationId: string): string | null {
  const worker = workers.get(workerId);
  return worker?.byOrganization.get(organizationId) ?? worker?.any ?? null;
}

function problemOf(workerId: string, organizationId: string, token: string): string | null {
  if (!isUuidV4(workerId)) return "its worker is no UUID of version 4";
  if (organizationId !== "*" && !isUuid(organizationId)) return "its organization is no UUID and not *";
  if (fromBase64(token)?.length === TOKEN_BYTES) return null;
  return `its token is not base64 of ${TOKEN_BYTES} bytes (64 characters)`;
}
