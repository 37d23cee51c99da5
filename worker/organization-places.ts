import { chmod, chown, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { EvaluationError } from "./evaluation/errors.ts";
import type { ProcessUser } from "./evaluation/process.ts";
import { makeFolder } from "./folders.ts";

export interface OrganizationPlace {
  /** Repositories, and the evaluator's home. */
  readonly folder: string;
  /** Who evaluates for this organization. Null: the worker's own user. */
  readonly user: ProcessUser | null;
}

export const EVALUATION_FOLDER = "evaluation";

/** Ids that nobody gives to users, containers or services (systemd.io/UIDS-GIDS, "1879048192…2147483647"). */
const FIRST_GROUP = 0x7000_0000;
const GROUPS_MAX = 100_000;

/**
 * Where each organization's evaluations are kept apart. Evaluators of all organizations are one user, but each
 * organization's have a group of their own: its folders are open to that group alone, and the kernel shows memory and
 * environment of a process to those of the same user and group only (ptrace(2), access mode checking).
 */
export class OrganizationPlaces {
  readonly #folder: string;
  readonly #evaluatorUser: ProcessUser | null;
  readonly #places = new Map<string, Promise<OrganizationPlace>>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(dataDir: string, evaluatorUser: ProcessUser | null) {
    this.#folder = join(dataDir, EVALUATION_FOLDER);
    this.#evaluatorUser = evaluatorUser;
  }

  /** Makes it where it is not there. Throws `EvaluationError` and what the file system throws. */
  async of(organization: string): Promise<OrganizationPlace> {
    const known = this.#places.get(organization);
    if (known) return await known;
    // One after the other: two must not get one group.
    const place = this.#last.then(() => this.#make(organization));
    this.#last = place.catch(() => {});
    this.#places.set(organization, place);
    place.catch(() => this.#places.delete(organization));
    return await place;
  }

  async #make(organization: string): Promise<OrganizationPlace> {
    const folder = join(this.#folder, organization);
    const user = this.#evaluatorUser;
    await makeFolder(this.#folder, user === null ? 0o700 : 0o711);
    await makeFolder(folder, 0o700);
    if (user === null) {
      await chmod(folder, 0o700);
      return { folder, user };
    }
    const gid = await this.#giveGroup(folder, organization, user);
    await chmod(folder, 0o710);
    return { folder, user: { uid: user.uid, gid } };
  }

  /** The folder remembers its group. */
  async #giveGroup(folder: string, organization: string, user: ProcessUser): Promise<number> {
    const { uid, gid: had } = await stat(folder);
    if (had >= FIRST_GROUP) return had;
    const names = await readdir(this.#folder);
    const others = names.filter((name) => name !== organization);
    const taken = new Set(await Promise.all(others.map(async (name) => (await stat(join(this.#folder, name))).gid)));
    let group = FIRST_GROUP;
    while (taken.has(group)) group++;
    if (group >= FIRST_GROUP + GROUPS_MAX) throw unusable(`there are more than ${GROUPS_MAX} organizations`);
    try {
      await chown(folder, uid, group);
      return group;
    } catch (error) {
      // A container may have few ids. One organization is alone with the user's own group.
      if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
      if (taken.has(user.gid)) throw unusable("this system has no group for it (a container with few ids?)");
      await chown(folder, uid, user.gid);
      return user.gid;
    }
  }
}

function unusable(why: string): EvaluationError {
  const message = `this worker cannot keep one more organization's evaluations apart: ${why}. Use another worker`;
  return new EvaluationError("evaluator_unusable", message);
}
