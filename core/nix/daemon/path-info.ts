import { assert } from "#core/lib/assert.ts";
import { toHex } from "#core/lib/bytes.ts";
import { type Hash, parseSha256Hex } from "../hash.ts";
import { parseStorePath, type StorePath } from "../store-path.ts";
import { DaemonProtocolError } from "./errors.ts";
import type { DaemonReader } from "./reader.ts";
import type { DaemonWriter } from "./writer.ts";

/** What a store knows of a path. Times are seconds since the Unix epoch, 0 when unknown. */
export interface DaemonPathInfo {
  readonly path: StorePath;
  readonly deriver: StorePath | null;
  /** Always SHA-256. */
  readonly narHash: Hash;
  readonly narSize: number;
  readonly references: readonly StorePath[];
  readonly registrationTime: number;
  /** Built by this store rather than copied into it. */
  readonly ultimate: boolean;
  readonly signatures: readonly string[];
  /** As in a narinfo's `CA` field. */
  readonly contentAddress: string | null;
}

/** A path to be imported: what is not said about it is taken as unknown. */
export type NewPathInfo = Pick<DaemonPathInfo, "path" | "narHash" | "narSize" | "references"> &
  Partial<Pick<DaemonPathInfo, "deriver" | "registrationTime" | "signatures" | "contentAddress">>;

export async function readPathInfo(reader: DaemonReader, path: StorePath): Promise<DaemonPathInfo> {
  const deriver = await readOptionalStorePath(reader, "deriver");
  const narHash = parseSha256Hex(await reader.text("NAR hash"));
  if (!narHash) throw new DaemonProtocolError(`the NAR hash of ${path} is not 64 hexadecimal digits`);
  return {
    path,
    deriver,
    narHash,
    references: await readStorePaths(reader, "references"),
    registrationTime: await reader.number("registration time"),
    narSize: await reader.number("NAR size"),
    ultimate: await reader.boolean("ultimate"),
    signatures: await reader.texts("signatures"),
    contentAddress: (await reader.text("content address")) || null,
  };
}

/** The fields from the path to the content address, as AddToStoreNar and AddMultipleToStore take them. */
export function writePathInfo(writer: DaemonWriter, info: NewPathInfo): void {
  assert(info.narHash.algorithm === "sha256", `NAR hash of ${info.path}: the daemon takes SHA-256 only`);
  writer
    .text(info.path)
    .text(info.deriver ?? "")
    .text(toHex(info.narHash.digest))
    .texts(info.references)
    .word(info.registrationTime ?? 0)
    .word(info.narSize)
    // Only a store that built a path itself may call it so.
    .boolean(false)
    .texts(info.signatures ?? [])
    .text(info.contentAddress ?? "");
}

export async function readStorePath(reader: DaemonReader, what: string): Promise<StorePath> {
  return asStorePath(await reader.text(what), what);
}

/** Absent is the empty string. */
export async function readOptionalStorePath(reader: DaemonReader, what: string): Promise<StorePath | null> {
  const path = await reader.text(what);
  return path === "" ? null : asStorePath(path, what);
}

export function readStorePaths(reader: DaemonReader, what: string): Promise<StorePath[]> {
  return reader.list(what, () => readStorePath(reader, what));
}

function asStorePath(text: string, what: string): StorePath {
  const path = parseStorePath(text);
  if (!path) throw new DaemonProtocolError(`${what}: ${JSON.stringify(text.slice(0, 300))} is not a store path`);
  return path;
}
