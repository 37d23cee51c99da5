import type { VerdictView } from "../api/verdicts.ts";

const MESSAGE_LENGTH_MAX = 200;

/** A verdict in one or two sentences, for people, notices and commit statuses. */
export function summarize(verdict: Omit<VerdictView, "summary">): string {
  switch (verdict.result) {
    case "running":
      return verdict.failures_total > 0 ? `It goes on; so far ${causes(verdict)}.` : "It goes on.";
    case "aborted":
      return verdict.failures_total > 0 ? `It was aborted; before that ${causes(verdict)}.` : "It was aborted.";
    case "green":
      return `${greenText(verdict)}.`;
    case "red":
      return redText(verdict);
  }
}

function greenText({ attributes, fixed_total: fixed }: Omit<VerdictView, "summary">): string {
  if (attributes.total === 0) return "Nothing was asked for";
  const all = attributes.total === 1 ? "The one attribute is built" : `All ${attributes.total} attributes are built`;
  return fixed === 0 ? all : `${all}; ${fixed} of them ${fixed === 1 ? "was" : "were"} red before`;
}

function redText(verdict: Omit<VerdictView, "summary">): string {
  const { attributes, errors, failures_total, errors_total } = verdict;
  const whole = errors.find(({ attribute }) => attribute === null);
  if (whole && attributes.red === 0 && failures_total === 0) {
    const line = whole.message.split("\n", 1)[0] ?? "";
    return `It could not be evaluated: ${line.slice(0, MESSAGE_LENGTH_MAX)}`;
  }
  const broken = errors.filter(({ attribute }) => attribute !== null).length > 0;
  const reasons = [
    ...(failures_total > 0 ? [causes(verdict)] : []),
    ...(broken ? [`${count(errors_total, "error")} of the evaluation`] : []),
  ];
  const because = reasons.length > 0 ? `: ${reasons.join(", and ")}` : "";
  const are = attributes.red === 1 ? "is" : "are";
  const red = `${count(attributes.red, "attribute")} of ${attributes.total} ${are} red`;
  return `${red}${standings(verdict)}${because}.`;
}

function standings({ attributes: { red, new_here, red_before } }: Omit<VerdictView, "summary">): string {
  if (new_here === null || red_before === null || red === 0) return "";
  if (red_before === 0) return ", new here";
  if (new_here === 0) return ", as before";
  return `, ${new_here} of them new here`;
}

function causes({ failures, failures_total: total }: Omit<VerdictView, "summary">): string {
  const [first] = failures;
  if (!first) return "builds failed";
  const others = total > 1 ? ` and ${count(total - 1, "other build")}` : "";
  return `${first.name}${others} failed${others ? " by themselves" : " by itself"}`;
}

function count(number: number, word: string): string {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}
