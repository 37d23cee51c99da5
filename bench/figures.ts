/** What a figure should reach. A ratio is ours divided by the other's. */
export type Aim =
  | { readonly ratioMax: number }
  | { readonly ratioMin: number }
  /** More than the other's, in the figure's unit. */
  | { readonly moreMax: number }
  | { readonly valueMax: number }
  | { readonly valueMin: number }
  | { readonly none: string };

/** One line of the results: medians of `samples` interleaved measurements. */
export interface Figure {
  readonly part: string;
  readonly what: string;
  readonly unit: string;
  readonly ours: number;
  readonly other: { readonly name: string; readonly value: number } | null;
  readonly aim: Aim;
  readonly samples: number;
}

/** What one part of the benchmark found, with the words a reader needs to judge it. */
export interface PartResult {
  readonly figures: readonly Figure[];
  readonly notes: readonly string[];
}

const HEADERS = ["part", "what", "Gradient", "instead", "ratio", "aim", "met"];

/** The figures as a Markdown table with aligned columns. */
export function renderTable(figures: readonly Figure[]): string {
  const rows = [HEADERS, ...figures.map(cellsOf)];
  const widths = HEADERS.map((_, column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  const lines = rows.map(
    (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column] as number)).join(" | ")} |`,
  );
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [lines[0], rule, ...lines.slice(1)].join("\n");
}

/** Null when there is no aim. */
export function isMet({ aim, ours, other }: Figure): boolean | null {
  if ("valueMax" in aim) return ours <= aim.valueMax;
  if ("valueMin" in aim) return ours >= aim.valueMin;
  if ("moreMax" in aim) return other !== null && ours - other.value <= aim.moreMax;
  const ratio = other ? ours / other.value : Number.NaN;
  if ("ratioMax" in aim) return ratio <= aim.ratioMax;
  if ("ratioMin" in aim) return ratio >= aim.ratioMin;
  return null;
}

function cellsOf(figure: Figure): string[] {
  const { part, what, unit, ours, other } = figure;
  const met = isMet(figure);
  return [
    part,
    what,
    `${formatNumber(ours)} ${unit}`,
    other ? `${formatNumber(other.value)} ${unit} (${other.name})` : "",
    other ? `${(ours / other.value).toFixed(2)}x` : "",
    describeAim(figure),
    met === null ? "" : met ? "yes" : "NO",
  ];
}

function describeAim({ aim, unit }: Figure): string {
  if ("ratioMax" in aim) return `at most ${aim.ratioMax}x`;
  if ("ratioMin" in aim) return `at least ${aim.ratioMin}x`;
  if ("moreMax" in aim) return `at most ${formatNumber(aim.moreMax)} ${unit} more`;
  if ("valueMax" in aim) return `at most ${formatNumber(aim.valueMax)} ${unit}`;
  if ("valueMin" in aim) return `at least ${formatNumber(aim.valueMin)} ${unit}`;
  return aim.none;
}

function formatNumber(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { maximumFractionDigits: digits });
}
