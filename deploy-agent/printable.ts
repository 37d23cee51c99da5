/**
 * Text of others (a server, a command, a unit's name) as it may be printed, kept and sent: it must not steer terminals
 * or look like lines of the agent, and the server takes no NUL.
 */
export function printable(text: string): string {
  return text.toWellFormed().replaceAll(/\p{Cc}+/gu, " ");
}
