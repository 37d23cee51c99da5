/**
 * Wake-ups between loops and servers. They say only "look again": level-triggered, coalesced, sent after the commit.
 * A lost one costs a poll interval, never a job.
 */
export interface Notifier {
  notify(topic: Topic, subject: string): void;
  /** The returned function ends the subscription. Handlers must not throw. */
  subscribe(topic: Topic, handler: (subject: string) => void): () => void;
}

/**
 * - `work`: something became ready to assign, or an assignment must end; the subject is an organization's id.
 * - `evaluation`: an evaluation or one of its builds changed; the subject is the evaluation's id.
 * - `log`: a log grew or ended; the subject is the attempt's id.
 * - `abort`: an attempt was ended from outside; the subject is its id.
 * - `registration`: a worker's registration changed; the subject is `organization id/worker id`.
 * - `path`: a path of a cache changed or went; the subject is `cache id/hash`.
 * - `session`: a session of a worker has opened, and older ones may have ended by that; the subject is the worker's id.
 * - `damage`: a stored NAR was found damaged, or is whole again; the subject is its hash in hexadecimal digits. `all`:
 *   everything that is damaged is to be repaired now.
 * - `task`: an administrative task was asked for or is to end; the subject is its id.
 * - `mail`: a mail waits to be sent. The subject says nothing.
 * - `uses`: a sweep is about to begin: each server writes down which paths it was asked for. The subject says nothing.
 * - `deployment`: what hosts of a project get, or what they told of it, changed; the subject is the project's id.
 * - `missed`: word of other servers may have been lost: everything is to be looked at again. It has no subject.
 */
export type Topic =
  | "work"
  | "evaluation"
  | "log"
  | "abort"
  | "registration"
  | "path"
  | "session"
  | "damage"
  | "task"
  | "mail"
  | "uses"
  | "deployment"
  | "missed";
