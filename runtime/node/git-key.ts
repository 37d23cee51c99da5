import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A private key in a file, which goes with this. */
export interface KeyFile extends AsyncDisposable {
  /** What ssh is told of it, each the value of an `-o`. */
  readonly sshOptions: readonly string[];
}

/** In a folder of its own that nobody else can enter, for as long as one command takes. */
export async function writeKeyFile(secretKey: string): Promise<KeyFile> {
  const folder = await mkdtemp(join(tmpdir(), "gradient-key-"));
  const file = join(folder, "key");
  try {
    await writeFile(file, secretKey, { mode: 0o600 });
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  return {
    sshOptions: [`IdentityFile=${file}`, "IdentitiesOnly=yes"],
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
