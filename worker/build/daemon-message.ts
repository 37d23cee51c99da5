/** Nix 2.8 to 2.26 write "last 10 log lines:", 2.30 and later "Last 25 log lines:"; each line follows behind `>`. */
const REPEATED_LOG = /;?\n *last \d+ log lines?:(?:\n *>[^\n]*)*/i;
const LINES_MAX = 40;

/**
 * What the daemon says about a failed build, without what only repeats or distracts: the last lines of the log (the
 * log has them), how to see the log on the worker, names that the reader knows already, temporary folders.
 */
export function decisiveLines(message: string): string {
  const lines = withoutRepeatedLog(message)
    .replace(/\n *For full logs, run[\s\S]*$/, "")
    .replace(/^(?:error: *)+/i, "")
    // Nix 2.30 and later: a headline, the reason, and which outputs were to be made.
    .replace(/^Cannot build '[^']*'\.\s*\n\s*Reason: */, "")
    .replace(/\n\s*Output paths:(?:\n\s+\/[^\n]*)*/, "")
    .replace(/^builder for '[^']*' /, "builder ")
    .replace(/^building of '[^']*' from in-memory derivation /, "the build ")
    .replace(/ at (['"])[^'"]*\.chroot[^'"]*\1/g, "")
    .trim()
    .split("\n");
  const kept =
    lines.length > LINES_MAX ? [...lines.slice(0, LINES_MAX), `… and ${lines.length - LINES_MAX} more`] : lines;
  return kept.join("\n").replace(/[;:.]$/, "");
}

/** The part of a failure's message that the daemon wrote itself: lines of the builder decide nothing. */
export function withoutRepeatedLog(message: string): string {
  return message.replace(REPEATED_LOG, "");
}
