import { constants, lstatSync } from "node:fs";
import { open, readlink } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { STORE_DIR, type StorePath, storePathName } from "#core/nix/store-path.ts";
import { PRODUCT_PATH_LENGTH_MAX, PRODUCTS_MAX } from "#core/protocol/limits.ts";
import type { BuildProduct } from "#core/protocol/worker-messages.ts";
import { type ProductLine, parseProductLines, splitStorePath } from "./product-lines.ts";

interface Output {
  readonly name: string;
  readonly path: StorePath;
}

export interface ProductsContext {
  /** Prefix of the store's files on this machine; empty for the machine's own store. */
  readonly storeRoot: string;
  /** Why a product is not listed, one sentence each: for the log of the build. */
  readonly note: (text: string) => void;
  /** Ends the reading. */
  readonly signal: AbortSignal;
}

const PRODUCTS_FILE = ["nix-support", "hydra-build-products"];
/** Of all outputs together; some 600 products. */
const PRODUCTS_BYTES_MAX = 64 * 1024;
/** Links may make paths longer than they were written; all that is listed has to fit into one message of 1 MiB. */
const LISTED_BYTES_MAX = 256 * 1024;
const LINKS_MAX = 40;
/** Looks at files and links for one build. 256 products that each lie below 20 folders need some 5,600. */
const LOOKS_MAX = 10_000;
/** Looks without a turn for whatever else this process does. Few builds need more. */
const LOOKS_PER_TURN_MAX = 64;
const NOTES_MAX = 20;

/** A file that does not lie in an output of the build, or is not there. The message ends a sentence. */
class OutsideError extends Error {
  override readonly name = "OutsideError";
}

/** Nothing is there. */
class AbsentError extends Error {
  override readonly name = "AbsentError";
}

/** The build has used up its looks. */
class LooksUsedUpError extends Error {
  override readonly name = "LooksUsedUpError";
}

/**
 * What the outputs offer for download, by their `nix-support/hydra-build-products`. Only files and folders that lie in
 * an output of this build are listed, links resolved: what a link of a hostile build names elsewhere is never looked
 * at. Sizes are bytes. A build whose products cannot be read, or take too many looks, is a good build: it has those
 * found until then. Throws nothing but the signal's reason.
 */
export async function readProducts(outputs: readonly Output[], context: ProductsContext): Promise<BuildProduct[]> {
  const reader = new ProductsReader(outputs, context);
  await reader.readAll();
  return reader.products;
}

class ProductsReader {
  readonly products: BuildProduct[] = [];
  readonly #outputs: readonly Output[];
  readonly #context: ProductsContext;
  #bytesLeft = PRODUCTS_BYTES_MAX;
  #listedBytes = 0;
  #notes = 0;
  #looks = 0;

  constructor(outputs: readonly Output[], context: ProductsContext) {
    this.#outputs = outputs;
    this.#context = context;
  }

  async readAll(): Promise<void> {
    try {
      for (const output of this.#outputs) await this.#read(output);
    } catch (error) {
      if (!(error instanceof LooksUsedUpError)) throw error;
      // Not one of the notes that are counted: it says why products are missing that no other note speaks of.
      this.#context.note(
        `the products are not all listed: ${LOOKS_MAX} looks at files, folders and links did not find the rest; ` +
          "list fewer products, or let fewer links and folders lead to them",
      );
    }
  }

