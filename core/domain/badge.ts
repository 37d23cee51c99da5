export type BadgeStyle = "flat" | "flat-square";

/** What a badge says, each in its colour. */
export const BADGE_COLORS = {
  unknown: "#9f9f9f",
  queued: "#007ec6",
  fetching: "#007ec6",
  evaluating: "#007ec6",
  building: "#007ec6",
  waiting: "#dfb317",
  aborted: "#dfb317",
  passing: "#4c1",
  partial: "#e8a317",
  failing: "#e05d44",
} as const satisfies Record<string, string>;
export type BadgeState = keyof typeof BADGE_COLORS;

const HEIGHT = 20;
const FONT_SIZE = 11;
const MARGIN = 6;
const LABEL_COLOR = "#555";
/** Units of an em in the table below. */
const EM = 2_048;
/** Advance widths of Verdana for the characters from space to tilde: nothing that draws the image is asked for it. */
const WIDTHS: readonly number[] = [
  ...[720, 806, 940, 1676, 1302, 2204, 1488, 550, 930, 930, 1302, 1676, 745, 930, 745, 930],
  ...[1302, 1302, 1302, 1302, 1302, 1302, 1302, 1302, 1302, 1302, 930, 930, 1676, 1676, 1676, 1117],
  ...[2048, 1400, 1404, 1430, 1578, 1295, 1177, 1588, 1539, 862, 931, 1419, 1140, 1726, 1532, 1612],
  ...[1235, 1612, 1424, 1400, 1262, 1499, 1400, 2025, 1403, 1260, 1403, 930, 930, 930, 1676, 1302],
  ...[1302, 1230, 1276, 1067, 1276, 1220, 720, 1276, 1296, 562, 705, 1212, 562, 1992, 1296, 1243],
  ...[1276, 1276, 874, 1067, 807, 1296, 1212, 1676, 1212, 1212, 1076, 1300, 930, 1300, 1676],
];
const FIRST = 0x20;
/** Letters with marks, Greek and Cyrillic are about as wide as the widest common letters. */
const OTHER_WIDTH = 1_400;
/** Hangul, kana, ideographs, emoji. */
const WIDE_FROM = 0x1100;
const WIDE_WIDTH = 2_048;

/** An SVG image with two halves: what it is about, and how that stands. Whatever the label holds stays text. */
export function renderBadge({
  label,
  state,
  style,
}: {
  readonly label: string;
  readonly state: BadgeState;
  readonly style: BadgeStyle;
}): string {
  const shown = label.replace(NOT_IN_XML, "").toWellFormed();
  const left = halfOf(shown);
  const right = halfOf(state);
  const width = left.width + right.width;
  const title = escapeXml(`${shown}: ${state}`);
  const radius = style === "flat" ? 3 : 0;
  const shade = style === "flat";
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${HEIGHT}" role="img" aria-label="${title}">`,
    `<title>${title}</title>`,
    shade
      ? '<linearGradient id="s" x2="0" y2="100%"><stop offset="0" stop-color="#bbb" stop-opacity=".1"/>' +
        '<stop offset="1" stop-opacity=".1"/></linearGradient>'
      : "",
    `<clipPath id="r"><rect width="${width}" height="${HEIGHT}" rx="${radius}" fill="#fff"/></clipPath>`,
    '<g clip-path="url(#r)">',
    `<rect width="${left.width}" height="${HEIGHT}" fill="${LABEL_COLOR}"/>`,
    `<rect x="${left.width}" width="${right.width}" height="${HEIGHT}" fill="${BADGE_COLORS[state]}"/>`,
    shade ? `<rect width="${width}" height="${HEIGHT}" fill="url(#s)"/>` : "",
    `</g><g fill="#fff" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="${FONT_SIZE}">`,
    drawText(shown, MARGIN, left.text, shade),
    drawText(state, left.width + MARGIN, right.text, shade),
    "</g></svg>",
  ].join("");
}

/** XML 1.0 section 2.2: not even escaped may these stand in a document. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
const NOT_IN_XML = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]/g;

function halfOf(text: string): { readonly text: number; readonly width: number } {
  const width = textWidth(text);
  return { text: width, width: width + 2 * MARGIN };
}

/** In whole pixels; `textLength` makes every font keep to it. */
function textWidth(text: string): number {
  let units = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? FIRST;
    units += WIDTHS[code - FIRST] ?? (code < WIDE_FROM ? OTHER_WIDTH : WIDE_WIDTH);
  }
  return Math.ceil((units * FONT_SIZE) / EM);
}

function drawText(text: string, x: number, width: number, shade: boolean): string {
  const words = escapeXml(text);
  const at = (y: number, extra: string) =>
    `<text x="${x}" y="${y}" textLength="${width}" lengthAdjust="spacingAndGlyphs"${extra}>${words}</text>`;
  return (shade ? at(15, ' fill="#010101" fill-opacity=".3" aria-hidden="true"') : "") + at(14, "");
}

function escapeXml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}
