import { delimiter } from "node:path";

/** PATH for programs under test, with the Nix of GRADIENT_TEST_NIX_BIN first where that is set. */
export function pathWithNix(): string {
  const { GRADIENT_TEST_NIX_BIN: bin, PATH: path = "/usr/bin:/bin" } = process.env;
  return bin ? `${bin}${delimiter}${path}` : path;
}
