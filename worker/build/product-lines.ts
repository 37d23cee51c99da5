import { parseStorePath, STORE_DIR, type StorePath } from "#core/nix/store-path.ts";

/** One line of `nix-support/hydra-build-products`. */
export interface ProductLine {
  /** `file`, `doc`, `report` and the like. */
  readonly type: string;
  /** `iso`, `manual`, `html` and the like. */
  readonly subtype: string;
  readonly storePath: StorePath;
  /** Names of folders and the file below the store path; empty for the store path itself. */
  readonly below: readonly string[];
}

/** A path that names nothing but itself on every system: no way up, no terminal control sequences. */
const NAME = /^(?!\.\.?$)[^/\p{Cc}]+$/u;
/** The path may stand in double quotes, which it needs for spaces; a default page may follow and is not kept. */
const LINE = /^([a-zA-Z0-9_-]{1,64})\s+([a-zA-Z0-9_-]{1,64})\s+(?:"([^"]+)"|([^"\s]+))(?:\s+\S+)?$/;

/** Reads the form that Hydra defines (`type subtype path [default]`). What is no such line comes back in `refused`. */
export function parseProductLines(text: string): {
  readonly products: readonly ProductLine[];
  readonly refused: readonly string[];
} {
  const products: ProductLine[] = [];
  const refused: string[] = [];
  for (const line of text.split("\n").map((each) => each.trim())) {
    if (line === "") continue;
    const product = parseLine(line);
    if (product) products.push(product);
    else refused.push(line);
  }
  return { products, refused };
}

function parseLine(line: string): ProductLine | null {
  const [, type, subtype, quoted, bare] = LINE.exec(line) ?? [];
  const path = splitStorePath(quoted ?? bare ?? "");
  return path && type && subtype ? { type, subtype, ...path } : null;
}

/** Null unless the text is a store path or the path of something below one. Slashes that repeat or end it are one. */
export function splitStorePath(
  text: string,
): { readonly storePath: StorePath; readonly below: readonly string[] } | null {
  if (!text.startsWith(`${STORE_DIR}/`)) return null;
  const [base, ...below] = text
    .slice(STORE_DIR.length + 1)
    .split("/")
    .filter((name) => name !== "" && name !== ".");
  const storePath = parseStorePath(`${STORE_DIR}/${base}`);
  return storePath && below.every((name) => NAME.test(name)) ? { storePath, below } : null;
}