  async #read(output: Output): Promise<void> {
    const text = await this.#readFile(output);
    if (text === null) return;
    const { products, refused } = parseProductLines(text);
    for (const line of refused)
      this.#note(`the product ${JSON.stringify(line.slice(0, 200))} is not of the form "type subtype path"`);
    for (const line of products) {
      if (this.products.length === PRODUCTS_MAX) {
        return this.#note(`of more than ${PRODUCTS_MAX} products the rest is not listed`);
      }
      await this.#add(output, line);
    }
  }

  async #add(output: Output, line: ProductLine): Promise<void> {
    const path = [line.storePath, ...line.below].join("/");
    try {
      const file = await this.#find(line.storePath, line.below);
      const { type, subtype } = line;
      const name = line.below.at(-1) ?? storePathName(line.storePath);
      this.#listedBytes += utf8(file.path).length + utf8(name).length;
      if (this.#listedBytes > LISTED_BYTES_MAX) {
        throw new OutsideError(`the paths of all products together have more than ${LISTED_BYTES_MAX} bytes`);
      }
      this.products.push({ output: output.name, type, subtype, name, path: file.path, size: file.size });
    } catch (error) {
      this.#throwIfOver(error);
      const why = isAbsent(error) ? "it is not there" : error instanceof Error ? error.message : String(error);
      this.#note(`the product ${path.slice(0, PRODUCT_PATH_LENGTH_MAX)} is not listed: ${why}`);
    }
  }

  /** Null when the output has no list of products. */
  async #readFile({ path }: Output): Promise<string | null> {
    try {
      const found = await this.#find(path, PRODUCTS_FILE);
      if (found.size === null) throw new OutsideError("it is a folder");
      if (found.size > this.#bytesLeft) throw new OutsideError(`there are more than ${PRODUCTS_BYTES_MAX} bytes of it`);
      // Between the look and the opening it cannot become a link: nobody writes to an output that is registered.
      await using file = await open(this.#real(found.path), constants.O_RDONLY | constants.O_NOFOLLOW);
      const bytes = new Uint8Array(found.size);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
      this.#bytesLeft -= bytesRead;
      return fromUtf8(bytes.subarray(0, bytesRead));
    } catch (error) {
      this.#throwIfOver(error);
      if (isAbsent(error)) return null;
      const reason = error instanceof Error ? error.message : String(error);
      this.#note(`the products in ${path} are not listed: ${reason}`);
      return null;
    }
  }

  /** Follows links by hand, because they speak of the store as the build saw it. Size is null for a folder. */
  async #find(
    storePath: StorePath,
    below: readonly string[],
  ): Promise<{ readonly path: string; readonly size: number | null }> {
    let base = this.#requireOutput(storePath);
    let done: string[] = [];
    let left = [...below];
    refuseLongPath(base, left);
    for (let links = 0; ; ) {
      if (this.#countLook()) await nextTurn();
      this.#context.signal.throwIfAborted();
      const path = [base, ...done].join("/");
      // Of what was made this moment: a thread that looks would take longer to wake than to look.
      const info = lstatSync(this.#real(path), { throwIfNoEntry: false });
      if (!info || (info.isFile() && left.length > 0)) throw new AbsentError();
      if (info.isSymbolicLink()) {
        if (++links > LINKS_MAX) throw new OutsideError("its links lead nowhere");
        // Reading the link is a turn.
        this.#countLook();
        const target = resolveLink(base, done, await readlink(this.#real(path)));
        base = this.#requireOutput(target.storePath);
        left = [...target.below, ...left];
        refuseLongPath(base, left);
        done = [];
        continue;
      }
      const next = left.shift();
      if (next !== undefined) done.push(next);
      else if (info.isFile()) return { path, size: info.size };
      else if (info.isDirectory()) return { path, size: null };
      else throw new OutsideError("it is neither a file nor a folder");
    }
  }

  /** To be called before each look. True when others have to get a turn first. */
  #countLook(): boolean {
    if (this.#looks === LOOKS_MAX) throw new LooksUsedUpError();
    return ++this.#looks % LOOKS_PER_TURN_MAX === 0;
  }

  /** Throws what ends all reading; returns when the error is about one product or one list. */
  #throwIfOver(error: unknown): void {
    this.#context.signal.throwIfAborted();
    if (error instanceof LooksUsedUpError) throw error;
  }

  #requireOutput(storePath: StorePath): StorePath {
    if (this.#outputs.some(({ path }) => path === storePath)) return storePath;
    throw new OutsideError("it does not lie in an output of this build");
  }

  #real(path: string): string {
    return join(this.#context.storeRoot, path);
  }

  #note(text: string): void {
    if (++this.#notes <= NOTES_MAX) this.#context.note(text);
  }
}

/** A longer one could not be listed, and each of its names would be a look. */
function refuseLongPath(base: StorePath, below: readonly string[]): void {
  if ([base, ...below].join("/").length <= PRODUCT_PATH_LENGTH_MAX) return;
  throw new OutsideError(`its path is longer than ${PRODUCT_PATH_LENGTH_MAX} characters`);
}

/** `done` is where the link is, below the store path. Throws `OutsideError` for a link out of the store. */
function resolveLink(base: StorePath, done: readonly string[], target: string) {
  const start = target.startsWith("/") ? [] : [base.slice(STORE_DIR.length + 1), ...done.slice(0, -1)];
  if (target.startsWith("/") && !target.startsWith(`${STORE_DIR}/`))
    throw new OutsideError("its link leaves the store");
  const names = target.startsWith("/") ? target.slice(STORE_DIR.length + 1) : target;
  const resolved: string[] = [...start];
  for (const name of names.split("/")) {
    if (name === "" || name === ".") continue;
    if (name !== "..") resolved.push(name);
    else if (resolved.pop() === undefined) throw new OutsideError("its link leaves the store");
  }
  const found = splitStorePath(`${STORE_DIR}/${resolved.join("/")}`);
  if (!found) throw new OutsideError("its link names no store path");
  return found;
}

function isAbsent(error: unknown): boolean {
  if (error instanceof AbsentError) return true;
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}
