/**
 * What a name in a path may be. A `name` is not looked at before it is looked up; of the others, what has another form
 * is refused as `validation`.
 */
export type ParameterForm = "name" | "uuid" | "number" | "hash";

/** What stands in a path, by the name that the route gives it. */
export interface PathParameter {
  readonly description: string;
  readonly form: ParameterForm;
  /** It may stand for several segments. */
  readonly whole?: true;
}

const name = (description: string): PathParameter => ({ description, form: "name" });
const uuid = (description: string): PathParameter => ({ description, form: "uuid" });
const number = (description: string): PathParameter => ({ description, form: "number" });
const hash = (description: string): PathParameter => ({ description, form: "hash" });

export const PATH_PARAMETERS: Readonly<Record<string, PathParameter>> = {
  organization: name("The organization's name."),
  project: name("The project's name."),
  cache: name("The cache's name."),
  user: name("The user's name."),
  evaluation: uuid("The evaluation's id."),
  other: uuid("The id of the evaluation that it is compared with."),
  build: uuid("The build's id, as its evaluation has it."),
  worker: uuid("The worker's id, a UUID of version 4."),
  role: uuid("The role's id."),
  integration: uuid("The integration's id."),
  input: uuid("The flake input's id."),
  host: name("The host's name, as `nixosConfigurations` has it."),
  trigger: uuid("The trigger's id."),
  action: uuid("The action's id."),
  delivery: uuid("The delivery's id."),
  upstream: uuid("The upstream's id, as this cache has it."),
  key: uuid("The key's id."),
  session: uuid("The session's id."),
  request: uuid("The session that the manifest opened."),
  upload: uuid("An id of the client's own making, the same for all parts."),
  job: uuid("The assignment's id."),
  task: uuid("The task's id."),
  commit: hash("The commit's id, which is the first 128 bits of its hash as a UUID, or the hash."),
  pin: name("The pin's name."),
  revision: number("The number of a pin's revision, from 1."),
  path: hash("A store path, with or without `/nix/store/`, or the 32 characters of its hash."),
  hash: hash("The 32 characters of the store path's hash."),
  index: number("The chunk's number, from 0."),
  file: { description: "The file's name, as the list of downloads gives it.", form: "name", whole: true },
};
