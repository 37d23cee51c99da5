import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { utf8 } from "../lib/bytes.ts";
import { byteStringOf, byteStringOfText, byteStringText } from "./byte-string.ts";
import {
  type Derivation,
  DerivationParseError,
  derivationFacts,
  derivationReferences,
  parseDerivation,
  printDerivation,
  verifyDerivationPath,
} from "./derivation.ts";
import { derivationPath, makeTextPath, parseStorePath, type StorePath } from "./store-path.ts";

const HASH = "lpg73p3x49mjkxrdj3vxhhzslln67blr";
const OUT = `/nix/store/${HASH}-a`;
const INPUT = `/nix/store/${HASH}-b.drv`;
const SOURCE = `/nix/store/${HASH}-c`;
const PLAIN = `Derive([("out","${OUT}","","")],[("${INPUT}",["dev","out"])],["${SOURCE}"],"x86_64-linux","/bin/sh",["-c","echo \\"hi\\" > $out\\n"],[("PATH","/bin"),("out","${OUT}")])`;

const anyStorePath = (suffix: string) =>
  fc
    .string({ unit: fc.constantFrom(..."0123456789abcdfghijklmnpqrsvwxyz"), minLength: 32, maxLength: 32 })
    .map((hash) => `/nix/store/${hash}-x${suffix}` as StorePath);
const anyBytes = fc.uint8Array({ maxLength: 20 }).map(byteStringOf);
const anyName = fc.string({ unit: fc.constantFrom(..."abcz-_"), minLength: 1, maxLength: 5 });
const anyDerivation: fc.Arbitrary<Derivation> = fc.record({
  outputs: fc
    .uniqueArray(
      fc.tuple(
        anyName,
        fc.record({ path: fc.oneof(anyStorePath(""), fc.constant("")), hashAlgorithm: anyBytes, hash: anyBytes }),
      ),
      { minLength: 1, maxLength: 4, selector: ([name]) => name },
    )
    .map((entries) => new Map(entries)),
  inputDerivations: fc
    .array(fc.tuple(anyStorePath(".drv"), fc.uniqueArray(anyName, { maxLength: 3 })), { maxLength: 4 })
    .map((entries) => new Map(entries)),
  inputSources: fc.uniqueArray(anyStorePath(""), { maxLength: 4 }),
  system: anyBytes,
  builder: anyBytes,
  args: fc.array(anyBytes, { maxLength: 4 }),
  env: fc.array(fc.tuple(anyBytes, anyBytes), { maxLength: 6 }).map((entries) => new Map(entries)),
});

function derivation(env: Record<string, string>, output = { path: OUT, hashAlgorithm: "", hash: "" }): Derivation {
  return {
    outputs: new Map([["out", output]]),
    inputDerivations: new Map(),
    inputSources: [],
    system: "x86_64-linux",
    builder: "/bin/sh",
    args: [],
    env: new Map(Object.entries(env).map(([name, value]) => [name, byteStringOfText(value)])),
  };
}

