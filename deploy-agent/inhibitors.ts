const HOLDERS_MAX = 10;

/**
 * Who blocks a shutdown, by `systemd-inhibit --list --no-legend`: WHO UID USER PID COMM WHAT WHY MODE in columns, of
 * which WHO and WHY may hold spaces. Delays do not block.
 */
export function parseInhibitors(text: string): readonly string[] {
  const holders: string[] = [];
  for (const line of text.split("\n")) {
    const match = /^(.+?)\s+\d+\s+\S+\s+\d+\s+\S+\s+([a-z-]+(?::[a-z-]+)*)\s+(.*?)\s*\bblock$/.exec(line.trim());
    const [, who = "", what = "", why = ""] = match ?? [];
    if (what.split(":").includes("shutdown")) holders.push(why ? `${who} (${why})` : who);
  }
  return holders.slice(0, HOLDERS_MAX);
}
