import { formatAttributePath } from "#core/nix/attribute-pattern.ts";
import type { AttributePath } from "./attribute-order.ts";
import type { Candidate } from "./discover.ts";
import type { InstantiationReport } from "./instantiation-group.ts";

/** Each failing attribute costs a process that says why. After so many, attributes that throw are only counted. */
export const DEATHS_WITH_WORDS_MAX = 64;
const NAMES_SHOWN_MAX = 12;

/** What is wrong with an attribute that is no derivation; null when it is just nothing that was asked for. */
export function describeOther(
  { attribute, isExplicit, isExcluded }: Candidate,
  report: InstantiationReport,
): string | null {
  if (isExcluded) return null;
  if (report.failed === true) {
    return `it does not evaluate; Nix's words are kept for the first ${DEATHS_WITH_WORDS_MAX} failing attributes only`;
  }
  if (!isExplicit) return null;
  if (typeof report.absent === "number") return describeAbsent(attribute, report.absent, report.names as string[]);
  const isSet = report.kind === "set";
  const advice = isSet ? `: to evaluate what is below it, write ${formatAttributePath(attribute)}.*` : "";
  return `it is not a derivation but ${isSet ? "a set" : "something else"}${advice}`;
}

function describeAbsent(attribute: AttributePath, depth: number, names: readonly string[]): string {
  const missing = formatAttributePath(attribute.slice(0, depth + 1));
  const parent = depth === 0 ? "the flake" : formatAttributePath(attribute.slice(0, depth));
  const shown = names.slice(0, NAMES_SHOWN_MAX).map((name) => formatAttributePath([name]));
  const more = names.length > shown.length ? ", …" : "";
  const has = shown.length === 0 ? "has no attributes" : `has: ${shown.join(", ")}${more}`;
  return `attribute ${missing} does not exist; ${parent} ${has}`;
}
