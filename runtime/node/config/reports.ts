import type { Bytes } from "#core/lib/bytes.ts";
import { utf8 } from "#core/lib/bytes.ts";
import type { EnvironmentReader } from "./reader.ts";

/** What the server tells of itself, and to whom. */
export interface ReportSettings {
  /** What a scraper must present; null: there are no metrics. */
  readonly metricsToken: Bytes | null;
  /** Where errors are reported to; null: nowhere. */
  readonly sentryDsn: string | null;
}

/** `https://<public key>@<host>/<path>/<project>`, as Sentry shows it. */
const DSN_PATH = /^\/(?:[A-Za-z0-9._~-]+\/)*\d{1,20}$/;

export function readReportSettings(reader: EnvironmentReader): ReportSettings {
  return { metricsToken: readMetricsToken(reader), sentryDsn: readSentryDsn(reader) };
}

function readMetricsToken(reader: EnvironmentReader): Bytes | null {
  const name = "GRADIENT_METRICS_TOKEN_FILE";
  const contents = reader.file(name);
  if (!contents) return null;
  const token = new TextDecoder().decode(contents).trim();
  // A header holds neither spaces nor anything beyond ASCII.
  if (/^[!-~]+$/.test(token)) return utf8(token);
  const what = token === "" ? "is empty" : "holds more than one word, or other characters than ASCII";
  reader.problems.push(`${name}: the file ${what}; make a token with: openssl rand -base64 32 > ${reader.text(name)}`);
  return null;
}

/** The address is checked also while nothing is reported: whoever turns reports on finds out before. */
function readSentryDsn(reader: EnvironmentReader): string | null {
  const isReporting = reader.boolean("GRADIENT_REPORT_ERRORS", false);
  const text = reader.text("GRADIENT_SENTRY_DSN");
  if (text === null) {
    if (isReporting) {
      reader.problems.push(
        "GRADIENT_REPORT_ERRORS=true: set GRADIENT_SENTRY_DSN to where reports go; there is no other place for them",
      );
    }
    return null;
  }
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol) || !url.username || url.password || !DSN_PATH.test(url.pathname)) {
    reader.problems.push("GRADIENT_SENTRY_DSN: must look like https://0123456789abcdef@sentry.example.com/42");
    return null;
  }
  return isReporting ? text : null;
}
