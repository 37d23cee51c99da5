import type { NewNar } from "../db/nars.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { type ByteStream, peek } from "../lib/streams.ts";
import type { Hash } from "../nix/hash.ts";
import { validateNar } from "../nix/nar-reader.ts";
import { compressionOf, START_BYTES } from "./nar-compression.ts";
import { Measure, storedForm } from "./nar-form.ts";
import { type NarReceiveDeps, type NarUpload, narKey, newNar, storeObject } from "./nar-receive.ts";
import { discardObject } from "./nar-record.ts";

export interface UnnamedNar {
  readonly body: ByteStream;
  /** Of the file as it comes. */
  readonly fileHash?: Hash;
  /** Of the unpacked NAR, which nobody has announced. */
  readonly narBytesMax: number;
}

/** As `storeObject`, for a file whose bytes say how it is compressed. */
export async function storeRecognized(deps: NarReceiveDeps, upload: Omit<NarUpload, "compression">): Promise<NewNar> {
  const { start, body } = await peek(upload.body, START_BYTES);
  return await storeObject(deps, { ...upload, compression: compressionOf(start), body });
}

/**
 * As `storeRecognized`, for a NAR whose hash is known only when all of it is there, and then gives the object its name.
 * Does the process die in between, an object lies in staging, which no row names.
 */
export async function stageObject(
  deps: NarReceiveDeps,
  { body: incoming, fileHash, narBytesMax }: UnnamedNar,
): Promise<NewNar> {
  const { start, body } = await peek(incoming, START_BYTES);
  const compression = compressionOf(start);
  const nar = new Measure(deps.hasher);
  // What comes unpacked has the NAR's hash: one is enough.
  const isNar = compression === "none";
  const check = (unpacked: ByteStream) =>
    nar.through(limited(validateNar(unpacked), narBytesMax), isNar ? fileHash : undefined);
  const form = storedForm(deps, { compression, body, check, ...(fileHash && !isNar && { fileHash }) });
  const stagingKey = `staging/${uuidV7(deps.clock.now(), deps.random)}/nar`;
  await deps.blobs.put(stagingKey, form.body);
  const { hash: narHash, size: narSize } = nar.facts();
  const key = narKey(deps, narHash);
  if (!(await deps.blobs.copy(stagingKey, key))) {
    throw new DomainError("service_unavailable", "what was uploaded is gone from the storage: send it again");
  }
  await discardObject(deps, stagingKey);
  return newNar({ narHash, narSize, file: form.facts(), key });
}

async function* limited(body: ByteStream, bytesMax: number): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > bytesMax) {
      throw new DomainError("payload_too_large", `the NAR unpacks to more than the ${bytesMax} bytes that are taken`);
    }
    yield chunk;
  }
}
