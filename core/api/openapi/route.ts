import type * as v from "valibot";
import type { ErrorCode } from "../../errors.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
/** A method and a path below the API's prefix, with names in braces: `GET /orgs/{organization}`. */
export type RouteName = `${Method} /${string}`;

/**
 * Who may ask.
 *
 * - `everybody`: credentials are not looked at.
 * - `reader`: what is public for everybody, more for who may see more.
 * - `user`: who is signed in or has an API key; what they may do there is the permission's matter.
 * - `superuser`: superusers alone.
 */
export type Audience = "everybody" | "reader" | "user" | "superuser";

/** The envelope around a value of one type. The field `message` is never there: it carries the type. */
export interface JsonAnswer<T> {
  readonly as: "json";
  readonly status: 200 | 201 | 202;
  readonly message?: T;
}

/** One value after the other for as long as there are any: a line of JSON each, or a server-sent event each. */
export interface StreamAnswer<T> {
  readonly as: "stream";
  readonly contentType: "application/x-ndjson" | "text/event-stream";
  readonly item?: T;
}

/** Bytes without the envelope. */
export interface FileAnswer {
  readonly as: "file";
  readonly contentType: string;
  /** Where the request asks for that form of it. */
  readonly otherContentType?: string;
}

export interface EmptyAnswer {
  readonly as: "empty";
  readonly status: 204;
}

/** To another address. */
export interface RedirectAnswer {
  readonly as: "redirect";
  readonly status: 302;
}

export type Answer = JsonAnswer<unknown> | StreamAnswer<unknown> | FileAnswer | EmptyAnswer | RedirectAnswer;

/** A body that is no JSON. */
export interface Upload {
  readonly contentType: "multipart/form-data" | "application/octet-stream";
  /** What is sent; for the parts of a form by their names. */
  readonly description: string;
  readonly parts?: Readonly<Record<string, string>>;
}

/** What is promised of one route. The document is written from it, the client takes its types from it. */
export interface RouteSpec {
  /** A few words; the document's headline. */
  readonly summary: string;
  /** What the few words and the schemas do not say. */
  readonly description?: string;
  readonly audience: Audience;
  /** What the actor's role and key must hold; each of them. */
  readonly permissions?: readonly string[];
  readonly query?: v.GenericSchema;
  readonly body?: v.GenericSchema;
  readonly upload?: Upload;
  readonly answer: Answer;
  /** A failure is an answer as good as the other: it comes with the status of success. */
  readonly verdict?: true;
  /** Beside those that follow from the audience, the parameters and the body. */
  readonly errors?: readonly ErrorCode[];
}

/** Routes that belong together, under one heading of the document. */
export interface RouteGroup {
  readonly tag: string;
  readonly description: string;
  readonly routes: Readonly<Record<RouteName, RouteSpec>>;
}

export function json<T>(status: 200 | 201 | 202 = 200): JsonAnswer<T> {
  return { as: "json", status };
}

export function stream<T>(contentType: StreamAnswer<T>["contentType"]): StreamAnswer<T> {
  return { as: "stream", contentType };
}

export function file(contentType: string, otherContentType?: string): FileAnswer {
  return { as: "file", contentType, ...(otherContentType !== undefined && { otherContentType }) };
}

export const EMPTY: EmptyAnswer = { as: "empty", status: 204 };
export const REDIRECT: RedirectAnswer = { as: "redirect", status: 302 };
