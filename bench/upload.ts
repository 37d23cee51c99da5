import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { xz } from "@napi-rs/lzma";
import { encodeBase32 } from "#core/nix/base32.ts";
import { writeNar } from "#core/nix/nar-writer.ts";
import { nodeCodec } from "#runtime/node/codec.ts";
import { CACHE, type Gradient, withGradient } from "#test/e2e/gradient.ts";
import type { Figure, PartResult } from "./figures.ts";
import { interleave, timed } from "./measure.ts";
import { asClient, asServer, pinServer } from "./processes.ts";

const run = promisify(execFile);
const MEGA = 1_000_000;
const ROUNDS = 3;
/** Of a program, as packages are: Node's own, again and again. xz packs 2 MB a second, so that it gets less. */
const FORMS = { none: 200 * MEGA, zstd: 200 * MEGA, xz: 40 * MEGA } as const;
type Form = keyof typeof FORMS;

const NOTES = [
  "`upload`: one PUT of a NAR file by curl, as stock Nix sends it; then the server has proven it, and has it as zstd " +
    "on disk and in the database. `pipeline` is unpacking, SHA-256 and zstd in the same runtime, from a file to " +
    "nowhere. A file that comes as zstd stays as it is: the server unpacks it only to prove it. MB are those of the " +
    "NAR.",
];

/** Bytes of NARs per second on their way in. */
export async function benchUpload(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  await using gradient = await withGradient({ GRADIENT_MAX_NAR_UPLOAD_SIZE: "1000000000", ...settings });
  await gradient.worker.stop();
  await pinServer(gradient.server.pid);
  const figures: Figure[] = [];
  for (const form of Object.keys(FORMS) as Form[]) {
    const file = await makeFile(gradient.folder, form);
    const speed = (ms: number) => FORMS[form] / MEGA / (ms / 1_000);
    const values = await interleave(ROUNDS, {
      ours: async () => speed(await timed(() => put(gradient, file))),
      pipeline: async () => speed(await pipelineMs(file.path, form)),
    });
    figures.push({
      part: "upload",
      what: `a NAR of ${FORMS[form] / MEGA} MB as ${form}`,
      unit: "MB/s",
      ours: values.ours,
      other: { name: "pipeline", value: values.pipeline },
      aim: { ratioMin: 0.7 },
      samples: ROUNDS,
    });
  }
  return { figures, notes: NOTES };
}

interface NarFile {
  readonly path: string;
  readonly url: string;
}

async function makeFile(folder: string, form: Form): Promise<NarFile> {
  const program = await readFile(process.execPath);
  const path = join(folder, `upload.${form}`);
  if (form === "xz") {
    const parts: Uint8Array[] = [];
    for await (const part of narOf(program, FORMS.xz)) parts.push(part.slice());
    await writeFile(path, xz.compressSync(Buffer.concat(parts)));
  } else {
    await using file = await open(path, "w");
    const nar = narOf(program, FORMS[form]);
    for await (const part of form === "zstd" ? nodeCodec.compressZstd(nar, { level: 3 }) : nar)
      await file.writeFile(part);
  }
  const hash = createHash("sha256");
  hash.update(await readFile(path));
  return { path, url: `nar/${encodeBase32(hash.digest())}.nar` };
}

/** The NAR of one file that holds the program as often as needed. */
function narOf(program: Uint8Array, size: number): AsyncIterable<Uint8Array> {
  const contents = Array.from({ length: Math.ceil(size / program.length) }, (_, i) =>
    program.subarray(0, Math.min(program.length, size - i * program.length)),
  );
  return writeNar([
    { kind: "file", name: "", executable: true, size, offset: 0 },
    ...contents.map((bytes) => ({ kind: "content", bytes }) as const),
  ]);
}

async function put({ url: origin, api }: Gradient, { path, url }: NarFile): Promise<void> {
  const target = `${origin}/cache/${CACHE}/${url}`;
  const curl = ["-sS", "-f", "-o", "/dev/null", "-H", `Authorization: Bearer ${api.token}`, "-T", path, target];
  await run(...asClient("curl", curl));
}

async function pipelineMs(path: string, form: Form): Promise<number> {
  const script = join(import.meta.dirname, "upload-pipeline-process.ts");
  const { stdout } = await run(...asServer(process.execPath, [script, path, form]));
  return Number(stdout);
}
