/** How long it will take, by what builds of the same packages took lately. */
export interface EstimateView {
  /** As likely to be sooner as later. */
  readonly seconds: number;
  /** If every package takes as long as one time in ten. */
  readonly seconds_p90: number;
  readonly open_builds: number;
  /** Those of them whose package was built here before; the others are taken for average. */
  readonly known_builds: number;
}
