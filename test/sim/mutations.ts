/** One line of the product, without the protection in it. */
export interface Mutation {
  readonly what: string;
  readonly file: string;
  /** Stands once in the file. */
  readonly from: string;
  readonly to: string;
}

/** Deliberate mistakes that seeds of the simulation have to notice: docs/decisions/0060-simulation.md says which did. */
export const MUTATIONS: readonly Mutation[] = [];
