import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isUuid } from "#core/lib/ids.ts";

const FILE = "machine-store-organization";

/**
 * Whose builds have been in the machine's own store: an organization may have left anything in it, so that no other
 * one ever gets it. Kept in the data folder. Throws what the file system throws.
 */
export class MachineOwner {
  readonly path: string;
  #owner: string | null | undefined;
  #claims: Promise<unknown> = Promise.resolve();

  constructor(dataDir: string) {
    this.path = join(dataDir, FILE);
  }

  /** Whose it is; a store that nobody has had is this organization's from now on, after a crash too. */
  async claim(organization: string): Promise<string> {
    const claim = this.#claims.then(async () => {
      const owner = await this.#read();
      if (owner === null) await this.#write(organization);
      return owner ?? organization;
    });
    this.#claims = claim.catch(() => {});
    return await claim;
  }

  async #read(): Promise<string | null> {
    if (this.#owner !== undefined) return this.#owner;
    const text = await readFile(this.path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return null;
      throw error;
    });
    const owner = text === null ? null : text.trim();
    if (owner !== null && !isUuid(owner)) {
      throw new Error(`${this.path} does not hold the id of an organization: remove it once the store is yours alone`);
    }
    this.#owner = owner;
    return owner;
  }

  async #write(organization: string): Promise<void> {
    const temporary = `${this.path}.${process.pid}.new`;
    await rm(temporary, { force: true });
    {
      await using file = await open(temporary, "wx", 0o644);
      await file.writeFile(`${organization}\n`);
      await file.sync();
    }
    await rename(temporary, this.path);
    await using folder = await open(dirname(this.path), "r");
    await folder.sync();
    this.#owner = organization;
  }
}
