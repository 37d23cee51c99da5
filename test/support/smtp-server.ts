import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { SMTPServer, type SMTPServerOptions } from "smtp-server";

export interface ReceivedMail {
  readonly from: string;
  readonly to: readonly string[];
  /** As it came, headers and all. */
  readonly text: string;
  readonly secure: boolean;
  /** Who the sender said to be. */
  readonly username: string | undefined;
}

export interface TestSmtpServer extends AsyncDisposable {
  readonly port: number;
  readonly received: ReceivedMail[];
  /** Every user name that came with a password, good or not. */
  readonly attempts: string[];
}

export interface TestSmtpOptions extends Pick<SMTPServerOptions, "secure" | "key" | "cert"> {
  readonly port?: number;
  readonly withoutStartTls?: boolean;
  /** Asked for when given. */
  readonly credentials?: { readonly username: string; readonly password: string };
  /** What a recipient or a mail is answered with instead of being taken; null takes it. */
  readonly refuse?: (recipient: string, stage: "recipient" | "data") => { code: number; words: string } | null;
}

/** A real mail server that keeps what it gets. */
export async function withSmtpServer(options: TestSmtpOptions = {}): Promise<TestSmtpServer> {
  const { credentials, refuse = () => null, port = 0, withoutStartTls = false, ...rest } = options;
  const received: ReceivedMail[] = [];
  const attempts: string[] = [];
  const server = new SMTPServer({
    ...rest,
    logger: false,
    authOptional: credentials === undefined,
    disabledCommands: [...(credentials ? [] : ["AUTH"]), ...(withoutStartTls ? ["STARTTLS"] : [])],
    closeTimeout: 1_000,
    onAuth(auth, _session, done) {
      attempts.push(auth.username ?? "");
      const good = auth.username === credentials?.username && auth.password === credentials?.password;
      return good ? done(null, { user: auth.username }) : done(smtpError(535, "no such user"));
    },
    onRcptTo({ address }, _session, done) {
      const refusal = refuse(address, "recipient");
      done(refusal && smtpError(refusal.code, refusal.words));
    },
    onData(stream, session, done) {
      void text(stream).then((words) => {
        const to = session.envelope.rcptTo.map(({ address }) => address);
        const refusal = refuse(to[0] ?? "", "data");
        if (refusal) return done(smtpError(refusal.code, refusal.words));
        const from = session.envelope.mailFrom ? session.envelope.mailFrom.address : "";
        received.push({ from, to, text: words, secure: session.secure, username: session.user });
        done(null);
      });
    },
  });
  // Clients that turn away from a certificate are part of the tests.
  server.on("error", () => {});
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  return {
    port: (server.server.address() as AddressInfo).port,
    received,
    attempts,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

function smtpError(responseCode: number, words: string): Error {
  return Object.assign(new Error(words), { responseCode });
}
