import fc from "fast-check";
import { expect, test } from "vitest";
import {
  formatRealisationId,
  parseRealisation,
  parseRealisationId,
  printRealisation,
  type Realisation,
  realisationFingerprints,
} from "./realisation.ts";
import type { StorePath } from "./store-path.ts";

const digit = (digits: string, length: number) =>
  fc.string({ unit: fc.constantFrom(...digits), minLength: length, maxLength: length });
const anyPath = digit("0123456789abcdfghijklmnpqrsvwxyz", 32).map((hash) => `/nix/store/${hash}-x` as StorePath);
const anyKey = fc.record({ hash: digit("0123456789abcdef", 64), output: fc.constantFrom("out", "dev", "a+b?c=1") });
const anyRealisation: fc.Arbitrary<Realisation> = fc
  .tuple(
    anyKey,
    anyPath,
    fc.uniqueArray(fc.tuple(anyKey, anyPath), { maxLength: 4, selector: ([key]) => formatRealisationId(key) }),
    fc.uniqueArray(fc.constantFrom("a-1:AAAA", "b-2:BBBB", "c:CC=="), { maxLength: 3 }),
  )
  .map(([key, outPath, dependents, signatures]) => ({
    ...key,
    outPath,
    dependents: dependents
      .map(([dependent, path]) => ({ ...dependent, outPath: path }))
      .toSorted((a, b) => (formatRealisationId(a) < formatRealisationId(b) ? -1 : 1)),
    signatures: signatures.toSorted(),
  }));

test("what was printed is read as it was", () => {
  fc.assert(
    fc.property(anyRealisation, (realisation) => {
      expect(parseRealisation(printRealisation(realisation))).toEqual(realisation);
      expect(parseRealisationId(formatRealisationId(realisation))).toEqual({
        hash: realisation.hash,
        output: realisation.output,
      });
    }),
  );
});

test("signatures cover the text without them, and a second one that without dependents", () => {
  fc.assert(
    fc.property(anyRealisation, (realisation) => {
      const texts = realisationFingerprints(realisation);
      expect(texts).toEqual(realisationFingerprints({ ...realisation, signatures: [] }));
      expect(texts).toHaveLength(realisation.dependents.length === 0 ? 1 : 2);
      expect(JSON.parse(texts.at(-1) as string)).toMatchObject({ dependentRealisations: {} });
      expect(texts.at(-1)).not.toContain(" ");
    }),
  );
});

test("whatever bytes come, the parser gives a realisation or null", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      expect(parseRealisation(text)).toBeNull();
    }),
  );
});

const HASH = "0".repeat(64);
const PATH = `${"0".repeat(32)}-x`;
const VALID = { id: `sha256:${HASH}!out`, outPath: PATH, signatures: [], dependentRealisations: {} };

test.each([
  ["an id of another form", { ...VALID, id: `sha256:${HASH}^out` }],
  ["a path with its folder", { ...VALID, outPath: `/nix/store/${PATH}` }],
  ["a signature without a name", { ...VALID, signatures: [":AAAA"] }],
  ["a signature with a line break", { ...VALID, signatures: ["a:AAAA\nSig: b"] }],
  ["more signatures than anybody needs", { ...VALID, signatures: Array(33).fill("a:AAAA") }],
  ["dependents that are a list", { ...VALID, dependentRealisations: [] }],
  ["a dependent without a path", { ...VALID, dependentRealisations: { [`sha256:${HASH}!out`]: 1 } }],
  ["a list", [VALID]],
])("%s is refused", (_, value) => {
  expect(parseRealisation(JSON.stringify(VALID))).not.toBeNull();
  expect(parseRealisation(JSON.stringify(value))).toBeNull();
});
