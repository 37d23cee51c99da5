/** What stands in place of a secret. */
export const CENSORED = "[secret]";

/** Each is bounded, so that a hostile text costs no more than a long one. `$1` is what may be shown. */
const SECRETS: readonly RegExp[] = [
  // Parameters of a query: download tokens, sign-in codes, presigned URLs.
  /([?&](?:[a-z_-]{0,30}(?:token|secret|password|signature|credential)|api_?key|key|code|state)=)[^&#"'\s\\]{1,4000}/gi,
  // API keys, as they are issued.
  /\b(GRAD|grd_)[A-Za-z0-9]{32,100}/g,
  // Tokens of actions.
  /\b(gat_)[A-Za-z0-9_-]{20,100}/g,
  // JSON web tokens.
  /\b()eyJ[A-Za-z0-9_-]{8,1000}\.[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,1000}/g,
  /\b((?:bearer|basic) )[A-Za-z0-9+/=._~-]{8,8000}/gi,
  // User names and passwords in addresses.
  /\b([a-z][a-z0-9+.-]{1,20}:\/\/)[^/@:\s"\\]{0,300}:[^/@\s"\\]{1,300}(?=@)/gi,
  // Keys that sign narinfos: 64 bytes behind a name.
  /\b([A-Za-z0-9._-]{1,100}:)[A-Za-z0-9+/]{86}==/g,
  /(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----).{1,5000}?(?=-----END)/gs,
];

/** The text without what looks like a secret. For logs and reports; nobody relies on it who could leave secrets out. */
export function redactText(text: string): string {
  let shown = text;
  for (const pattern of SECRETS) shown = shown.replace(pattern, `$1${CENSORED}`);
  return shown;
}
