/**
 * For what a program reads: a browser that opens it shows it as nothing, loads nothing for it, guesses no type, shows
 * it in no frame, and tells nobody its address, which may hold a token.
 */
export const API_HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};