describe("derivation files", () => {
  test("a file is read into its parts and printed with the same bytes", () => {
    const parsed = parseDerivation(utf8(PLAIN));
    expect(parsed.outputs.get("out")).toEqual({ path: OUT, hashAlgorithm: "", hash: "" });
    expect([...parsed.inputDerivations]).toEqual([[INPUT, ["dev", "out"]]]);
    expect(parsed.args).toEqual(["-c", 'echo "hi" > $out\n']);
    expect(derivationReferences(parsed)).toEqual([INPUT, SOURCE]);
    expect(printDerivation(parsed)).toEqual(utf8(PLAIN));
  });

  test("any derivation survives printing and parsing, whatever bytes it holds", () => {
    fc.assert(
      fc.property(anyDerivation, (original) => {
        const bytes = printDerivation(original);
        const parsed = parseDerivation(bytes);
        expect(printDerivation(parsed)).toEqual(bytes);
        expect(new Map(parsed.env)).toEqual(new Map(original.env));
        expect(parsed.args).toEqual(original.args);
      }),
    );
  });

  test("a value that is not UTF-8 keeps its bytes and can be shown", () => {
    const bytes = byteStringOf(Uint8Array.of(0xff, 0x22, 0xc3, 0xa4));
    const parsed = parseDerivation(printDerivation({ ...derivation({}), env: new Map([["odd", bytes]]) }));
    expect(parsed.env.get("odd")).toBe(bytes);
    expect(byteStringText(parsed.env.get("odd") ?? "")).toBe('\ufffd"ä');
  });

  test("a damaged file is refused by the parser's own error, and never read as another derivation", () => {
    const whole = utf8(PLAIN);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.boolean(), (offset, byte, cut) => {
        const damaged = cut ? whole.slice(0, offset) : whole.with(offset, byte);
        try {
          expect(printDerivation(parseDerivation(damaged))).toEqual(damaged);
        } catch (error) {
          if (!(error instanceof DerivationParseError)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(() => parseDerivation(bytes)).toThrow(DerivationParseError);
      }),
    );
  });

  test.each([
    ["outputs that are not sorted", PLAIN.replace('[("out",', `[("z","${OUT}","",""),("out",`), "not sorted"],
    ["an input twice", PLAIN.replace(`["${SOURCE}"]`, `["${SOURCE}","${SOURCE}"]`), "repeats"],
    ["a variable twice", PLAIN.replace('("PATH","/bin")', '("PATH","/bin"),("PATH","/bin")'), "repeats"],
    ["no outputs", PLAIN.replace(`[("out","${OUT}","","")]`, "[]"), "no outputs"],
    ["an input outside of the store", PLAIN.replace(SOURCE, "/etc/passwd"), "no store path"],
    ["an output outside of the store", PLAIN.replace(`("out","${OUT}"`, '("out","/etc/passwd"'), "no store path"],
    ["an input derivation that is none", PLAIN.replace(INPUT, SOURCE), ".drv"],
    ["something behind the end", `${PLAIN}\n`, "follows"],
    ["white space", PLAIN.replace(",[", ", ["), "expected ["],
    ["a needless escape", PLAIN.replace("-c", "\\c"), "escape"],
    ["a raw line break", PLAIN.replace("-c", "\n"), "not escaped"],
    ["an end inside a string", PLAIN.slice(0, 30), "ends inside a string"],
  ])("%s is refused", (_, text, message) => {
    expect(() => parseDerivation(utf8(text))).toThrow(message);
  });

  test("a text of nothing but escapes takes hardly more memory than its bytes", () => {
    const text = PLAIN.replace("hi", "\\n".repeat(8 * 2 ** 20));
    const bytes = utf8(text);
    const before = process.memoryUsage().heapUsed;
    const { args } = parseDerivation(bytes);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(100 * 2 ** 20);
    expect(args[1]).toBe(`echo "${"\n".repeat(8 * 2 ** 20)}" > $out\n`);
  });

  test("outputs of inputs and values of structured attributes that would take far more memory are refused", () => {
    const names = Array.from({ length: 900 }, (_, i) => `"${String(i).padStart(3, "0")}"`).join(",");
    const inputs = Array.from(
      { length: 230 },
      (_, i) => `("/nix/store/${String(i).padStart(32, "0")}-a.drv",[${names}])`,
    );
    const many = PLAIN.replace(`[("${INPUT}",["dev","out"])]`, `[${inputs.join(",")}]`);
    expect(() => parseDerivation(utf8(many))).toThrow("outputs of its inputs are needed");

    const json = (count: number) => `{"a":[${"[],".repeat(count)}0]}`;
    expect(() => derivationFacts(derivation({ __json: json(1_000_000) }))).toThrow("more than 2000000 values");
    expect(derivationFacts(derivation({ __json: json(100_000) })).isFixedOutput).toBe(false);
  });

  test("a dynamic derivation is told from a broken one", () => {
    const text = `DrvWithVersion("xp-dyn-drv",[],[],[],"","",[],[])`;
    expect(() => parseDerivation(utf8(text))).toThrow(expect.objectContaining({ isDynamic: true }));
  });

  test("the path proves the bytes: any change of either is found", async () => {
    const bytes = utf8(PLAIN);
    const references = [INPUT, SOURCE].map((path) => parseStorePath(path) as StorePath);
    const path = await derivationPath("a", bytes, references);
    expect(await verifyDerivationPath(path, bytes)).toBe(true);
    expect(await verifyDerivationPath(path, utf8(PLAIN.replace("hi", "ho")))).toBe(false);
    expect(await verifyDerivationPath(await derivationPath("a", bytes, []), bytes)).toBe(false);
    expect(await verifyDerivationPath(await makeTextPath("a", bytes, references), bytes)).toBe(false);
  });
});

