export interface WorkState {
  readonly isConnected: boolean;
  readonly isStopping: boolean;
  readonly running: readonly {
    readonly kind: "build" | "evaluation";
    /** Of a build whose result is on its way. */
    readonly builderEnded?: boolean;
  }[];
  /** Behind a relay. */
  readonly workers?: number;
}

/** What a worker is doing, as one line for people. */
export function statusLine({ isConnected, isStopping, running, workers }: WorkState): string {
  const results = running.filter(({ builderEnded }) => builderEnded).length;
  const evaluations = running.filter(({ kind }) => kind === "evaluation").length;
  const work = [
    counted(running.length - evaluations - results, "build"),
    counted(evaluations, "evaluation"),
    results > 0 ? `${counted(results, "result")} on the way to the server` : "",
  ].filter((part) => part !== "");
  const parts = [
    isStopping ? "stopping when what runs is done" : "",
    isConnected ? "connected to a server" : "no server is connected, trying again",
    workers === undefined ? "" : `${counted(workers, "worker") || "no worker"} behind this relay`,
    work.join(", ") || "nothing runs",
  ];
  return parts.filter((part) => part !== "").join("; ");
}

/** Whether nothing is left of a stop but the way of results to the server. */
export function isHandingOver({ isStopping, running }: WorkState): boolean {
  return isStopping && running.length > 0 && running.every(({ builderEnded }) => builderEnded);
}

function counted(count: number, what: string): string {
  return count === 0 ? "" : `${count} ${what}${count === 1 ? "" : "s"}`;
}
