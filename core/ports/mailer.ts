export interface Mail {
  /** The same for every attempt to send one mail, so that whoever receives it twice can tell. */
  readonly id: string;
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

export interface Mailer {
  /**
   * Resolves once a mail server has taken the mail upon itself. Throws `MailRefusedError` when that server will never
   * take it; after any other error it may be tried again.
   */
  send(mail: Mail): Promise<void>;
}

/** The message is the mail server's answer. */
export class MailRefusedError extends Error {
  override readonly name = "MailRefusedError";
}
