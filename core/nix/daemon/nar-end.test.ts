import fc from "fast-check";
import { expect, test } from "vitest";
import { DaemonProtocolError } from "./errors.ts";
import { NarEnd } from "./nar-end.ts";
import { DaemonWriter } from "./writer.ts";

type Tree = Uint8Array | { readonly link: string } | { readonly entries: readonly (readonly [string, Tree])[] };

function writeNode(writer: DaemonWriter, tree: Tree): void {
  writer.text("(").text("type");
  if (tree instanceof Uint8Array) writer.text("regular").text("executable").text("").text("contents").bytes(tree);
  else if ("link" in tree) writer.text("symlink").text("target").text(tree.link);
  else {
    writer.text("directory");
    for (const [name, node] of tree.entries) {
      writer.text("entry").text("(").text("name").text(name).text("node");
      writeNode(writer, node);
      writer.text(")");
    }
  }
  writer.text(")");
}

function narOf(tree: Tree): Uint8Array {
  const writer = new DaemonWriter().text("nix-archive-1");
  writeNode(writer, tree);
  return writer.finish();
}

// Names and contents that look like the NAR's own words are where a careless reader loses its way.
const words = fc.constantFrom("(", ")", "contents", "name", "target", "type", "", "a");
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4 },
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      words.map((text) => new DaemonWriter().text(text).finish()),
    ),
    fc.record({ link: words }),
    fc.record({ entries: fc.array(fc.tuple(words, tie("tree")), { maxLength: 4 }) }),
  ),
}));

test("a NAR ends after its last byte and not before, in whatever pieces it comes", () => {
  fc.assert(
    fc.property(
      tree,
      fc.integer({ min: 1, max: 100 }),
      fc.uint8Array({ maxLength: 20 }),
      (shape, pieceLength, rest) => {
        const nar = narOf(shape);
        const bytes = new Uint8Array([...nar, ...rest]);
        const end = new NarEnd();
        let taken = 0;
        for (let offset = 0; offset < bytes.length && !end.ended; offset += pieceLength) {
          taken += end.push(bytes.subarray(offset, offset + pieceLength));
        }
        expect(end.ended).toBe(true);
        expect(taken).toBe(nar.length);
      },
    ),
  );
});

test("what is no NAR is refused before its claimed lengths are believed", () => {
  expect(() => new NarEnd().push(new DaemonWriter().word(2n ** 40n).finish())).toThrow(DaemonProtocolError);
});
