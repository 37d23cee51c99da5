/** What happened, as an action tells it. */
export interface ActionEvent {
  /** Such as `evaluation.failed`. */
  readonly event: string;
  readonly organization: string;
  readonly project: string;
  /** As the API names it. */
  readonly status: string;
  readonly evaluationId: string;
  /** Null for what happened to the evaluation itself. */
  readonly build: { readonly id: string; readonly derivation: string } | null;
  /** Where people look at it. */
  readonly link: string;
}

const SUBJECT = "[{org}/{project}] {event}";
const SUBJECT_LENGTH_MAX = 200;

/** A mail about it. Words in braces that are not known stay as they are; the subject is one line. */
export function writeActionMail(
  { event, organization, project, status, evaluationId, build, link }: ActionEvent,
  subjectTemplate: string | null,
): { readonly subject: string; readonly text: string; readonly html: string } {
  const words: Readonly<Record<string, string>> = {
    org: organization,
    project,
    event,
    status,
    id: build?.id ?? evaluationId,
    link,
  };
  const subject = (subjectTemplate ?? SUBJECT)
    .replace(/\{([a-z]+)\}/g, (whole, name: string) => (Object.hasOwn(words, name) ? (words[name] ?? whole) : whole))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a subject is one line
    .replace(/[\0-\x1f\x7f]+/g, " ")
    .slice(0, SUBJECT_LENGTH_MAX);
  const lines = [
    `${event} in ${organization}/${project}`,
    `Status: ${status}`,
    build ? `Build: ${build.derivation} (${build.id})` : `Evaluation: ${evaluationId}`,
    link,
  ];
  const html = lines.map((line) => `<p>${line === link ? anchor(link) : escapeHtml(line)}</p>`).join("\n");
  return {
    subject,
    text: `${lines.join("\n\n")}\n`,
    html: `<!doctype html>\n<html><body>\n${html}\n</body></html>\n`,
  };
}

function anchor(link: string): string {
  return `<a href="${escapeHtml(link)}">${escapeHtml(link)}</a>`;
}

function escapeHtml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}
