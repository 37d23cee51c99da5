import fc from "fast-check";
import { expect, test } from "vitest";
import { BADGE_COLORS, type BadgeState, renderBadge } from "./badge.ts";

function widthOf(svg: string): number {
  return Number(/^<svg [^>]*width="(\d+)"/.exec(svg)?.[1]);
}

test("a badge says its label and its state, in the colour of the state", () => {
  for (const state of Object.keys(BADGE_COLORS) as BadgeState[]) {
    const svg = renderBadge({ label: "gradient", state, style: "flat" });
    expect(svg).toContain(`<title>gradient: ${state}</title>`);
    expect(svg).toContain(`>${state}</text>`);
    expect(svg).toContain(`fill="${BADGE_COLORS[state]}"`);
  }
});

test("a badge is as wide as its words, whatever they are written with", () => {
  const width = (label: string) => widthOf(renderBadge({ label, state: "passing", style: "flat" }));
  expect(width("iiii")).toBeLessThan(width("aaaa"));
  expect(width("aaaa")).toBeLessThan(width("WWWW"));
  expect(width("日本")).toBeGreaterThan(width("ab"));
  expect(width("日本")).toBe(width("") + 22);
  expect(width("")).toBeGreaterThan(0);
});

test("a square badge has no round corners and no shade", () => {
  const svg = renderBadge({ label: "x", state: "passing", style: "flat-square" });
  expect(svg).toContain('rx="0"');
  expect(svg).not.toContain("Gradient id");
  expect(renderBadge({ label: "x", state: "passing", style: "flat" })).toContain('rx="3"');
});

test("no label becomes markup, and none breaks the document", () => {
  const nasty = `</text><script>alert("1")</script>&'\0\u0008`;
  const svg = renderBadge({ label: nasty, state: "failing", style: "flat" });
  expect(svg).not.toContain("<script");
  expect(svg).toContain("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;");
  const frame = (label: string) =>
    renderBadge({ label, state: "passing", style: "flat" })
      .replace(/>[^<]*</g, "><")
      .match(/<\/?[a-zA-Z]+/g);
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (label) => {
      expect(frame(label)).toEqual(frame("x"));
      // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
      expect(renderBadge({ label, state: "passing", style: "flat" })).not.toMatch(/[\0-\x08\x0b\x0c\x0e-\x1f]/);
    }),
  );
});