describe("facts for the scheduler", () => {
  test("a plain derivation that says nothing has the defaults of Nix", () => {
    expect(derivationFacts(derivation({ name: "a" }))).toEqual({
      name: "a",
      pname: null,
      system: "x86_64-linux",
      isBuiltin: false,
      requiredSystemFeatures: [],
      preferLocalBuild: false,
      allowSubstitutes: true,
      isFixedOutput: false,
      isContentAddressed: false,
      isDeferred: false,
      isImpure: false,
      timeoutSeconds: null,
      maxSilentSeconds: null,
      outputs: [{ name: "out", path: OUT }],
    });
  });

  test("plain and structured attributes say the same", () => {
    const facts = {
      pname: "p",
      requiredSystemFeatures: ["kvm", "big-parallel"],
      preferLocalBuild: true,
      allowSubstitutes: false,
      timeoutSeconds: 3600,
      maxSilentSeconds: 0,
    };
    const plain = {
      pname: "p",
      requiredSystemFeatures: " kvm  big-parallel\n",
      preferLocalBuild: "1",
      allowSubstitutes: "",
      timeout: "3600",
      maxSilent: "0",
    };
    const structured = {
      pname: "p",
      requiredSystemFeatures: ["kvm", "big-parallel"],
      preferLocalBuild: true,
      allowSubstitutes: false,
      timeout: 3600,
      maxSilent: 0,
    };
    expect(derivationFacts(derivation(plain))).toMatchObject(facts);
    expect(derivationFacts(derivation({ __json: JSON.stringify(structured) }))).toMatchObject(facts);
  });

  test("the kind is read off the outputs", () => {
    const kind = (path: string, hashAlgorithm: string, hash: string) => {
      const facts = derivationFacts(derivation({}, { path, hashAlgorithm, hash }));
      return (["isFixedOutput", "isContentAddressed", "isDeferred", "isImpure"] as const).filter((name) => facts[name]);
    };
    expect(kind(OUT, "", "")).toEqual([]);
    expect(kind(OUT, "r:sha256", "00")).toEqual(["isFixedOutput"]);
    expect(kind("", "r:sha256", "")).toEqual(["isContentAddressed"]);
    expect(kind("", "", "")).toEqual(["isDeferred"]);
    expect(kind("", "r:sha256", "impure")).toEqual(["isImpure"]);
  });

  test("a derivation that names itself nowhere is named after its output", () => {
    expect(derivationFacts(derivation({})).name).toBe("a");
    const output = { path: `/nix/store/${HASH}-multi-1.0-dev`, hashAlgorithm: "", hash: "" };
    const facts = derivationFacts({ ...derivation({}), outputs: new Map([["dev", output]]) });
    expect(facts.name).toBe("multi-1.0");
  });

  test("contradictions and senseless values are refused or left out", () => {
    for (const json of ["[]", "null", "{", "1"]) {
      expect(() => derivationFacts(derivation({ __json: json }))).toThrow(DerivationParseError);
    }
    const outputs = new Map([
      ["out", { path: OUT, hashAlgorithm: "", hash: "" }],
      ["x", { path: "", hashAlgorithm: "r:sha256", hash: "" }],
    ]);
    expect(() => derivationFacts({ ...derivation({}), outputs })).toThrow("different kinds");
    for (const timeout of ["-1", "1.5", "soon", "", "99999999999"]) {
      expect(derivationFacts(derivation({ timeout })).timeoutSeconds).toBeNull();
    }
  });
});
